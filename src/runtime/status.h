// What an instance tells about itself.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"
#include "metrics/histogram.h"

namespace hulse::runtime {

enum class State { starting, running, retrying, failed, stopped };

inline constexpr State kStates[] = {State::starting, State::running, State::retrying, State::failed,
                                    State::stopped};

inline std::string_view to_string(State state) {
  switch (state) {
    case State::starting: return "starting";
    case State::running: return "running";
    case State::retrying: return "retrying";
    case State::failed: return "failed";
    case State::stopped: return "stopped";
  }
  return "unknown";
}

// received = written + dead_lettered + skipped + returned + in flight. For a source: received from
// the system, written to the topic.
struct Counters {
  uint64_t received = 0;
  uint64_t written = 0;
  uint64_t dead_lettered = 0;
  uint64_t skipped = 0;
  uint64_t returned = 0;
  uint64_t retries = 0;
  uint64_t in_flight = 0;
  uint64_t restarts = 0;
  uint64_t already_stored = 0;  // a part of written: an earlier life had
  uint64_t failures = 0;        // everything that ever stood in Status::failures

  bool operator==(const Counters&) const = default;
};

// What processing has cost since the process began.
struct Latency {
  uint64_t records = 0;
  std::chrono::nanoseconds total{0};  // each record counts the time of its batch

  void add(size_t count, std::chrono::nanoseconds took) {
    records += count;
    total += took * static_cast<int64_t>(count);
  }
  bool operator==(const Latency&) const = default;
  double average_ms() const {
    if (records == 0) return 0;
    return static_cast<double>(total.count()) / 1e6 / static_cast<double>(records);
  }
};

// Of the last minute.
struct Recent {
  uint64_t received = 0;
  uint64_t written = 0;
  uint64_t failures = 0;
  Latency latency;

  bool operator==(const Recent&) const = default;
};

// Something that went wrong: with a record, or with a whole life.
struct Failure {
  std::string text;
  int64_t at_ms = 0;  // milliseconds since 1970
  // Of a record: which, how often it was tried, and what the other side said of it.
  std::string topic = {};
  std::string message_id = {};
  unsigned attempt = 0;
  std::string words = {};

  bool operator==(const Failure&) const = default;
};

// What a sink's subscription still holds, as the broker counts it: what is in flight is part of it.
// Instances that share a subscription (Shared, Key_Shared) each see all of it.
struct Lag {
  uint64_t messages = 0;
  uint64_t bytes = 0;  // about: by the mean size of what came
  int64_t age_ms = 0;  // since the oldest record without an outcome was published; 0: none is

  bool operator==(const Lag& other) const { return messages == other.messages; }
};

// What an instance measures; from the start of the instance on.
struct Meters {
  metrics::Histogram batch_records{metrics::kSizeBounds};     // of one write, or one read
  metrics::Histogram write_seconds{metrics::kSecondsBounds};  // until the last outcome
  // Of failures: what they led to ("retry", "reject", "restart", …) and the kind of error.
  std::map<std::pair<std::string, Code>, uint64_t> failures;
  double records_in = 0;  // a second, lately
  double records_out = 0;
  double bytes_in = 0;
  std::optional<Lag> lag;    // nothing: not known yet, or a source
  double records_limit = 0;  // a second, of this instance; 0: none
  double bytes_limit = 0;
  uint64_t limited_ms = 0;  // waited for that
};

struct Status {
  State state = State::starting;
  std::string reason;  // of retrying and failed
  Counters counters;
  std::deque<Failure> failures;  // the last ten
  int64_t last_received_ms = 0;  // milliseconds since 1970; 0: never
  Meters meters;
  Latency latency;  // of a function
  Recent minute;

  // Whether there is news for others: histograms and the like are none.
  bool operator==(const Status& other) const {
    return state == other.state && reason == other.reason && counters == other.counters &&
           failures == other.failures && last_received_ms == other.last_received_ms &&
           meters.records_in == other.meters.records_in &&
           meters.records_out == other.meters.records_out && meters.lag == other.meters.lag;
  }
};

}  // namespace hulse::runtime

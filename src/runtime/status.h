// What an instance tells about itself.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

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
  uint64_t failures = 0;  // everything that ever stood in Status::failures

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

  bool operator==(const Failure&) const = default;
};

struct Status {
  State state = State::starting;
  std::string reason;  // of retrying and failed
  Counters counters;
  std::deque<Failure> failures;  // the last ten
  int64_t last_received_ms = 0;  // milliseconds since 1970; 0: never
  Latency latency;               // of a function
  Recent minute;

  bool operator==(const Status&) const = default;
};

}  // namespace hulse::runtime

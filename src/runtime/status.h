// What an instance tells about itself.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace hulse::runtime {

enum class State { starting, running, retrying, failed, stopped };

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
};

struct Status {
  State state = State::starting;
  std::string reason;  // of retrying and failed
  Counters counters;
};

}  // namespace hulse::runtime

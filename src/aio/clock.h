// Time. Everything that waits or asks for the time does it here, so that a test can replace time.
#pragma once

#include <boost/asio/basic_waitable_timer.hpp>
#include <chrono>
#include <cstdint>

#include "aio/task.h"

namespace hulse::aio {

// Monotonic. Real time unless a VirtualTime lives.
struct Clock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<Clock>;
  static constexpr bool is_steady = true;
  static time_point now() noexcept;
};

using Duration = Clock::duration;
using TimePoint = Clock::time_point;

// Milliseconds since 1970, for what people and other programs read.
int64_t wall_ms();

// Since this process was started, loading of the program included.
Duration process_age();

// Stops the clock for the whole process; it moves only by advance(). Tests only; one at a time.
class VirtualTime {
 public:
  VirtualTime();
  ~VirtualTime();
  VirtualTime(const VirtualTime&) = delete;
  VirtualTime& operator=(const VirtualTime&) = delete;
  void advance(Duration by);
};

struct TimerTraits {
  static Duration to_wait_duration(Duration duration);
  static Duration to_wait_duration(const TimePoint& at);
};
using Timer = asio::basic_waitable_timer<Clock, TimerTraits, Executor>;

// False when it was cancelled before its time.
Task<bool> sleep(Duration duration);
Task<bool> sleep_until(TimePoint at);

}  // namespace hulse::aio

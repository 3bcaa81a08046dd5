// Event: coroutines of one executor wait until another one says that something changed.
#pragma once

#include "aio/clock.h"
#include "aio/task.h"

namespace hulse::aio {

// Lives on one executor; all members are called there. Use it in a loop over the condition:
//   while (!ready) { const bool woken = co_await event.wait(); if (!woken) co_return; }
class Event {
 public:
  explicit Event(Executor executor) : timer_(executor, TimePoint::max()) {}

  // Wakes everything that waits now.
  void notify();

  // False when the waiting coroutine was cancelled.
  Task<bool> wait();
  // False when it was cancelled or `at` came first.
  Task<bool> wait_until(TimePoint at);
  // Returns only by notify(): for clean-up that has to finish although its coroutine is cancelled.
  Task<void> wait_uncancelled();

 private:
  Timer timer_;
  uint64_t generation_ = 0;
};

}  // namespace hulse::aio

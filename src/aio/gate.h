// Gate: the background work of one object. Everything spawned through it is told to stop and waited
// for by close(); nothing else may be spawned detached (C8).
#pragma once

#include <list>
#include <string>

#include "aio/event.h"
#include "aio/task.h"

namespace boost::asio {
class cancellation_signal;
}

namespace hulse::aio {

// Lives on one executor; all members are called there.
class Gate {
 public:
  explicit Gate(Executor executor);
  ~Gate();  // asserts that close() was awaited if anything was ever spawned
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  // Runs `task` on this gate's executor. Within it cancellation is a value, not an exception:
  // operations end with Code::cancelled. An exception that leaves it is logged as a bug of `name`.
  // Ignored after close() began.
  void spawn(std::string name, Task<void> task);

  bool closing() const { return closing_; }
  size_t running() const { return running_.size(); }

  // Cancels what runs and waits until all of it has ended. Idempotent.
  Task<void> close();
  // Cancels what runs now and what is spawned later, without waiting.
  void cancel();

 private:
  struct Entry;
  Executor executor_;
  std::list<Entry> running_;
  bool closing_ = false;
  Event emptied_;
};

}  // namespace hulse::aio

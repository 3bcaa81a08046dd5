#include "aio/gate.h"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <exception>

#include "base/assert.h"
#include "base/log.h"

namespace hulse::aio {

struct Gate::Entry {
  std::string name;
  asio::cancellation_signal stop;
};

Gate::Gate(Executor executor) : executor_(executor), emptied_(executor) {}
Gate::~Gate() { HULSE_ASSERT(running_.empty(), "a Gate was destroyed while its work runs"); }

namespace {
Task<void> without_exceptions(Task<void> task) {
  co_await asio::this_coro::throw_if_cancelled(false);
  co_await std::move(task);
}
}  // namespace

void Gate::spawn(std::string name, Task<void> task) {
  if (closing_) return;
  const auto entry = running_.emplace(running_.end());
  entry->name = std::move(name);
  asio::co_spawn(
      executor_, without_exceptions(std::move(task)),
      asio::bind_cancellation_slot(entry->stop.slot(), [this, entry](std::exception_ptr failure) {
        if (failure) {
          try {
            std::rethrow_exception(failure);
          } catch (const std::exception& exception) {
            log::error("bug", "{} ended by an exception: {}", entry->name, exception.what());
          }
        }
        running_.erase(entry);
        if (running_.empty()) emptied_.notify();
      }));
}

void Gate::cancel() {
  closing_ = true;
  // A cancelled task may end at once and leave the list: walk a list of pointers that stays.
  std::vector<Entry*> entries;
  for (auto& entry : running_) entries.push_back(&entry);
  for (auto* entry : entries) {
    const bool here = std::any_of(running_.begin(), running_.end(),
                                  [&](const Entry& running) { return &running == entry; });
    if (here) entry->stop.emit(asio::cancellation_type::terminal);
  }
}

Task<void> Gate::close() {
  cancel();
  while (!running_.empty()) co_await emptied_.wait_uncancelled();
}

}  // namespace hulse::aio

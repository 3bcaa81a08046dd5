#include "aio/event.h"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>

namespace hulse::aio {

void Event::notify() {
  ++generation_;
  timer_.cancel();
}

Task<bool> Event::wait() {
  const uint64_t before = generation_;
  co_await timer_.async_wait(as_values);
  co_return generation_ != before;
}

Task<bool> Event::wait_until(TimePoint at) {
  using namespace asio::experimental::awaitable_operators;
  const uint64_t before = generation_;
  co_await (timer_.async_wait(as_values) || sleep_until(at));
  co_return generation_ != before;
}

Task<void> Event::wait_uncancelled() {
  const uint64_t before = generation_;
  while (generation_ == before) {
    co_await timer_.async_wait(
        asio::bind_cancellation_slot(asio::cancellation_slot(), as_values));
  }
}

}  // namespace hulse::aio

#include "aio/event.h"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>

namespace hulse::aio {

namespace {
// A cancellation that came while the coroutine was in something uncancellable (an offload) is only
// remembered: what waits next has to ask, or it would wait for ever.
Task<bool> was_cancelled() {
  const auto state = co_await asio::this_coro::cancellation_state;
  co_return state.cancelled() != asio::cancellation_type::none;
}
}  // namespace

void Event::notify() {
  ++generation_;
  timer_.cancel();
}

Task<bool> Event::wait() {
  const bool stopped = co_await cancelled();
  if (stopped) co_return false;
  const uint64_t before = generation_;
  const bool cancelled = co_await was_cancelled();
  if (cancelled) co_return false;
  co_await timer_.async_wait(as_values);
  co_return generation_ != before;
}

Task<bool> Event::wait_until(TimePoint at) {
  using namespace asio::experimental::awaitable_operators;
  const bool stopped = co_await cancelled();
  if (stopped) co_return false;
  const uint64_t before = generation_;
  const bool cancelled = co_await was_cancelled();
  if (cancelled) co_return false;
  co_await (timer_.async_wait(as_values) || sleep_until(at));
  co_return generation_ != before;
}

Task<void> Event::wait_uncancelled() {
  const uint64_t before = generation_;
  while (generation_ == before) {
    co_await timer_.async_wait(asio::bind_cancellation_slot(asio::cancellation_slot(), as_values));
  }
}

}  // namespace hulse::aio

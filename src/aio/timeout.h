// with_timeout: a bound on anything that waits.
#pragma once

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <string>
#include <utility>
#include <variant>

#include "aio/clock.h"
#include "aio/task.h"

namespace hulse::aio {

namespace detail {

// In a branch of its own cancellation would be an exception; the task knows it as a value.
template <class T>
Task<Result<T>> branch(Task<Result<T>> task) {
  co_await asio::this_coro::throw_if_cancelled(false);
  co_return co_await std::move(task);
}

}  // namespace detail

// Gives the task's result, or Code::timeout after `limit`; the task is cancelled then and its end
// waited for. `what` names the wait in the error: "connecting to 127.0.0.1:6650".
template <class T>
Task<Result<T>> with_timeout(Duration limit, std::string what, Task<Result<T>> task) {
  using namespace asio::experimental::awaitable_operators;
  auto done = co_await (detail::branch(std::move(task)) || sleep(limit));
  if (done.index() == 0) co_return std::get<0>(std::move(done));
  if (!std::get<1>(done)) co_return Error(Code::cancelled, "stopped").with(std::move(what));
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(limit).count();
  co_return Error(Code::timeout, "no answer within " + std::to_string(ms) + " ms")
      .with(std::move(what));
}

}  // namespace hulse::aio

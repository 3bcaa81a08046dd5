// Moving between executors: blocking calls to a thread that may block, and calls into objects of
// another executor.
#pragma once

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <type_traits>
#include <utility>

#include "aio/task.h"

namespace hulse::aio {

// Runs `work`, which may block, on `blocking`'s thread and gives its result on the caller's
// executor. It cannot be interrupted: keep it short. Work captures values (C4).
template <class F>
Task<std::invoke_result_t<F>> offload(Executor blocking, F work) {
  auto run = [](F inner) -> Task<std::invoke_result_t<F>> { co_return inner(); };
  // Without a slot: a cancellation that came before the work began would end it by an exception.
  co_return co_await asio::co_spawn(
      blocking, run(std::move(work)),
      asio::bind_cancellation_slot(asio::cancellation_slot(), use_task));
}

// Awaits `task` on `target` (where the objects it touches live) and comes back. Within it
// cancellation is a value, not an exception, as within a Gate.
template <class T>
Task<T> on(Executor target, Task<T> task) {
  const auto here = co_await asio::this_coro::executor;
  if (here == target) co_return co_await std::move(task);
  auto run = [](Task<T> inner) -> Task<T> {
    co_await asio::this_coro::throw_if_cancelled(false);
    co_return co_await std::move(inner);
  };
  co_return co_await asio::co_spawn(target, run(std::move(task)), use_task);
}

}  // namespace hulse::aio

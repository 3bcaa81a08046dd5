// run: a task from start to end on an event loop of its own, in the calling thread. For tests and
// for commands that do one thing.
#pragma once

#include <boost/asio/co_spawn.hpp>
#include <exception>
#include <optional>
#include <utility>

#include "aio/task.h"

namespace hulse::aio {

template <class T>
T run(Task<T> task) {
  asio::io_context context(1);
  std::exception_ptr failure;
  if constexpr (std::is_void_v<T>) {
    asio::co_spawn(context, std::move(task), [&](std::exception_ptr ended) { failure = ended; });
    context.run();
    if (failure) std::rethrow_exception(failure);
  } else {
    std::optional<T> result;
    asio::co_spawn(context, std::move(task), [&](std::exception_ptr ended, T value) {
      failure = ended;
      if (!ended) result.emplace(std::move(value));
    });
    context.run();
    if (failure) std::rethrow_exception(failure);
    return std::move(result.value());
  }
}

}  // namespace hulse::aio

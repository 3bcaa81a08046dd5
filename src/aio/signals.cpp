#include "aio/signals.h"

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>

#include "base/log.h"

namespace hulse::aio {

Task<int> wait_for_signal() {
  const auto executor = co_await asio::this_coro::executor;
  asio::basic_signal_set<Executor> signals(executor, SIGTERM, SIGINT);
  const auto [error, number] = co_await signals.async_wait(as_values);
  if (error) co_return 0;
  // The stop is bounded; some tools send SIGTERM twice. A second SIGINT, from a hand, ends at once.
  std::signal(SIGTERM, SIG_IGN);
  co_return number;
}

Task<Result<void>> until_signal(Task<Result<void>> task) {
  using namespace asio::experimental::awaitable_operators;
  auto done = co_await (std::move(task) || wait_for_signal());
  if (done.index() == 0) co_return std::get<0>(std::move(done));
  log::info("hulse", "stopped by {}", ::strsignal(std::get<1>(done)));
  co_return Result<void>();
}

}  // namespace hulse::aio

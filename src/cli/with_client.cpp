#include "cli/with_client.h"

#include "aio/run.h"
#include "aio/signals.h"

namespace hulse::cli {

aio::Task<Result<void>> with_client(client::Options options, ClientTask body) {
  co_await aio::asio::this_coro::throw_if_cancelled(false);
  const auto executor = co_await aio::asio::this_coro::executor;
  const std::string url = options.service_url;
  auto client = client::Client::make(executor, std::move(options));
  if (!client) co_return client.error();
  Result<void> result;
  const auto connected = co_await (*client)->connect();
  if (!connected) {
    // Who was refused is told so; who reached nobody, what to do.
    result =
        connected.error().code() == Code::permission
            ? connected.error()
            : Error(Code::unavailable, fmt::format("no broker answers at {} ({}); start one with "
                                                   "`hulse standalone`, or name another with --url",
                                                   url, connected.error().text()));
  } else {
    result = co_await body(**client);
  }
  co_await (*client)->stop();
  co_return result;
}

Result<void> run_with_client(client::Options options, ClientTask body) {
  return aio::run(aio::until_signal(with_client(std::move(options), std::move(body))));
}

}  // namespace hulse::cli

#include "aio/listen.h"

#include <fmt/format.h>

#include <boost/asio/ip/tcp.hpp>

namespace hulse::aio {

using Resolver = asio::ip::basic_resolver<asio::ip::tcp, Executor>;

Task<Result<Endpoint>> resolve(std::string host, uint16_t port) {
  boost::system::error_code error;
  const auto address = asio::ip::make_address(host, error);
  if (!error) co_return Endpoint(address, port);
  const auto executor = co_await asio::this_coro::executor;
  Resolver resolver(executor);
  const auto [failed, found] =
      co_await resolver.async_resolve(host, std::to_string(port), as_values);
  if (failed == asio::error::operation_aborted) co_return to_error(failed);
  if (failed || found.empty()) {
    co_return Error(Code::unavailable,
                    fmt::format("host {} is not known: {}", host, failed.message()));
  }
  // A listener on "localhost" is expected on IPv4 where there is a choice.
  for (const auto& entry : found) {
    if (entry.endpoint().address().is_v4()) co_return entry.endpoint();
  }
  co_return found.begin()->endpoint();
}

Task<Result<Acceptor>> listen(std::string host, uint16_t port) {
  const auto endpoint = co_await resolve(host, port);
  if (!endpoint) co_return endpoint.error();
  const auto executor = co_await asio::this_coro::executor;
  Acceptor acceptor(executor);
  boost::system::error_code error;
  acceptor.open(endpoint->protocol(), error);
  // A restart must not wait for the old connections' TIME_WAIT.
  if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor.bind(*endpoint, error);
  if (!error) acceptor.listen(1024, error);
  if (error) co_return to_error(error).with("listening on " + to_string(*endpoint));
  co_return acceptor;
}

bool accept_may_be_retried(const boost::system::error_code& error) {
  namespace errc = boost::system::errc;
  return error == errc::too_many_files_open || error == errc::too_many_files_open_in_system ||
         error == errc::not_enough_memory || error == errc::no_buffer_space ||
         error == errc::connection_aborted;
}

}  // namespace hulse::aio

#include "aio/task.h"

#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/error.hpp>

namespace hulse::aio {

Error to_error(const boost::system::error_code& error) {
  namespace errc = boost::system::errc;
  if (error == asio::error::operation_aborted) return Error(Code::cancelled, "stopped");
  if (error == errc::address_in_use) return Error(Code::busy, error.message());
  if (error == errc::permission_denied) return Error(Code::permission, error.message());
  if (error == errc::timed_out) return Error(Code::timeout, error.message());
  if (error == asio::error::eof) {
    return Error(Code::unavailable, "the other side closed the connection");
  }
  return Error(Code::unavailable, error.message());
}

Task<bool> cancelled() {
  const auto state = co_await asio::this_coro::cancellation_state;
  co_return state.cancelled() != asio::cancellation_type::none;
}

Task<void> start_cleanup() { co_await asio::this_coro::reset_cancellation_state(); }

std::string to_string(const Endpoint& endpoint) {
  const auto address = endpoint.address().to_string();
  const auto port = std::to_string(endpoint.port());
  return endpoint.address().is_v6() ? "[" + address + "]:" + port : address + ":" + port;
}

}  // namespace hulse::aio

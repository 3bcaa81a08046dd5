// The types every coroutine is written with: Task<T> on an Executor, and tokens that turn an Asio
// operation into a value instead of an exception.
//
// An Executor is one single-threaded event loop (threads.h), so it is also a strand: what lives on
// it needs no lock. Rules C1 to C11 for coroutines: CONTRIBUTING.md.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/error_code.hpp>
#include <string>

#include "base/result.h"

namespace hulse::aio {

namespace asio = boost::asio;

using Executor = asio::io_context::executor_type;

// Lazy, awaited exactly once, never dropped (C11). Ends on the executor it started on.
template <class T = void>
using Task = asio::awaitable<T, Executor>;

inline constexpr asio::use_awaitable_t<Executor> use_task{};
// co_await op(..., as_values) gives (error_code, results...).
inline constexpr auto as_values = asio::as_tuple(asio::use_awaitable_t<Executor>{});

using Socket = asio::basic_stream_socket<asio::ip::tcp, Executor>;
using Acceptor = asio::basic_socket_acceptor<asio::ip::tcp, Executor>;
using Endpoint = asio::ip::tcp::endpoint;

// Asio's error as ours; operation_aborted becomes Code::cancelled.
Error to_error(const boost::system::error_code& error);

// "127.0.0.1:6650"
std::string to_string(const Endpoint& endpoint);

}  // namespace hulse::aio

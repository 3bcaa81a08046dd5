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

// Whether the coroutine that asks was cancelled. A cancellation ends the operation that waits just
// then; one that meets an operation which has already finished is seen only here. Event, sleep and
// the framed reader and writer ask before they wait, so a loop over them always ends. Whoever has
// to wait once more to clean up calls start_cleanup() first.
Task<bool> cancelled();
// From here on the coroutine counts as not cancelled; another cancellation ends its waits again.
Task<void> start_cleanup();

// Asio's error as ours; operation_aborted becomes Code::cancelled.
Error to_error(const boost::system::error_code& error);

// "127.0.0.1:6650"
std::string to_string(const Endpoint& endpoint);

}  // namespace hulse::aio

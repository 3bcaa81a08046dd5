#include "aio/http_server.h"

#include <boost/asio/cancellation_signal.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <exception>
#include <list>

#include "aio/gate.h"
#include "aio/listen.h"
#include "aio/offload.h"
#include "aio/stream.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/text.h"

namespace hulse::aio {

namespace beast = boost::beast;
namespace http = beast::http;

namespace {

// What Beast reads from and writes to: a socket with Beast's time limits, TLS on it if asked for.
class HttpStream {
 public:
  using Plain = beast::basic_stream<asio::ip::tcp, Executor>;
  using executor_type = Executor;

  explicit HttpStream(Socket socket) : plain_(std::move(socket)) {}

  executor_type get_executor() { return plain_.get_executor(); }
  auto& socket() { return plain_.socket(); }
  void expires_after(Duration time) { plain_.expires_after(time); }
  void expires_never() { plain_.expires_never(); }
  void cancel() { plain_.cancel(); }

  Task<bool> accept_tls(TlsContext context) {
    context_ = std::move(context);
    tls_.emplace(plain_, *context_);
    const auto [error] = co_await tls_->async_handshake(asio::ssl::stream_base::server, as_values);
    if (error) {
      boost::system::error_code gone;
      const auto peer = plain_.socket().remote_endpoint(gone);
      log::info("http", "TLS handshake with {}: {}", gone ? "somebody who left" : to_string(peer),
                error.message());
    }
    co_return !error;
  }
  bool secure() const { return tls_.has_value(); }
  std::string peer_common_name() {
    return tls_ ? common_name_of_peer(tls_->native_handle()) : std::string();
  }

  template <class Buffers, class Token>
  auto async_read_some(const Buffers& buffers, Token&& token) {
    return tls_ ? tls_->async_read_some(buffers, std::forward<Token>(token))
                : plain_.async_read_some(buffers, std::forward<Token>(token));
  }
  template <class Buffers, class Token>
  auto async_write_some(const Buffers& buffers, Token&& token) {
    return tls_ ? tls_->async_write_some(buffers, std::forward<Token>(token))
                : plain_.async_write_some(buffers, std::forward<Token>(token));
  }

 private:
  Plain plain_;
  TlsContext context_;
  std::optional<asio::ssl::stream<Plain&>> tls_;
};

using Parser = http::request_parser<http::string_body>;

// After a refusal the client may still be sending: it reads our answer only if we do not reset the
// connection, so what it sends is thrown away for a while.
constexpr Duration kDrainTime = std::chrono::seconds(2);
constexpr Duration kLastWriteTime = std::chrono::seconds(1);
constexpr size_t kDrainBytesMax = 64 * 1024 * 1024;

HttpResponse refusal(unsigned status, std::string text) {
  HttpResponse response;
  response.status = status;
  response.body = std::move(text) + "\n";
  return response;
}

HttpRequest to_request(Parser& parser, std::string peer, HttpStream& stream) {
  auto message = parser.release();
  HttpRequest request;
  request.method = std::string(message.method_string());
  request.target = std::string(message.target());
  for (const auto& field : message) {
    request.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  }
  request.body = std::move(message.body());
  request.peer = std::move(peer);
  request.secure = stream.secure();
  request.peer_common_name = stream.peer_common_name();
  return request;
}

http::response<http::string_body> to_message(HttpResponse response, unsigned version,
                                             bool keep_alive) {
  http::response<http::string_body> message(http::int_to_status(response.status), version);
  message.result(response.status);
  message.set(http::field::server, "hulse");
  if (!response.body.empty()) message.set(http::field::content_type, response.content_type);
  for (const auto& [name, value] : response.headers) message.insert(name, value);
  message.body() = std::move(response.body);
  message.keep_alive(keep_alive);
  message.prepare_payload();
  return message;
}

// What a request that could not be read is answered with; nothing for a client that went away.
std::optional<HttpResponse> answer_to(const boost::system::error_code& error,
                                      size_t body_bytes_max) {
  if (error == http::error::body_limit) {
    return refusal(413, fmt::format("the body is larger than the {} bytes that are accepted here",
                                    body_bytes_max));
  }
  if (error == http::error::header_limit) return refusal(431, "the request's head is too large");
  if (error == boost::system::errc::not_enough_memory) {
    auto busy = refusal(503, "as many requests as fit are being worked on; try again");
    busy.headers.emplace_back("Retry-After", "1");
    return busy;
  }
  // Beast closes the socket of a request that takes too long to arrive: nobody is left to answer.
  if (error == beast::error::timeout) return std::nullopt;
  if (error == http::error::end_of_stream || error == http::error::partial_message)
    return std::nullopt;
  if (error.category() == http::make_error_code(http::error::bad_target).category()) {
    return refusal(400, "not an HTTP request: " + error.message());
  }
  return std::nullopt;
}

Task<void> drain(HttpStream& stream) {
  beast::error_code error;
  stream.socket().shutdown(asio::socket_base::shutdown_send, error);
  stream.expires_after(kDrainTime);
  std::vector<char> junk(64 * 1024);
  size_t total = 0;
  while (!error && total < kDrainBytesMax) {
    const auto buffer = asio::buffer(junk);
    const auto [failed, count] = co_await stream.async_read_some(buffer, as_values);
    if (failed) co_return;
    total += count;
  }
}

}  // namespace

std::string_view find_header(const HttpHeaders& headers, std::string_view name) {
  for (const auto& [key, value] : headers) {
    if (beast::iequals(key, name)) return value;
  }
  return {};
}

std::string_view HttpRequest::path() const {
  return std::string_view(target).substr(0, target.find('?'));
}

std::string_view HttpRequest::query() const {
  const size_t at = target.find('?');
  return at == std::string::npos ? std::string_view() : std::string_view(target).substr(at + 1);
}

// The connections of one executor. All members belong to it.
struct HttpServer::Worker {
  explicit Worker(Executor where) : executor(where), gate(where), changed(where) {}

  Executor executor;
  Gate gate;
  Event changed;  // a connection ended
  std::list<HttpStream*>
      waiting;      // connections between two requests: nothing is lost by ending them
  size_t busy = 0;  // connections with a request
  bool stopping = false;
};

// A share of the bytes that all bodies together may take.
class Reservation {
 public:
  explicit Reservation(std::atomic<size_t>& total) : total_(total) {}
  ~Reservation() { total_ -= bytes_; }
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;
  // A single request passes whatever its size when nothing else is there.
  bool take(size_t bytes, size_t most) {
    const size_t before = total_.fetch_add(bytes);
    const bool fits = before == 0 || before + bytes <= most;
    if (fits) {
      bytes_ = bytes;
    } else {
      total_ -= bytes;
    }
    return fits;
  }

 private:
  std::atomic<size_t>& total_;
  size_t bytes_ = 0;
};

struct HttpServer::State {
  State(HttpServerOptions given, HttpHandler answer, Acceptor listener, Executor home)
      : options(std::move(given)),
        handler(std::move(answer)),
        acceptor(std::move(listener)),
        executor(home),
        gate(home) {}

  HttpServerOptions options;
  HttpHandler handler;
  std::atomic<size_t> bodies_bytes{0};
  Acceptor acceptor;
  Executor executor;
  Gate gate;  // the accepting
  Endpoint endpoint;
  std::vector<std::unique_ptr<Worker>> workers;
  std::atomic<size_t> connections{0};

  Task<HttpResponse> handle(HttpRequest request) {
    std::string failure;
    try {
      co_return co_await handler(std::move(request));
    } catch (const std::exception& exception) {
      failure = exception.what();
    }
    log::error("bug", "an HTTP handler ended by an exception: {}", failure);
    co_return refusal(500, "internal error; the log says more");
  }

  size_t body_bytes_max(const Parser& parser) const {
    if (!options.body_bytes_max_of) return options.body_bytes_max;
    const auto target = parser.get().target();
    return options.body_bytes_max_of({target.data(), target.size()});
  }

  // Reads one request into `parser`; the answer to give instead when it cannot be taken.
  Task<boost::system::error_code> read(Worker& worker, HttpStream& stream,
                                       beast::flat_buffer& buffer, Parser& parser,
                                       Reservation& reservation) {
    stream.expires_after(options.head_time_max);
    const auto [bad_head, head_bytes] =
        co_await http::async_read_header(stream, buffer, parser, as_values);
    if (bad_head) co_return bad_head;
    const auto length = parser.content_length();
    const size_t most = body_bytes_max(parser);
    parser.body_limit(most);
    if (length && *length > most) {
      co_return http::make_error_code(http::error::body_limit);
    }
    // Of a body without a length the largest one is expected.
    const size_t expected = length ? static_cast<size_t>(*length) : parser.is_done() ? 0 : most;
    if (!reservation.take(expected, options.bodies_bytes_max)) {
      co_return boost::system::errc::make_error_code(boost::system::errc::not_enough_memory);
    }
    if (beast::iequals(parser.get()[http::field::expect], "100-continue")) {
      http::response<http::empty_body> go_on(http::status::continue_, parser.get().version());
      const auto [failed, count] = co_await http::async_write(stream, go_on, as_values);
      if (failed) co_return failed;
    }
    // A cancellation that met a finished operation is told by nobody else.
    if (worker.gate.closing()) co_return asio::error::operation_aborted;
    if (!parser.is_done()) {
      stream.expires_after(options.body_time_max);
      const auto [bad_body, body_bytes] =
          co_await http::async_read(stream, buffer, parser, as_values);
      if (bad_body) co_return bad_body;
    }
    co_return boost::system::error_code();
  }

  Task<bool> write(Worker& worker, HttpStream& stream, HttpResponse response, unsigned version,
                   bool head, bool keep_alive) {
    auto message = to_message(std::move(response), version, keep_alive);
    // The handler was cancelled at a stop: its answer goes out if the client takes it now.
    stream.expires_after(worker.gate.closing() ? kLastWriteTime : options.write_time_max);
    if (head) {
      // A HEAD is answered with the length the body would have, but without it.
      http::response_serializer<http::string_body> serializer(message);
      const auto [failed, count] = co_await http::async_write_header(stream, serializer, as_values);
      co_return !failed && keep_alive;
    }
    const auto [failed, count] = co_await http::async_write(stream, message, as_values);
    co_return !failed && keep_alive;
  }

  // False when the connection ends before the next request.
  Task<bool> wait_for_request(Worker& worker, HttpStream& stream, beast::flat_buffer& buffer) {
    if (buffer.size() > 0) co_return !worker.stopping;
    if (worker.stopping) co_return false;
    stream.expires_after(options.idle_time_max);
    const auto place = worker.waiting.insert(worker.waiting.end(), &stream);
    const auto space = buffer.prepare(4096);
    const auto [failed, count] = co_await stream.async_read_some(space, as_values);
    worker.waiting.erase(place);
    buffer.commit(count);
    co_return !failed;
  }

  Task<void> serve(Worker& worker, HttpStream& stream) {
    boost::system::error_code error;
    const auto remote = stream.socket().remote_endpoint(error);
    if (error) co_return;
    const std::string peer = to_string(remote);
    stream.socket().set_option(asio::ip::tcp::no_delay(true), error);
    beast::flat_buffer buffer(options.head_bytes_max + 128 * 1024);
    for (;;) {
      const bool begun = co_await wait_for_request(worker, stream, buffer);
      if (!begun) co_return;
      ++worker.busy;
      const bool more = co_await one_request(worker, stream, buffer, peer);
      --worker.busy;
      worker.changed.notify();
      if (!more) co_return;
    }
  }

  Task<bool> one_request(Worker& worker, HttpStream& stream, beast::flat_buffer& buffer,
                         std::string peer) {
    Parser parser;
    parser.header_limit(static_cast<uint32_t>(options.head_bytes_max));
    parser.body_limit(boost::none);  // until the head has told which one holds
    Reservation reservation(bodies_bytes);
    const auto error = co_await read(worker, stream, buffer, parser, reservation);
    if (error) {
      auto refused = answer_to(error, body_bytes_max(parser));
      if (!refused) co_return false;
      log::info("http", "{} from {}: {}", refused->status, peer, error.message());
      co_await write(worker, stream, std::move(*refused), 11, false, false);
      co_await drain(stream);
      co_return false;
    }
    const unsigned version = parser.get().version();
    const bool head = parser.get().method() == http::verb::head;
    const bool keep_alive = parser.get().keep_alive();
    auto request = to_request(parser, std::move(peer), stream);
    stream.expires_never();
    auto response = co_await handle(std::move(request));
    const bool stay = keep_alive && !worker.stopping;
    const bool more = co_await write(worker, stream, std::move(response), version, head, stay);
    co_return more;
  }

  static Task<void> run_connection(std::shared_ptr<State> state, Worker& worker, Socket socket,
                                   TlsContext tls) {
    {
      HttpStream stream(std::move(socket));
      bool ready = true;
      if (tls) {
        stream.expires_after(state->options.head_time_max);
        ready = co_await stream.accept_tls(std::move(tls));
      }
      if (ready) co_await state->serve(worker, stream);
      boost::system::error_code ignored;
      stream.socket().shutdown(asio::socket_base::shutdown_both, ignored);
    }
    state->connections -= 1;
  }

  static Task<void> stop_worker(Worker& worker, Duration grace) {
    worker.stopping = true;
    for (auto* stream : worker.waiting) stream->cancel();
    const auto limit = Clock::now() + grace;
    while (worker.busy > 0 && Clock::now() < limit) {
      const bool woken = co_await worker.changed.wait_until(limit);
      if (!woken) break;
    }
    co_await worker.gate.close();
  }
};

HttpServer::HttpServer(std::shared_ptr<State> state) : state_(std::move(state)) {}
HttpServer::~HttpServer() {
  HULSE_ASSERT(!state_->acceptor.is_open(), "an HttpServer was not stopped");
}

Endpoint HttpServer::endpoint() const { return state_->endpoint; }

Task<Result<std::unique_ptr<HttpServer>>> HttpServer::start(HttpServerOptions options,
                                                            HttpHandler handler) {
  const auto executor = co_await asio::this_coro::executor;
  auto acceptor = co_await listen(options.host, options.port);
  if (!acceptor) co_return std::move(acceptor).error();
  auto state = std::make_shared<State>(std::move(options), std::move(handler), std::move(*acceptor),
                                       executor);
  boost::system::error_code error;
  state->endpoint = state->acceptor.local_endpoint(error);
  if (error) co_return to_error(error);
  for (const auto& worker : state->options.workers) {
    state->workers.push_back(std::make_unique<Worker>(worker));
  }
  if (state->workers.empty()) state->workers.push_back(std::make_unique<Worker>(executor));
  state->gate.spawn("HTTP accept", accept(state));
  co_return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

Task<void> HttpServer::accept(std::shared_ptr<State> state) {
  constexpr Duration kPause = std::chrono::milliseconds(50);
  for (size_t turn = 0;; ++turn) {
    while (state->connections >= state->options.connections_max) {
      const bool slept = co_await sleep(kPause);
      if (!slept) co_return;
    }
    Worker& worker = *state->workers[turn % state->workers.size()];
    auto [error, socket] = co_await state->acceptor.async_accept(worker.executor, as_values);
    if (error == asio::error::operation_aborted || state->gate.closing()) co_return;
    if (error) {
      if (!accept_may_be_retried(error)) {
        log::error("http", "{} takes no more connections: {}", to_string(state->endpoint),
                   error.message());
        co_return;
      }
      const bool slept = co_await sleep(kPause);
      if (!slept) co_return;
      continue;
    }
    TlsContext tls;
    if (state->options.tls) tls = co_await state->options.tls->context();
    if (state->gate.closing()) co_return;
    state->connections += 1;
    // The gate belongs to the worker's executor.
    asio::post(worker.executor, [state, &worker, tls, taken = std::move(socket)]() mutable {
      if (worker.stopping || worker.gate.closing()) {
        state->connections -= 1;
        return;
      }
      worker.gate.spawn("HTTP connection",
                        State::run_connection(state, worker, std::move(taken), tls));
    });
  }
}

Task<void> HttpServer::stop(Duration grace) {
  const auto state = state_;
  boost::system::error_code ignored;
  state->acceptor.close(ignored);
  co_await state->gate.close();
  for (const auto& worker : state->workers) {
    co_await on(worker->executor, State::stop_worker(*worker, grace));
  }
}

}  // namespace hulse::aio

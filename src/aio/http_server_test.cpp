#include "aio/http_server.h"

#include <gtest/gtest.h>

#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>

#include "aio/gate.h"
#include "aio/listen.h"
#include "aio/run.h"
#include "aio/threads.h"
#include "aio/timeout.h"

namespace hulse::aio {
namespace {

using namespace std::chrono_literals;

// A bare client: what it sends is written out in each test.
class Client {
 public:
  explicit Client(Executor executor) : socket_(executor) {}
  Task<bool> connect(Endpoint endpoint) {
    const auto [error] = co_await socket_.async_connect(endpoint, as_values);
    co_return !error;
  }
  Task<void> send(std::string text) {
    const auto buffer = asio::buffer(text);
    co_await asio::async_write(socket_, buffer, as_values);
  }
  // Head and, as its length says, body of one response; what came until the end if it is cut short.
  Task<std::string> response() {
    const auto buffer = asio::dynamic_buffer(pending_);
    const auto [error, head] =
        co_await asio::async_read_until(socket_, buffer, "\r\n\r\n", as_values);
    if (error) co_return std::exchange(pending_, {});
    size_t length = 0;
    const auto at = pending_.find("Content-Length: ");
    if (at != std::string::npos && at < head) length = std::stoul(pending_.substr(at + 16));
    if (pending_.size() < head + length) {
      const auto rest = asio::dynamic_buffer(pending_);
      const auto missing = asio::transfer_at_least(head + length - pending_.size());
      co_await asio::async_read(socket_, rest, missing, as_values);
    }
    auto out = pending_.substr(0, head + length);
    pending_.erase(0, head + length);
    co_return out;
  }
  Task<std::string> ask(std::string text) {
    co_await send(std::move(text));
    auto answer = co_await response();
    co_return answer;
  }
  // Everything until the server closes.
  Task<std::string> rest() {
    const auto buffer = asio::dynamic_buffer(pending_);
    co_await asio::async_read(socket_, buffer, as_values);
    co_return std::exchange(pending_, {});
  }

 private:
  Socket socket_;
  std::string pending_;
};

Task<HttpResponse> echo(HttpRequest request) {
  HttpResponse response;
  if (request.path() == "/slow") {
    const bool slept = co_await sleep(10s);
    response.status = slept ? 200 : 503;
    response.body = slept ? "late" : "stopping";
    co_return response;
  }
  if (request.path() == "/short") co_await sleep(50ms);
  if (request.path() == "/throw") throw std::runtime_error("a bug");
  response.body = request.method + " " + std::string(request.path()) + " " +
                  std::string(request.query()) + " " +
                  std::string(find_header(request.headers, "x-a")) + " " + request.body;
  response.headers.emplace_back("X-B", "b");
  co_return response;
}

using Server = std::unique_ptr<HttpServer>;
Task<Server> serve(HttpServerOptions options) {
  auto server = co_await HttpServer::start(std::move(options), echo);
  co_return std::move(server.value());
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

Task<void> plain_requests() {
  const auto executor = co_await asio::this_coro::executor;
  HttpServerOptions options;
  auto server = co_await serve(options);
  Client client(executor);
  co_await client.connect(server->endpoint());
  auto got = co_await client.ask("GET /a/b?x=1 HTTP/1.1\r\nHost: h\r\nX-A: v\r\n\r\n");
  EXPECT_TRUE(got.starts_with("HTTP/1.1 200 OK\r\n")) << got;
  EXPECT_TRUE(has(got, "X-B: b\r\n")) << got;
  EXPECT_TRUE(got.ends_with("\r\n\r\nGET /a/b x=1 v ")) << got;

  // The same connection; two at once; a chunked one; one that asks before it sends.
  got = co_await client.ask(
      "POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
      "POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\ndef");
  EXPECT_TRUE(got.ends_with("POST /1   abc")) << got;
  got = co_await client.response();
  EXPECT_TRUE(got.ends_with("POST /2   def")) << got;
  got = co_await client.ask(
      "PUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "
      "chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
  EXPECT_TRUE(got.ends_with("PUT /c   abcde")) << got;
  got = co_await client.ask(
      "POST /e HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_TRUE(got.starts_with("HTTP/1.1 100 ")) << got;
  got = co_await client.ask("hi");
  EXPECT_TRUE(got.ends_with("POST /e   hi")) << got;
  got = co_await client.ask("GET /throw HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_TRUE(got.starts_with("HTTP/1.1 500 ")) << got;
  EXPECT_FALSE(has(got, "a bug")) << got;

  co_await client.send("GET /last HTTP/1.0\r\n\r\n");
  got = co_await client.rest();
  EXPECT_TRUE(got.ends_with("GET /last   ")) << got;
  co_await server->stop(1s);
}
TEST(HttpServer, AnswersRequests) { run(plain_requests()); }

Task<void> many_bodies() {
  const auto executor = co_await asio::this_coro::executor;
  HttpServerOptions options;
  options.body_bytes_max = 1000;
  options.bodies_bytes_max = 1500;
  auto server = co_await serve(options);
  Client first(executor);
  co_await first.connect(server->endpoint());
  // Announced, and so reserved; 100 Continue tells that it is.
  co_await first.send(
      "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\nExpect: 100-continue\r\n\r\n");
  const auto go_on = co_await first.response();
  EXPECT_TRUE(has(go_on, "100 Continue")) << go_on;
  Client second(executor);
  co_await second.connect(server->endpoint());
  const auto busy =
      co_await second.ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\n");
  EXPECT_TRUE(has(busy, "503")) << busy;
  EXPECT_TRUE(has(busy, "Retry-After")) << busy;
  co_await first.send(std::string(900, 'x'));
  const auto answered = co_await first.response();
  EXPECT_TRUE(has(answered, "200")) << answered;
  Client third(executor);
  co_await third.connect(server->endpoint());
  const auto again = co_await third.ask(
      "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\n" + std::string(900, 'y'));
  EXPECT_TRUE(has(again, "200")) << again;
  co_await server->stop(1s);
}
TEST(HttpServer, AllBodiesTogetherAreBounded) { run(many_bodies()); }

Task<void> refused_requests() {
  const auto executor = co_await asio::this_coro::executor;
  HttpServerOptions options;
  options.body_bytes_max = 1000;
  options.head_time_max = 50ms;
  options.body_time_max = 50ms;
  options.idle_time_max = 100ms;
  auto server = co_await serve(options);
  const auto ask = [&](std::string text) -> Task<std::string> {
    Client client(executor);
    co_await client.connect(server->endpoint());
    co_await client.send(std::move(text));
    auto got = co_await client.rest();
    co_return got;
  };
  auto got = co_await ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n" +
                          std::string(1001, 'x'));
  EXPECT_TRUE(got.starts_with("HTTP/1.1 413 ")) << got;
  EXPECT_TRUE(has(got, "Connection: close\r\n")) << got;
  got = co_await ask("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" +
                     std::string(1001, 'x') + "\r\n0\r\n\r\n");
  EXPECT_TRUE(got.starts_with("HTTP/1.1 413 ")) << got;
  got = co_await ask(
      "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_TRUE(got.starts_with("HTTP/1.1 413 ")) << got;
  got = co_await ask("GET / HTTP/1.1\r\nX: " + std::string(20000, 'x') + "\r\n\r\n");
  EXPECT_TRUE(got.starts_with("HTTP/1.1 431 ")) << got;
  got = co_await ask("nonsense\r\n\r\n");
  EXPECT_TRUE(got.starts_with("HTTP/1.1 400 ")) << got;
  // Slow ones are closed.
  got = co_await ask("GET / HTTP/1.1\r\nHost:");
  EXPECT_EQ(got, "");
  got = co_await ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(got, "");
  got = co_await ask("");  // idle
  EXPECT_EQ(got, "");
  co_await server->stop(1s);
}
TEST(HttpServer, RefusesWhatIsTooLargeOrTooSlow) { run(refused_requests()); }

Task<void> stopping() {
  const auto executor = co_await asio::this_coro::executor;
  HttpServerOptions options;
  auto server = co_await serve(options);
  Client idle(executor);
  Client quick(executor);
  Client slow(executor);
  for (auto* client : {&idle, &quick, &slow}) co_await client->connect(server->endpoint());
  co_await quick.send("GET /short HTTP/1.1\r\nHost: h\r\n\r\n");
  co_await slow.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n");
  co_await sleep(20ms);
  const auto start = Clock::now();
  co_await server->stop(300ms);
  EXPECT_LT(Clock::now() - start, 2s);
  auto got = co_await quick.rest();
  EXPECT_TRUE(got.starts_with("HTTP/1.1 200 ")) << got;
  EXPECT_TRUE(has(got, "Connection: close\r\n")) << got;
  got = co_await slow.rest();
  EXPECT_TRUE(got.starts_with("HTTP/1.1 503 ")) << got;
  got = co_await idle.rest();
  EXPECT_EQ(got, "");
  Client late(executor);
  const bool connected = co_await late.connect(server->endpoint());
  EXPECT_FALSE(connected);
}
TEST(HttpServer, StopLetsRunningRequestsEndForAWhile) { run(stopping()); }

Task<void> taken_ports() {
  HttpServerOptions options;
  auto server = co_await serve(options);
  options.port = server->endpoint().port();
  const auto second = co_await HttpServer::start(options, echo);
  EXPECT_TRUE(second.has_error());
  if (second.has_error()) {
    EXPECT_EQ(second.error().code(), Code::busy);
    EXPECT_EQ(second.error().text(), "listening on 127.0.0.1:" + std::to_string(options.port) +
                                         ": Address already in use");
  }
  options.host = "no.such.host.invalid";
  const auto third = co_await HttpServer::start(options, echo);
  EXPECT_TRUE(third.has_error());
  co_await server->stop(1s);
}
TEST(HttpServer, SaysWhyItCannotListen) { run(taken_ports()); }

Task<void> many_workers(Threads& threads) {
  const auto executor = co_await asio::this_coro::executor;
  HttpServerOptions options;
  for (size_t i = 0; i < threads.size(); ++i) options.workers.push_back(threads.at(i));
  options.connections_max = 4;
  auto server = co_await serve(options);
  for (int i = 0; i < 20; ++i) {
    Client client(executor);
    co_await client.connect(server->endpoint());
    const auto got =
        co_await client.ask("GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: h\r\n\r\n");
    EXPECT_TRUE(has(got, "GET /" + std::to_string(i))) << got;
  }
  co_await server->stop(1s);
}
TEST(HttpServer, SpreadsConnectionsOverWorkers) {
  Threads threads("http", 3);
  run(many_workers(threads));
}

}  // namespace
}  // namespace hulse::aio

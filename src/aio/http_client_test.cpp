#include "aio/http_client.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include "aio/gate.h"
#include "aio/listen.h"
#include "aio/run.h"
#include "aio/timeout.h"

namespace hulse::aio {
namespace {

using namespace std::chrono_literals;

std::string gunzipped(const std::string& data) {
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, 15 + 16), Z_OK);
  std::string out(1 << 20, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  inflateEnd(&stream);
  return out;
}

Task<HttpResponse> answer(HttpRequest request) {
  HttpResponse response;
  if (request.path() == "/slow") co_await sleep(5s);
  if (request.path() == "/missing") response.status = 404;
  if (request.path() == "/large") response.body = std::string(1'000'000, 'x');
  if (request.path() == "/gzip") request.body = gunzipped(request.body);
  if (response.body.empty()) {
    response.body = request.method + " " + request.target + " " +
                    std::string(find_header(request.headers, "x-a")) + " " + request.body;
  }
  response.headers.emplace_back("X-Peer", request.peer);
  co_return response;
}

struct Pair {
  std::unique_ptr<HttpServer> server;
  std::unique_ptr<HttpClient> client;
  std::string url;
};
Task<Pair> make_pair(HttpClientOptions options) {
  Pair pair;
  const auto executor = co_await asio::this_coro::executor;
  HttpServerOptions server;
  auto started = co_await HttpServer::start(server, answer);
  pair.server = std::move(*started);
  pair.client = std::make_unique<HttpClient>(executor, options);
  pair.url = "http://" + to_string(pair.server->endpoint());
  co_return pair;
}
Task<void> end(Pair& pair) {
  pair.client->close();
  co_await pair.server->stop(100ms);
}
HttpCall call(std::string method, std::string url, std::string body = {}) {
  HttpCall made;
  made.method = std::move(method);
  made.url = std::move(url);
  made.body = std::move(body);
  return made;
}

Task<void> requests() {
  HttpClientOptions options;
  options.answer_bytes_max = 4'000'000;
  auto pair = co_await make_pair(options);
  auto& client = *pair.client;
  auto get = call("GET", pair.url + "/a?b=1");
  get.headers.emplace_back("X-A", "v");
  auto got = co_await client.send(get);
  EXPECT_TRUE(got) << got.error().text();
  EXPECT_EQ(got->status, 200u);
  EXPECT_EQ(got->body, "GET /a?b=1 v ");
  const std::string peer(find_header(got->headers, "x-peer"));
  EXPECT_NE(peer, "");

  // The connection is kept, also over an answer that is an error.
  got = co_await client.send(call("GET", pair.url + "/missing"));
  EXPECT_EQ(got->status, 404u);
  EXPECT_EQ(find_header(got->headers, "X-Peer"), peer);
  const std::string body = std::string("\0binary\n", 8) + std::string(3'000'000, 'y');
  got = co_await client.send(call("POST", pair.url + "/p", body));
  EXPECT_TRUE(got) << got.error().text();
  EXPECT_TRUE(got->body == "POST /p  " + body);
  EXPECT_EQ(find_header(got->headers, "X-Peer"), peer);
  got = co_await client.send(call("PUT", pair.url + "/q", "z"));
  EXPECT_EQ(got->body, "PUT /q  z");
  got = co_await client.send(call("HEAD", pair.url + "/h"));
  EXPECT_EQ(got->status, 200u);
  EXPECT_EQ(got->body, "");
  got = co_await client.send(call("DELETE", pair.url + "/d"));
  EXPECT_EQ(got->body, "DELETE /d  ");

  auto compressed = call("POST", pair.url + "/gzip", std::string(100'000, 'g'));
  compressed.gzip = true;
  got = co_await client.send(compressed);
  EXPECT_TRUE(got->body == "POST /gzip  " + std::string(100'000, 'g'));
  co_await end(pair);
}
TEST(HttpClient, SendsRequestsOverKeptConnections) { run(requests()); }

Task<void> failures() {
  HttpClientOptions options;
  options.answer_bytes_max = 1000;
  auto pair = co_await make_pair(options);
  auto& client = *pair.client;
  auto slow = call("GET", pair.url + "/slow");
  slow.time_max = 50ms;
  auto got = co_await client.send(slow);
  EXPECT_TRUE(got.has_error());
  EXPECT_EQ(got.error().code(), Code::timeout);
  EXPECT_TRUE(got.error().text().starts_with("GET " + pair.url + "/slow: ")) << got.error().text();

  got = co_await client.send(call("GET", pair.url + "/large"));
  EXPECT_TRUE(got.has_error());
  EXPECT_EQ(got.error().code(), Code::too_large);

  // A port nobody listens on, with a password that nobody may see.
  auto acceptor = co_await listen("127.0.0.1", 0);
  const auto port = acceptor->local_endpoint().port();
  acceptor->close();
  got = co_await client.send(
      call("GET", "http://user:canary-77@127.0.0.1:" + std::to_string(port) + "/x"));
  EXPECT_TRUE(got.has_error());
  EXPECT_EQ(got.error().code(), Code::unavailable);
  EXPECT_EQ(got.error().text().find("canary"), std::string::npos) << got.error().text();
  EXPECT_NE(got.error().text().find("127.0.0.1:" + std::to_string(port)), std::string::npos);

  got = co_await client.send(call("GET", "ftp://h/"));
  EXPECT_EQ(got.error().code(), Code::invalid);
  got = co_await client.send(call("GET", "not a url"));
  EXPECT_EQ(got.error().code(), Code::invalid) << got.error().text();
  co_await end(pair);
  got = co_await client.send(call("GET", pair.url));
  EXPECT_EQ(got.error().code(), Code::closed);
}
TEST(HttpClient, SaysWhatFailed) { run(failures()); }

Task<void> into(HttpClient& client, HttpCall what, std::optional<Result<HttpAnswer>>& to) {
  to = co_await client.send(std::move(what));
}
Task<void> stopping() {
  const auto executor = co_await asio::this_coro::executor;
  HttpClientOptions options;
  auto pair = co_await make_pair(options);
  std::optional<Result<HttpAnswer>> cancelled;
  std::optional<Result<HttpAnswer>> closed;
  Gate first(executor);
  Gate second(executor);
  first.spawn("call", into(*pair.client, call("GET", pair.url + "/slow"), cancelled));
  second.spawn("call", into(*pair.client, call("GET", pair.url + "/slow"), closed));
  co_await sleep(30ms);
  co_await first.close();
  EXPECT_TRUE(cancelled.has_value());
  EXPECT_EQ(cancelled->error().code(), Code::cancelled);
  EXPECT_FALSE(closed.has_value());
  // The client goes on working for others.
  const auto got = co_await pair.client->send(call("GET", pair.url + "/a"));
  EXPECT_TRUE(got) << got.error().text();
  pair.client->close();
  co_await sleep(1ms);
  EXPECT_TRUE(closed.has_value());
  EXPECT_EQ(closed->error().code(), Code::closed);
  co_await second.close();
  co_await end(pair);
}
TEST(HttpClient, StopsWhatIsUnderWay) { run(stopping()); }

Task<void> many_at_once() {
  const auto executor = co_await asio::this_coro::executor;
  HttpClientOptions options;
  options.connections_max = 4;
  auto pair = co_await make_pair(options);
  std::vector<std::optional<Result<HttpAnswer>>> got(100);
  Gate gate(executor);
  for (size_t i = 0; i < got.size(); ++i) {
    gate.spawn("call", into(*pair.client, call("GET", pair.url + "/" + std::to_string(i)), got[i]));
  }
  for (int i = 0; i < 5000 && gate.running() > 0; ++i) co_await sleep(1ms);
  std::set<std::string> peers;
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_TRUE(got[i].has_value() && got[i]->has_value());
    if (!got[i].has_value() || !got[i]->has_value()) break;
    EXPECT_EQ((*got[i])->body, "GET /" + std::to_string(i) + "  ");
    peers.emplace(find_header((*got[i])->headers, "X-Peer"));
  }
  EXPECT_LE(peers.size(), 4u);
  co_await gate.close();
  co_await end(pair);
}
TEST(HttpClient, ManyShareFewConnections) { run(many_at_once()); }

TEST(HttpClient, UrlsAreShownWithoutCredentials) {
  EXPECT_EQ(without_credentials("http://u:p@h:1/x@y"), "http://h:1/x@y");
  EXPECT_EQ(without_credentials("http://u:p@q@h"), "http://h");
  EXPECT_EQ(without_credentials("https://h/x"), "https://h/x");
  EXPECT_EQ(without_credentials("u:p@h/x"), "h/x");
}

}  // namespace
}  // namespace hulse::aio

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <boost/asio/ip/udp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

#include "aio/gate.h"
#include "aio/run.h"
#include "aio/threads.h"
#include "aio/timeout.h"
#include "base/bytes.h"
#include "connect/descriptor.h"
#include "connect/testing.h"

namespace hulse::connectors::netty {

std::span<const connect::Descriptor> descriptors();

namespace {

using aio::Task;
namespace asio = boost::asio;
namespace json = boost::json;
using namespace std::chrono_literals;
using Texts = std::vector<std::string>;

uint16_t free_port() {
  asio::io_context context;
  asio::ip::tcp::acceptor acceptor(context, {asio::ip::make_address("127.0.0.1"), 0});
  return acceptor.local_endpoint().port();
}

std::string problems(json::object values) {
  const auto made = descriptors()[0].make_source({std::move(values), {}});
  return made ? "none" : made.error().text();
}

TEST(NettyConfig, TakesTheBooksMapAndRefusesTheRest) {
  EXPECT_EQ(
      problems(
          {{"type", "tcp"}, {"host", "127.0.0.1"}, {"port", "10911"}, {"numberOfThreads", "1"}}),
      "none");
  EXPECT_EQ(problems({}), "none");
  EXPECT_EQ(problems({{"type", "TCP"}, {"framing", "Line"}}), "none");
  EXPECT_EQ(problems({{"type", "foo"}, {"port", 80}, {"numberOfThreads", 0}, {"hst", "x"}}),
            "hst: unknown key; did you mean host?\n"
            "type: \"foo\" is not one of tcp, udp, http\n"
            "port: 80 is not in the range 1024 to 65535\n"
            "numberOfThreads: 0 is not in the range 1 to 64");
  EXPECT_EQ(problems({{"type", "udp"}, {"framing", "line"}}),
            "framing: only for type tcp; a datagram or a request is one message by itself");
  EXPECT_EQ(problems({{"framing", "length"}, {"lengthBytes", 3}}),
            "lengthBytes: must be 1, 2 or 4");
}

// A source that runs on the test's loop.
class Netty {
 public:
  explicit Netty(aio::Executor executor) : context_(connect::testing::context_on(executor)) {}

  Task<Result<void>> open(json::object values) {
    port_ = free_port();
    values["port"] = port_;
    auto made = descriptors()[0].make_source({std::move(values), {}});
    if (!made) co_return std::move(made).error();
    source_ = std::move(*made);
    auto opened = co_await source_->open(context_);
    co_return opened;
  }
  Task<aio::Socket> connect() {
    aio::Socket socket(context_.executor);
    const auto address = endpoint();
    const auto [error] = co_await socket.async_connect(address, aio::as_values);
    EXPECT_FALSE(error) << error.message();
    co_return socket;
  }
  aio::Endpoint endpoint() const { return {asio::ip::make_address("127.0.0.1"), port_}; }

  // Reads until `count` records came; ten seconds each at most.
  Task<Texts> take(size_t count) {
    Texts out;
    while (out.size() < count) {
      auto batch = co_await aio::with_timeout(10s, "reading", source_->read());
      if (!batch) {
        ADD_FAILURE() << batch.error().text();
        break;
      }
      size_t bytes = 0;
      for (const auto& record : batch->records) {
        out.emplace_back(record.value);
        bytes += record.value.size();
        EXPECT_FALSE(record.key.has_value());
      }
      EXPECT_GE(batch->bytes, bytes);
      if (batch->stored) batch->stored(Result<void>());
    }
    co_return out;
  }
  connect::Source& source() { return *source_; }
  connect::Context& context() { return context_; }

 private:
  connect::Context context_;
  uint16_t port_ = 0;
  std::unique_ptr<connect::Source> source_;
};

Task<void> send(aio::Socket& socket, std::string text) {
  const auto buffer = asio::buffer(text);
  co_await asio::async_write(socket, buffer, aio::as_values);
}

Task<void> lines_come_whole(json::object values) {
  const auto executor = co_await asio::this_coro::executor;
  Netty netty(executor);
  values["framing"] = "line";
  const auto opened = co_await netty.open(values);
  EXPECT_TRUE(opened) << opened.error().text();
  auto socket = co_await netty.connect();
  co_await send(socket, "one\ntw");
  auto got = co_await netty.take(1);
  EXPECT_EQ(got, Texts{"one"});
  co_await send(socket, "o\r\n\nlast without end");
  got = co_await netty.take(2);
  EXPECT_EQ(got, (Texts{"two", ""}));
  socket.shutdown(asio::socket_base::shutdown_send);
  got = co_await netty.take(1);
  EXPECT_EQ(got, Texts{"last without end"});
  co_await netty.source().close();
  co_await netty.source().close();
}
TEST(NettyTcp, LinesComeWhole) { aio::run(lines_come_whole({})); }
TEST(NettyTcp, LinesComeWholeWithThreads) {
  aio::run(lines_come_whole({{"numberOfThreads", "3"}}));
}

// The number in front of each line tells whether all came, in order, and uncut.
std::string numbered_lines(size_t from, size_t count) {
  std::string out;
  for (size_t i = from; i < from + count; ++i) {
    out +=
        std::to_string(i) + " " + std::string(i * 7 % 3000, static_cast<char>('a' + i % 26)) + "\n";
  }
  return out;
}
Task<void> send_all(aio::Socket& socket, std::string text) {
  co_await send(socket, std::move(text));
  boost::system::error_code ignored;
  socket.shutdown(asio::socket_base::shutdown_send, ignored);
}
Task<void> many_lines(json::object values) {
  const auto executor = co_await asio::this_coro::executor;
  Netty netty(executor);
  values["framing"] = "line";
  const auto opened = co_await netty.open(values);
  EXPECT_TRUE(opened) << opened.error().text();
  constexpr size_t kEach = 5000;
  aio::Gate gate(executor);
  std::vector<aio::Socket> sockets;
  for (int i = 0; i < 3; ++i) {
    auto socket = co_await netty.connect();
    sockets.push_back(std::move(socket));
  }
  for (size_t i = 0; i < 3; ++i) {
    gate.spawn("sender", send_all(sockets[i], numbered_lines(i * kEach, kEach)));
  }
  auto got = co_await netty.take(3 * kEach);
  EXPECT_EQ(got.size(), 3 * kEach);
  std::string joined[3];
  for (const auto& line : got) joined[std::stoul(line) / kEach] += line + "\n";
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(joined[i] == numbered_lines(i * kEach, kEach)) << i;
  co_await gate.close();
  co_await netty.source().close();
}
TEST(NettyTcp, ManyLinesFromManyConnections) { aio::run(many_lines({})); }
TEST(NettyTcp, ManyLinesFromManyConnectionsWithThreads) {
  aio::run(many_lines({{"numberOfThreads", 2}}));
}

Task<void> other_framings() {
  const auto executor = co_await asio::this_coro::executor;
  {
    Netty netty(executor);
    const auto opened = co_await netty.open({{"framing", "length"}, {"lengthBytes", "2"}});
    EXPECT_TRUE(opened) << opened.error().text();
    auto socket = co_await netty.connect();
    co_await send(socket, std::string("\0\x03", 2) + "a\nb" + std::string("\0\0\0\x02h", 5));
    auto got = co_await netty.take(2);
    EXPECT_EQ(got, (Texts{"a\nb", ""}));
    co_await send(socket, "i");
    got = co_await netty.take(1);
    EXPECT_EQ(got, Texts{"hi"});
    co_await netty.source().close();
  }
  Netty netty(executor);
  const auto opened = co_await netty.open({});
  EXPECT_TRUE(opened) << opened.error().text();
  auto socket = co_await netty.connect();
  co_await send(socket, "line1\nline2\n");
  const auto got = co_await netty.take(1);
  EXPECT_EQ(got, Texts{"line1\nline2\n"});
  co_await netty.source().close();
}
TEST(NettyTcp, OtherFramings) { aio::run(other_framings()); }

Task<void> too_long_a_line() {
  const auto executor = co_await asio::this_coro::executor;
  Netty netty(executor);
  netty.context().message_bytes_max = 300'000;
  const auto opened = co_await netty.open({{"framing", "line"}});
  EXPECT_TRUE(opened) << opened.error().text();
  auto bad = co_await netty.connect();
  auto good = co_await netty.connect();
  aio::Gate gate(executor);
  gate.spawn("bad", send_all(bad, "before\n" + std::string(300'001, 'x') + "\nafter\n"));
  auto got = co_await netty.take(1);
  EXPECT_EQ(got, Texts{"before"});
  char byte = 0;
  const auto buffer = asio::buffer(&byte, 1);
  const auto [error, count] = co_await asio::async_read(bad, buffer, aio::as_values);
  EXPECT_TRUE(error);  // closed by the source
  const std::string longest(300'000, 'y');
  gate.spawn("good", send_all(good, longest + "\nnext\n"));
  got = co_await netty.take(2);
  EXPECT_TRUE(got == (Texts{longest, "next"}));
  co_await gate.close();
  co_await netty.source().close();
}
TEST(NettyTcp, ALineAboveTheLimitClosesItsConnectionOnly) { aio::run(too_long_a_line()); }

Task<void> hold_back(json::object values) {
  const auto executor = co_await asio::this_coro::executor;
  Netty netty(executor);
  values["framing"] = "line";
  const auto opened = co_await netty.open(values);
  EXPECT_TRUE(opened) << opened.error().text();
  auto socket = co_await netty.connect();
  socket.set_option(asio::socket_base::send_buffer_size(64 * 1024));
  socket.non_blocking(true);
  // Nobody reads from the source: what the socket takes has an end, far below what we have to send.
  const std::string chunk = std::string(99, 'x') + "\n";
  std::string block;
  for (int i = 0; i < 1000; ++i) block += chunk;
  size_t sent = 0;
  auto last = aio::Clock::now();
  while (aio::Clock::now() - last < 300ms) {
    boost::system::error_code error;
    const size_t offset = sent % block.size();
    const auto rest = asio::buffer(block.data() + offset, block.size() - offset);
    const size_t count = socket.write_some(rest, error);
    if (count > 0) last = aio::Clock::now();
    sent += count;
    if (sent > 200'000'000) break;
    const auto pause = count > 0 ? 0ms : 1ms;
    co_await aio::sleep(pause);
  }
  EXPECT_LT(sent, 40'000'000u);
  EXPECT_GT(sent, 1'000'000u);
  // And all of it is there for whoever reads.
  const size_t whole = sent / chunk.size();
  auto got = co_await netty.take(whole);
  EXPECT_EQ(got.size(), whole);
  EXPECT_TRUE(
      std::all_of(got.begin(), got.end(), [](const auto& line) { return line.size() == 99; }));
  co_await netty.source().close();
}
TEST(NettyTcp, HoldsTheSenderBack) { aio::run(hold_back({})); }
TEST(NettyTcp, HoldsTheSenderBackWithThreads) { aio::run(hold_back({{"numberOfThreads", 2}})); }

Task<void> open_errors() {
  const auto executor = co_await asio::this_coro::executor;
  for (const char* type : {"tcp", "udp", "http"}) {
    Netty first(executor);
    auto opened = co_await first.open({{"type", type}});
    EXPECT_TRUE(opened) << opened.error().text();
    auto second =
        descriptors()[0].make_source({{{"type", type}, {"port", first.endpoint().port()}}, {}});
    opened = co_await (*second)->open(first.context());
    EXPECT_TRUE(opened.has_error()) << type;
    if (opened.has_error()) {
      EXPECT_EQ(opened.error().code(), Code::busy);
      const auto text = opened.error().text();
      EXPECT_NE(text.find(aio::to_string(first.endpoint()) + ": Address already in use"),
                std::string::npos)
          << text;
    }
    co_await (*second)->close();
    co_await first.source().close();
  }
  Netty elsewhere(executor);
  auto opened = co_await elsewhere.open({{"host", "192.0.2.1"}});
  EXPECT_TRUE(opened.has_error());
  co_await elsewhere.source().close();
  Netty once(executor);
  once.context().guarantee = connect::Guarantee::effectively_once;
  opened = co_await once.open({});
  EXPECT_TRUE(opened.has_error());
  co_await once.source().close();
}
TEST(Netty, OpenSaysWhyItCannotListen) { aio::run(open_errors()); }

Task<void> datagrams(json::object values) {
  const auto executor = co_await asio::this_coro::executor;
  Netty netty(executor);
  values["type"] = "udp";
  const auto opened = co_await netty.open(values);
  EXPECT_TRUE(opened) << opened.error().text();
  asio::basic_datagram_socket<asio::ip::udp, aio::Executor> socket(executor, asio::ip::udp::v4());
  const asio::ip::udp::endpoint to(netty.endpoint().address(), netty.endpoint().port());
  const Texts sent = {std::string(100, 'a'), "", std::string("\x00\xff\n", 3),
                      std::string(5000, 'b'), std::string(65507, 'c')};
  for (const auto& text : sent) {
    const auto buffer = asio::buffer(text);
    co_await socket.async_send_to(buffer, to, aio::as_values);
  }
  auto got = co_await netty.take(sent.size());
  if (values.contains("numberOfThreads")) {
    std::sort(got.begin(), got.end());
    auto sorted = sent;
    std::sort(sorted.begin(), sorted.end());
    EXPECT_TRUE(got == sorted);
  } else {
    EXPECT_TRUE(got == sent);
  }
  // A burst that waits in the kernel comes in large batches.
  for (int i = 0; i < 500; ++i) {
    const std::string text = std::to_string(i);
    socket.send_to(asio::buffer(text), to);
  }
  got = co_await netty.take(500);
  EXPECT_EQ(got.size(), 500u);
  co_await netty.source().close();
}
TEST(NettyUdp, EachDatagramIsOneMessage) { aio::run(datagrams({})); }
TEST(NettyUdp, EachDatagramIsOneMessageWithThreads) {
  aio::run(datagrams({{"numberOfThreads", 2}}));
}

// One request on a connection of its own; what came back until the end.
Task<std::string> ask(Netty& netty, std::string request) {
  auto socket = co_await netty.connect();
  co_await send(socket, std::move(request));
  std::string got;
  const auto buffer = asio::dynamic_buffer(got);
  co_await asio::async_read(socket, buffer, aio::as_values);
  co_return got;
}
std::string post(const std::string& body) {
  return "POST /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}
Task<void> ask_into(Netty& netty, std::string request, std::string& answer) {
  answer = co_await ask(netty, std::move(request));
}

// Until the answer is there; ten seconds at most.
Task<void> answered(const std::string& answer) {
  for (int i = 0; i < 10'000 && answer.empty(); ++i) co_await aio::sleep(1ms);
}

Task<void> http_requests(json::object values) {
  const auto executor = co_await asio::this_coro::executor;
  Netty netty(executor);
  netty.context().message_bytes_max = 100'000;
  values["type"] = "http";
  const auto opened = co_await netty.open(values);
  EXPECT_TRUE(opened) << opened.error().text();
  aio::Gate gate(executor);

  // 200 comes after the word that it is stored, not before.
  std::string answer;
  const std::string body = std::string("\x01\xff\xfe\x02", 4) + std::string(50'000, 'x');
  gate.spawn("client", ask_into(netty, post(body), answer));
  auto batch = co_await netty.source().read();
  EXPECT_EQ(batch->records.size(), 1u);
  EXPECT_TRUE(batch->records[0].value == body);
  co_await aio::sleep(30ms);
  EXPECT_EQ(answer, "");
  batch->stored(Result<void>());
  co_await answered(answer);
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 ")) << answer;

  answer.clear();
  gate.spawn("client", ask_into(netty, post("y"), answer));
  batch = co_await netty.source().read();
  batch->stored(Error(Code::unavailable, "the disk is full"));
  co_await answered(answer);
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 503 ")) << answer;
  EXPECT_TRUE(answer.ends_with("the record could not be stored: the disk is full\n")) << answer;

  // A batch that is dropped without a word.
  answer.clear();
  gate.spawn("client", ask_into(netty, post("z"), answer));
  batch = co_await netty.source().read();
  *batch = connect::SourceBatch();
  co_await answered(answer);
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 503 ")) << answer;

  auto refused = co_await ask(netty, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(refused.starts_with("HTTP/1.1 405 ")) << refused;
  EXPECT_NE(refused.find("Allow: POST, PUT\r\n"), std::string::npos) << refused;
  refused = co_await ask(netty, post(std::string(100'001, 'x')));
  EXPECT_TRUE(refused.starts_with("HTTP/1.1 413 ")) << refused;

  // Several at once come as one batch, and each gets its answer.
  std::string answers[5];
  for (auto& each : answers) gate.spawn("client", ask_into(netty, post("m"), each));
  const auto got = co_await netty.take(5);
  EXPECT_EQ(got, Texts(5, "m"));
  for (auto& each : answers) {
    co_await answered(each);
    EXPECT_TRUE(each.starts_with("HTTP/1.1 200 ")) << each;
  }

  // Stopping answers what waits.
  answer.clear();
  gate.spawn("client", ask_into(netty, post("w"), answer));
  co_await aio::sleep(30ms);
  co_await netty.source().close();
  co_await answered(answer);
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 503 ")) << answer;
  co_await gate.close();
}
TEST(NettyHttp, AnswersAfterTheRecordIsStored) { aio::run(http_requests({})); }
TEST(NettyHttp, AnswersAfterTheRecordIsStoredWithThreads) {
  aio::run(http_requests({{"numberOfThreads", 2}}));
}

Task<void> cancelled_read() {
  const auto executor = co_await asio::this_coro::executor;
  Netty netty(executor);
  const auto opened = co_await netty.open({});
  EXPECT_TRUE(opened) << opened.error().text();
  auto batch = co_await aio::with_timeout(20ms, "reading", netty.source().read());
  EXPECT_TRUE(batch.has_error());
  EXPECT_EQ(batch.error().code(), Code::timeout);
  co_await netty.source().close();
  batch = co_await netty.source().read();
  EXPECT_EQ(batch.error().code(), Code::closed);
}
TEST(Netty, ReadEndsWhenCancelledOrClosed) { aio::run(cancelled_read()); }

}  // namespace
}  // namespace hulse::connectors::netty

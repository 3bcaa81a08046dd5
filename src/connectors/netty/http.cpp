// HTTP: one POST or PUT is one message, and 200 means that it is stored.
#include <fmt/format.h>

#include "aio/http_server.h"
#include "base/log.h"
#include "connectors/netty/listener.h"

namespace hulse::connectors::netty {
namespace {

using aio::HttpRequest;
using aio::HttpResponse;
using aio::Task;

// How long a request waits for its record to be stored. The client is told 503 then and tries
// again.
constexpr aio::Duration kStoredTimeMax = std::chrono::seconds(30);
// What requests get for their answers when the source stops.
constexpr aio::Duration kGrace = std::chrono::seconds(2);

HttpResponse answer(unsigned status, std::string text) {
  HttpResponse response;
  response.status = status;
  response.body = text.empty() ? text : text + "\n";
  return response;
}

HttpResponse unavailable(std::string text) {
  auto response = answer(503, std::move(text));
  response.headers.emplace_back("Retry-After", "1");
  return response;
}

// Where a request waits for the word about its record. Lives on the request's loop.
struct Waiting {
  explicit Waiting(aio::Executor loop) : told(loop) {}
  aio::Event told;
  std::optional<Result<void>> result;
};

// Brings the word from the strand to the loop: once, and also when nobody gives one. It may outlive
// the loop, so it owns nothing of it.
class Receipt {
 public:
  Receipt(std::shared_ptr<Inbox> inbox, size_t loop, std::weak_ptr<Waiting> waiting)
      : inbox_(std::move(inbox)), loop_(loop), waiting_(std::move(waiting)) {}
  Receipt(const Receipt&) = delete;
  Receipt& operator=(const Receipt&) = delete;
  ~Receipt() { tell(Error(Code::closed, "the source stopped before the record was stored")); }

  void tell(const Result<void>& result) {
    if (std::exchange(told_, true)) return;
    inbox_->post(loop_, [weak = waiting_, result] {
      const auto waiting = weak.lock();
      if (!waiting) return;  // the request gave up
      waiting->result = result;
      waiting->told.notify();
    });
  }

 private:
  std::shared_ptr<Inbox> inbox_;
  size_t loop_;
  std::weak_ptr<Waiting> waiting_;
  bool told_ = false;
};

class HttpListener final : public Listener {
 public:
  explicit HttpListener(Setting setting) : setting_(std::move(setting)) {}

  Task<Result<void>> open() override {
    aio::HttpServerOptions options;
    options.host = setting_.config.host;
    options.port = setting_.config.port;
    options.workers = setting_.loops;
    options.body_bytes_max = setting_.message_bytes_max;
    const aio::HttpHandler handler = [this](HttpRequest request) {
      return handle(std::move(request));
    };
    auto server = co_await aio::HttpServer::start(options, handler);
    if (!server) co_return std::move(server).error();
    server_ = std::move(*server);
    co_return Result<void>();
  }

  Task<void> close() override {
    if (!server_) co_return;
    co_await server_->stop(kGrace);
    server_.reset();
  }

 private:
  Task<HttpResponse> handle(HttpRequest request) {
    if (request.method != "POST" && request.method != "PUT") {
      auto refused = answer(405, "send the message as the body of a POST");
      refused.headers.emplace_back("Allow", "POST, PUT");
      co_return refused;
    }
    const auto executor = co_await aio::asio::this_coro::executor;
    size_t loop = 0;
    while (setting_.loops[loop] != executor) ++loop;

    const auto limit = aio::Clock::now() + kStoredTimeMax;
    const bool room = co_await setting_.inbox->wait_for_room_until(loop, limit);
    if (!room) co_return unavailable("the topic takes no more records now");

    const auto waiting = std::make_shared<Waiting>(executor);
    put(std::move(request.body), loop, waiting);
    while (!waiting->result) {
      const bool woken = co_await waiting->told.wait_until(limit);
      if (!woken && !waiting->result) {
        co_return unavailable("the record is not stored yet and may be stored later");
      }
    }
    const auto& result = *waiting->result;
    if (result) co_return answer(200, "");
    co_return unavailable("the record could not be stored: " + result.error().text());
  }

  void put(std::string body, size_t loop, const std::shared_ptr<Waiting>& waiting) {
    const auto owner = std::make_shared<const std::string>(std::move(body));
    const auto receipt = std::make_shared<Receipt>(setting_.inbox, loop, waiting);
    connect::SourceBatch batch;
    batch.records.push_back({.value = *owner});
    batch.owner = owner;
    batch.bytes = owner->size();
    batch.stored = [receipt](const Result<void>& result) { receipt->tell(result); };
    setting_.inbox->put(std::move(batch));
  }

  Setting setting_;
  std::unique_ptr<aio::HttpServer> server_;
};

}  // namespace

std::unique_ptr<Listener> make_http(Setting setting) {
  return std::make_unique<HttpListener>(std::move(setting));
}

}  // namespace hulse::connectors::netty

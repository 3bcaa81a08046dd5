#include "main/standalone.h"

#include <chrono>
#include <csignal>
#include <cstdio>

#include "aio/offload.h"
#include "aio/run.h"
#include "aio/signals.h"
#include "aio/threads.h"
#include "aio/timeout.h"
#include "base/log.h"
#include "broker/broker.h"
#include "broker/rest.h"
#include "storage/store.h"

namespace hulse {
namespace {

constexpr std::string_view kPart = "standalone";
constexpr auto kWebGrace = std::chrono::seconds(2);

class Standalone {
 public:
  explicit Standalone(StandaloneOptions options) : options_(std::move(options)) {}

  aio::Task<Result<void>> run() {
    auto store = co_await aio::offload(disk_threads_.next(), [path = options_.data_dir] {
      return storage::Store::open({.path = path});
    });
    if (!store) co_return store.error();
    store_ = std::move(*store);
    const auto strand = broker_threads_.next();
    broker::Options broker_options;
    broker_options.host = options_.host;
    broker_options.port = options_.broker_port;
    broker_ =
        std::make_unique<broker::Broker>(broker_options, *store_, strand, disk_threads_.next());
    auto started = co_await aio::on(strand, broker_->start());
    if (started) started = co_await aio::on(strand, start_web());
    if (started) {
      std::printf("hulse standalone is ready: broker %s, web http://%s, data %s (%.2f s)\n",
                  broker_->service_url().c_str(), aio::to_string(web_->endpoint()).c_str(),
                  options_.data_dir.c_str(),
                  std::chrono::duration<double>(aio::process_age()).count());
      std::fflush(stdout);
      const int number = co_await aio::wait_for_signal();
      log::info(kPart, "stopping on {}", ::strsignal(number));
    }
    if (web_) co_await aio::on(strand, web_->stop(kWebGrace));
    co_await aio::on(strand, broker_->stop());
    const auto closed =
        co_await aio::offload(disk_threads_.next(), [this] { return store_->close(); });
    if (!started) co_return started.error();
    co_return closed;
  }

 private:
  // On the broker's strand, where topics can be looked at.
  aio::Task<Result<void>> start_web() {
    aio::HttpServerOptions options;
    options.host = options_.host;
    options.port = options_.web_port;
    auto server = co_await aio::HttpServer::start(options, [this](aio::HttpRequest request) {
      return broker::handle(*broker_, std::move(request));
    });
    if (!server) {
      if (server.error().code() != Code::busy) co_return server.error();
      co_return Error(Code::busy,
                      fmt::format("port {} of {} is taken by another program; stop it or choose "
                                  "another one with --web-port",
                                  options_.web_port, options_.host));
    }
    web_ = std::move(*server);
    co_return Result<void>();
  }

  const StandaloneOptions options_;
  // Threads go last: what they run has ended by then.
  aio::Threads broker_threads_{"broker", 1};
  aio::Threads disk_threads_{"disk", 2};
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<broker::Broker> broker_;
  std::unique_ptr<aio::HttpServer> web_;
};

}  // namespace

Result<void> run_standalone(const StandaloneOptions& options) {
  Standalone standalone(options);
  return aio::run(standalone.run());
}

}  // namespace hulse

#include "main/standalone.h"

#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <cstdio>

#include "aio/offload.h"
#include "aio/run.h"
#include "aio/threads.h"
#include "aio/timeout.h"
#include "base/log.h"
#include "broker/broker.h"
#include "storage/store.h"

namespace hulse {
namespace {

constexpr std::string_view kPart = "standalone";

double seconds_since_start() {
  // Of the process, not of main(): loading the program is part of what a user waits for.
  std::FILE* file = std::fopen("/proc/self/stat", "re");
  if (file == nullptr) return 0;
  char text[1024] = {};
  const size_t size = std::fread(text, 1, sizeof text - 1, file);
  std::fclose(file);
  // Field 22, counted after the name in parentheses, is the start in clock ticks since boot.
  std::string_view rest(text, size);
  rest.remove_prefix(std::min(rest.size(), rest.rfind(')') + 2));
  for (int field = 3; field < 22; ++field) {
    rest.remove_prefix(std::min(rest.size(), rest.find(' ') + 1));
  }
  const double started = std::strtod(std::string(rest).c_str(), nullptr) / static_cast<double>(::sysconf(_SC_CLK_TCK));
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9 - started;
}

aio::Task<int> wait_for_signal() {
  const auto executor = co_await aio::asio::this_coro::executor;
  aio::asio::basic_signal_set<aio::Executor> signals(executor, SIGTERM, SIGINT);
  const auto [error, number] = co_await signals.async_wait(aio::as_values);
  co_return error ? 0 : number;
}

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
    broker_ = std::make_unique<broker::Broker>(broker_options, *store_, strand, disk_threads_.next());
    const auto started = co_await aio::on(strand, broker_->start());
    if (started) {
      std::printf("hulse standalone is ready: broker %s, data %s (%.2f s)\n",
                  broker_->service_url().c_str(), options_.data_dir.c_str(), seconds_since_start());
      std::fflush(stdout);
      const int number = co_await wait_for_signal();
      log::info(kPart, "stopping on {}", ::strsignal(number));
    }
    co_await aio::on(strand, broker_->stop());
    const auto closed = co_await aio::offload(disk_threads_.next(), [this] { return store_->close(); });
    if (!started) co_return started.error();
    co_return closed;
  }

 private:
  const StandaloneOptions options_;
  // Threads go last: what they run has ended by then.
  aio::Threads broker_threads_{"broker", 1};
  aio::Threads disk_threads_{"disk", 2};
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<broker::Broker> broker_;
};

}  // namespace

Result<void> run_standalone(const StandaloneOptions& options) {
  Standalone standalone(options);
  return aio::run(standalone.run());
}

}  // namespace hulse

// The netty source: listens on TCP, UDP or HTTP and makes messages of what comes.
//
// Differences from Pulsar's: open() fails when it cannot listen; a message has no key (Java sets an
// empty one, which sends every message to one partition); an HTTP request is one message of any
// size, its bytes untouched, answered after it is stored; a datagram is not cut at 2,048 bytes.
#include <fmt/format.h>

#include "aio/threads.h"
#include "base/log.h"
#include "connect/descriptor.h"
#include "connectors/netty/listener.h"

namespace hulse::connectors::netty {
namespace {

// What may wait between the sockets and the topic.
constexpr size_t kInboxBytes = 4 * 1024 * 1024;

class NettySource final : public connect::Source {
 public:
  explicit NettySource(NettyConfig config) : config_(std::move(config)) {}

  aio::Task<Result<void>> open(const connect::Context& context) override {
    if (context.guarantee == connect::Guarantee::effectively_once) {
      co_return Error(
          Code::invalid,
          "netty cannot be effectively once: what came over a socket cannot be read again; "
          "use ATLEAST_ONCE");
    }
    Setting setting;
    setting.config = config_;
    setting.name = name_ = context.full_name();
    setting.message_bytes_max = context.message_bytes_max;
    if (config_.number_of_threads > 1) {
      const auto count = static_cast<size_t>(config_.number_of_threads);
      threads_ = std::make_unique<aio::Threads>("netty", count);
      for (size_t i = 0; i < count; ++i) setting.loops.push_back(threads_->at(i));
    } else {
      setting.loops.push_back(context.executor);
    }
    inbox_ = std::make_shared<Inbox>(context.executor, setting.loops, kInboxBytes);
    setting.inbox = inbox_;
    switch (config_.type) {
      case Protocol::tcp: listener_ = make_tcp(std::move(setting)); break;
      case Protocol::udp: listener_ = make_udp(std::move(setting)); break;
      case Protocol::http: listener_ = make_http(std::move(setting)); break;
    }
    auto opened = co_await listener_->open();
    if (!opened) co_return std::move(opened).error();
    co_return Result<void>();
  }

  aio::Task<Result<connect::SourceBatch>> read() override {
    auto batch = co_await inbox_->take();
    co_return batch;
  }

  aio::Task<void> close() override {
    // First what waits is given up, so that HTTP requests get their answers; then the sockets.
    const size_t dropped = inbox_ ? inbox_->drop() : 0;
    if (dropped > 0 && config_.type != Protocol::http) {
      log::warn("netty", "{}: {} records had come and were not published before the stop", name_,
                dropped);
    }
    if (listener_) co_await listener_->close();
    if (inbox_) inbox_->close();
    if (threads_) threads_->stop();
    listener_.reset();
    if (inbox_) inbox_->forget_loops();
    threads_.reset();
  }

  std::string where() const override {
    return fmt::format("{}://{}:{}", kProtocols[static_cast<size_t>(config_.type)], config_.host,
                       config_.port);
  }

 private:
  NettyConfig config_;
  std::string name_;
  std::unique_ptr<aio::Threads> threads_;
  std::shared_ptr<Inbox> inbox_;
  std::unique_ptr<Listener> listener_;
};

constexpr connect::Descriptor kDescriptors[] = {{
    .name = "netty",
    .kind = connect::Kind::source,
    .description = "Listens on TCP, UDP or HTTP and publishes what comes.",
    .fields = kFields,
    .make_source =
        [](const config::Given& given) {
          return connect::make<connect::Source, NettySource, NettyConfig>(kFields, given);
        },
}};

}  // namespace

std::span<const connect::Descriptor> descriptors() { return kDescriptors; }

}  // namespace hulse::connectors::netty

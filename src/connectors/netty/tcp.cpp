// TCP: each connection is read into large buffers, and records are views into them.
#include <fmt/format.h>

#include <sys/socket.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstring>

#include "aio/listen.h"
#include "aio/offload.h"
#include "base/log.h"
#include "base/text.h"
#include "connectors/netty/descriptor.h"
#include "connectors/netty/framing.h"
#include "connectors/netty/listener.h"

namespace hulse::connectors::netty {
namespace {

using aio::Task;
namespace asio = boost::asio;

constexpr size_t kConnectionsMax = 10'000;
// A quiet connection has a small buffer or none; a busy one grows its own.
constexpr size_t kBufferBytesMin = 16 * 1024;
constexpr size_t kBufferBytesMax = 256 * 1024;
// One read, and so one batch.
constexpr size_t kReadBytesMax = 128 * 1024;
// Less than this is a small piece: the sender writes message by message, and reading so would cost
// most of the time.
constexpr size_t kGatherBytes = 32 * 1024;

// The bytes of a connection that were read and not handed on, at the end of a buffer whose front is
// still in use by batches.
class ReadBuffer {
 public:
  // Room for the next read, at least a quarter of a buffer.
  std::span<char> room() {
    if (!data_ || capacity_ - end_ < std::max(size_t(4096), capacity_ / 4)) renew();
    return {data_.get() + end_, std::min(kReadBytesMax, capacity_ - end_)};
  }
  void filled(size_t bytes, bool all_of_it) {
    end_ += bytes;
    if (all_of_it) wanted_ = std::min(kBufferBytesMax, wanted_ * 4);
  }
  void consume(size_t bytes) {
    begin_ += bytes;
    scanned_ = 0;
  }
  // Nothing comes at the moment: holds no more than what is pending.
  void rest() {
    wanted_ = std::max(kBufferBytesMin, wanted_ / 2);
    if (begin_ != end_) return;
    data_.reset();
    begin_ = end_ = capacity_ = 0;
  }

  std::string_view pending() const { return {data_.get() + begin_, end_ - begin_}; }
  size_t scanned() const { return scanned_; }
  void set_scanned() { scanned_ = end_ - begin_; }
  // Keeps pending() alive where it is.
  std::shared_ptr<const void> owner() const { return data_; }
  // Whether batches that point into this buffer would hold much more memory than they use.
  bool mostly_empty() const { return end_ - begin_ < capacity_ / 4; }

 private:
  void renew() {
    const size_t pending = end_ - begin_;
    const size_t wanted = std::max(wanted_, pending * 2);
    if (data_ && capacity_ >= wanted && data_.use_count() == 1) {
      // Nobody reads it any more; the fence pairs with the last owner's letting go.
      std::atomic_thread_fence(std::memory_order_acquire);
      std::memmove(data_.get(), data_.get() + begin_, pending);
    } else {
      auto fresh = std::make_shared_for_overwrite<char[]>(wanted);
      if (pending > 0) std::memcpy(fresh.get(), data_.get() + begin_, pending);
      data_ = std::move(fresh);
      capacity_ = wanted;
    }
    begin_ = 0;
    end_ = pending;
  }

  std::shared_ptr<char[]> data_;
  size_t capacity_ = 0;
  size_t begin_ = 0;  // of what is pending
  size_t end_ = 0;
  size_t scanned_ = 0;  // of what is pending, from its begin: holds no newline
  size_t wanted_ = kBufferBytesMin;
};

class TcpListener final : public Listener {
 public:
  explicit TcpListener(Setting setting) : shared_(std::make_shared<Shared>(std::move(setting))) {}

  Task<Result<void>> open() override {
    const auto& config = shared_->setting.config;
    auto acceptor = co_await aio::listen(config.host, config.port);
    if (!acceptor) co_return std::move(acceptor).error();
    const auto executor = co_await asio::this_coro::executor;
    accepting_ = std::make_unique<Accepting>(std::move(*acceptor), executor);
    for (const auto& loop : shared_->setting.loops) {
      shared_->gates.push_back(std::make_unique<aio::Gate>(loop));
    }
    accepting_->gate.spawn("netty accept", accept(shared_, *accepting_));
    co_return Result<void>();
  }

  Task<void> close() override {
    if (!accepting_) co_return;
    boost::system::error_code ignored;
    accepting_->acceptor.close(ignored);
    co_await accepting_->gate.close();
    for (size_t i = 0; i < shared_->gates.size(); ++i) {
      co_await aio::on(shared_->setting.loops[i], shared_->gates[i]->close());
    }
    accepting_.reset();
  }

 private:
  struct Shared {
    explicit Shared(Setting given) : setting(std::move(given)) {}
    Setting setting;
    std::vector<std::unique_ptr<aio::Gate>> gates;  // of the connections, one for each loop
    std::atomic<size_t> connections{0};
    std::atomic<uint64_t> too_large{0};
  };
  struct Accepting {
    Accepting(aio::Acceptor listener, aio::Executor executor)
        : acceptor(std::move(listener)), gate(executor) {}
    aio::Acceptor acceptor;
    aio::Gate gate;
  };

  static Task<void> accept(std::shared_ptr<Shared> shared, Accepting& accepting) {
    constexpr aio::Duration kPause = std::chrono::milliseconds(50);
    const auto& loops = shared->setting.loops;
    for (size_t turn = 0;; ++turn) {
      while (shared->connections >= kConnectionsMax) {
        const bool slept = co_await aio::sleep(kPause);
        if (!slept) co_return;
      }
      const size_t loop = turn % loops.size();
      auto [error, socket] = co_await accepting.acceptor.async_accept(loops[loop], aio::as_values);
      if (error == asio::error::operation_aborted || accepting.gate.closing()) co_return;
      if (error) {
        log::warn("netty", "{} cannot take a connection: {}", shared->setting.name,
                  error.message());
        if (!aio::accept_may_be_retried(error)) {
          shared->setting.inbox->fail(aio::to_error(error).with("taking connections"));
          co_return;
        }
        const bool slept = co_await aio::sleep(kPause);
        if (!slept) co_return;
        continue;
      }
      shared->connections += 1;
      asio::post(loops[loop], [shared, loop, taken = std::move(socket)]() mutable {
        auto& gate = *shared->gates[loop];
        if (gate.closing()) {
          shared->connections -= 1;
          return;
        }
        gate.spawn("netty connection", serve(shared, loop, std::move(taken)));
      });
    }
  }

  static Task<void> serve(std::shared_ptr<Shared> shared, size_t loop, aio::Socket socket) {
    boost::system::error_code error;
    const auto remote = socket.remote_endpoint(error);
    const std::string peer = error ? "a peer that has gone" : aio::to_string(remote);
    socket.set_option(asio::socket_base::keep_alive(true), error);
    const int fd = socket.release(error);
    if (!error) {
      Descriptor descriptor(fd);
      co_await read(*shared, loop, descriptor, peer);
    }
    shared->connections -= 1;
  }

  static Task<void> read(Shared& shared, size_t loop, Descriptor& socket, const std::string& peer) {
    auto& inbox = *shared.setting.inbox;
    const auto executor = co_await asio::this_coro::executor;
    ReadBuffer buffer;
    size_t expected = 0;  // records of the last batch
    bool fresh = true;    // nothing has come since the last wait
    bool busy = false;    // data keeps coming
    for (;;) {
      const bool room = co_await inbox.wait_for_room(loop);
      // Asked each time round: a cancellation that met a finished operation is told by nobody else.
      if (!room || shared.gates[loop]->closing()) co_return;
      auto space = buffer.room();
      // A read is a message then, and has to fit into one.
      if (shared.setting.config.framing == Framing::none &&
          space.size() > shared.setting.message_bytes_max) {
        space = space.first(shared.setting.message_bytes_max);
      }
      const ssize_t got = ::recv(socket.fd(), space.data(), space.size(), MSG_DONTWAIT);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        busy = false;
        buffer.rest();
        const bool readable = co_await socket.wait_readable();
        if (!readable) co_return;
        fresh = true;
        continue;
      }
      if (got <= 0) {
        end_of(shared, buffer, got == 0 ? 0 : errno, peer);
        co_return;
      }
      const auto count = static_cast<size_t>(got);
      buffer.filled(count, count == space.size());
      connect::SourceBatch batch;
      batch.records.reserve(expected + expected / 8);
      const bool too_large = split(shared.setting, buffer, batch);
      if (!batch.records.empty()) {
        expected = batch.records.size();
        inbox.put(std::move(batch));
      }
      if (too_large) {
        const auto times = ++shared.too_large;
        log::warn(
            "netty",
            "{}: closed the connection from {}: a message above the limit of {} bytes; number {} "
            "of its kind",
            shared.setting.name, peer, shared.setting.message_bytes_max, times);
        co_return;
      }
      busy = busy || !fresh;
      fresh = false;
      if (busy && count < kGatherBytes) {
        const bool slept = co_await aio::sleep(kGatherTime);
        if (!slept) co_return;
      } else {
        // Lets the others of this loop have their turn.
        co_await asio::post(executor, aio::use_task);
      }
    }
  }

  // Moves what is complete from the buffer to the batch. True when a message is above the limit.
  static bool split(const Setting& setting, ReadBuffer& buffer, connect::SourceBatch& batch) {
    auto data = buffer.pending();
    batch.owner = buffer.owner();
    if (buffer.mostly_empty()) {
      const auto copy = std::make_shared_for_overwrite<char[]>(data.size());
      std::memcpy(copy.get(), data.data(), data.size());
      data = {copy.get(), data.size()};
      batch.owner = copy;
    }
    Split done;
    switch (setting.config.framing) {
      case Framing::none:
        batch.records.push_back({.value = data});
        done.consumed = data.size();
        break;
      case Framing::line:
        done = split_lines(data, buffer.scanned(), setting.message_bytes_max, batch.records);
        break;
      case Framing::length:
        done = split_lengths(data, static_cast<size_t>(setting.config.length_bytes),
                             setting.message_bytes_max, batch.records);
        break;
    }
    batch.bytes = done.consumed;
    buffer.consume(done.consumed);
    if (setting.config.framing == Framing::line) buffer.set_scanned();
    return done.too_large;
  }

  // `error` is 0 when the sender closed in order.
  static void end_of(Shared& shared, ReadBuffer& buffer, int error, const std::string& peer) {
    const auto& setting = shared.setting;
    const auto rest = buffer.pending();
    if (rest.empty()) {
      if (error != 0) log::info("netty", "{}: {}: {}", setting.name, peer, errno_text(error));
      return;
    }
    // The sender said that this is all: a last line may lack its newline.
    if (error == 0 && setting.config.framing == Framing::line) {
      connect::SourceBatch batch;
      const auto line = without_cr(rest);
      batch.records.push_back({.value = line});
      batch.bytes = line.size();
      batch.owner = buffer.owner();
      setting.inbox->put(std::move(batch));
      return;
    }
    log::warn("netty", "{}: {} ended within a message, whose {} bytes are dropped: {}",
              setting.name, peer, rest.size(),
              error == 0 ? "closed by the sender" : errno_text(error));
  }

  std::shared_ptr<Shared> shared_;
  std::unique_ptr<Accepting> accepting_;
};

}  // namespace

std::unique_ptr<Listener> make_tcp(Setting setting) {
  return std::make_unique<TcpListener>(std::move(setting));
}

}  // namespace hulse::connectors::netty

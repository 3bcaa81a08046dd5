// UDP: one datagram is one message. Read many at a time; what the kernel has to drop is counted and
// told.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/sock_diag.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/ip/udp.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstring>

#include "aio/listen.h"
#include "aio/offload.h"
#include "base/log.h"
#include "base/text.h"
#include "connectors/netty/descriptor.h"
#include "connectors/netty/listener.h"

namespace hulse::connectors::netty {
namespace {

using aio::Task;
namespace asio = boost::asio;
using UdpSocket = asio::basic_datagram_socket<asio::ip::udp, aio::Executor>;

// Datagrams of one call. Each has a slot of the largest size, of which only what is used costs
// memory.
constexpr size_t kSlots = 128;
constexpr size_t kSlotBytes = 65536;
// Not a power of two apart: their beginnings would share a few lines of the processor's cache.
constexpr size_t kSlotStride = kSlotBytes + 192;
constexpr size_t kBatchBytes = 128 * 1024;
constexpr size_t kBatchRecords = 1024;
// What the kernel is asked to hold while we are busy.
constexpr int kReceiveBytes = 32 * 1024 * 1024;
constexpr int kReceiveBytesEnough = 2 * 1024 * 1024;
// While several come at a time the kernel gathers more of them during this pause: waking for every
// few costs many times what they cost. One that comes alone does not wait.
constexpr aio::Duration kGatherTime = std::chrono::microseconds(300);
constexpr aio::Duration kDropsPeriod = std::chrono::seconds(5);

// Datagrams wait here between the kernel and a batch.
class Slots {
 public:
  Slots() : bytes_(std::make_unique_for_overwrite<char[]>(kSlots * kSlotStride)) {
    for (size_t i = 0; i < kSlots; ++i) {
      parts_[i] = {bytes_.get() + i * kSlotStride, kSlotBytes};
      messages_[i] = {};
      messages_[i].msg_hdr.msg_iov = &parts_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
    }
  }
  // How many came; -1 and errno as recvmmsg.
  int receive(int fd) { return ::recvmmsg(fd, messages_.data(), kSlots, MSG_DONTWAIT, nullptr); }
  std::string_view operator[](size_t i) const {
    return {bytes_.get() + i * kSlotStride, messages_[i].msg_len};
  }

 private:
  std::unique_ptr<char[]> bytes_;
  std::array<iovec, kSlots> parts_;
  std::array<mmsghdr, kSlots> messages_;
};

class UdpListener final : public Listener {
 public:
  explicit UdpListener(Setting setting) : shared_(std::make_shared<Shared>(std::move(setting))) {}

  Task<Result<void>> open() override {
    const auto& setting = shared_->setting;
    const auto endpoint = co_await aio::resolve(setting.config.host, setting.config.port);
    if (!endpoint) co_return endpoint.error();
    const auto bound = bind(*endpoint);
    if (!bound) co_return bound.error();
    const auto executor = co_await asio::this_coro::executor;
    watch_ = std::make_unique<aio::Gate>(executor);
    watch_->spawn("netty drops", watch_drops(shared_));
    for (size_t i = 0; i < shared_->readers.size(); ++i) {
      const auto start = [shared = shared_, i]() -> bool {
        shared->readers[i]->gate.spawn("netty datagrams", read(shared, i));
        return true;
      };
      co_await aio::offload(setting.loops[i], start);
    }
    co_return Result<void>();
  }

  Task<void> close() override {
    if (watch_) co_await watch_->close();
    watch_.reset();
    for (size_t i = 0; i < shared_->readers.size(); ++i) {
      co_await aio::on(shared_->setting.loops[i], shared_->readers[i]->gate.close());
    }
    shared_->readers.clear();
  }

 private:
  struct Reader {
    Reader(int fd, aio::Executor loop) : socket(fd), gate(loop) {}
    Descriptor socket;
    aio::Gate gate;
  };
  struct Shared {
    explicit Shared(Setting given) : setting(std::move(given)) {}
    Setting setting;
    // One for each loop; all of them read the same socket.
    std::vector<std::unique_ptr<Reader>> readers;
    std::atomic<uint64_t> too_large{0};
  };

  Result<void> bind(const aio::Endpoint& endpoint) {
    const auto& loops = shared_->setting.loops;
    const asio::ip::udp::endpoint address(endpoint.address(), endpoint.port());
    UdpSocket socket(loops[0]);
    boost::system::error_code error;
    socket.open(address.protocol(), error);
    if (!error) socket.bind(address, error);
    if (error) return aio::to_error(error).with("listening on udp " + aio::to_string(endpoint));
    const int fd = socket.release(error);
    if (error) return aio::to_error(error).with("taking the socket");
    shared_->readers.push_back(std::make_unique<Reader>(fd, loops[0]));
    enlarge(fd);
    for (size_t i = 1; i < loops.size(); ++i) {
      const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
      if (copy < 0) return Error(Code::unavailable, errno_text(errno)).with("sharing the socket");
      shared_->readers.push_back(std::make_unique<Reader>(copy, loops[i]));
    }
    return {};
  }

  void enlarge(int fd) const {
    // The first one needs a privilege, the second stops at net.core.rmem_max.
    if (::setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBytes, sizeof kReceiveBytes) != 0) {
      ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &kReceiveBytes, sizeof kReceiveBytes);
    }
    int granted = 0;
    socklen_t size = sizeof granted;
    if (::getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &granted, &size) != 0) return;
    if (granted < kReceiveBytesEnough) {
      log::warn("netty",
                "{}: the kernel holds only {} bytes of datagrams while they wait; raise "
                "net.core.rmem_max to {} so that bursts are not dropped",
                shared_->setting.name, granted, kReceiveBytes);
    }
  }

  static uint32_t drops(int fd) {
    std::array<uint32_t, SK_MEMINFO_VARS> info{};
    socklen_t size = sizeof info;
    if (::getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info.data(), &size) != 0) return 0;
    return info[SK_MEMINFO_DROPS];
  }

  static Task<void> watch_drops(std::shared_ptr<Shared> shared) {
    const int fd = shared->readers[0]->socket.fd();
    uint32_t known = 0;
    uint64_t known_large = 0;
    for (;;) {
      const bool slept = co_await aio::sleep(kDropsPeriod);
      if (!slept) co_return;
      const uint32_t now = drops(fd);
      if (now != known) {
        log::warn("netty",
                  "{}: the kernel dropped {} datagrams in the last {} s, {} in all: they came "
                  "faster than they were taken",
                  shared->setting.name, now - known,
                  std::chrono::duration_cast<std::chrono::seconds>(kDropsPeriod).count(), now);
        known = now;
      }
      const uint64_t large = shared->too_large;
      if (large != known_large) {
        log::warn("netty", "{}: dropped {} datagrams above the limit of {} bytes",
                  shared->setting.name, large - known_large, shared->setting.message_bytes_max);
        known_large = large;
      }
    }
  }

  // A batch being filled: datagrams are copied together, so that a small one does not hold a slot
  // of the largest size.
  struct Filling {
    explicit Filling(size_t capacity)
        : bytes(std::make_shared_for_overwrite<char[]>(capacity)), left(capacity) {
      batch.owner = bytes;
    }
    void add(std::string_view datagram) {
      char* to = bytes.get() + batch.bytes;
      if (!datagram.empty()) std::memcpy(to, datagram.data(), datagram.size());
      batch.records.push_back({.value = std::string_view(to, datagram.size())});
      batch.bytes += datagram.size();
      left -= datagram.size();
    }
    connect::SourceBatch batch;
    std::shared_ptr<char[]> bytes;
    size_t left;
  };

  // Of the slots that came from the kernel.
  static void hand_on(Shared& shared, const Slots& slots, size_t count) {
    auto& inbox = *shared.setting.inbox;
    size_t total = 0;
    for (size_t i = 0; i < count; ++i) total += slots[i].size();
    size_t next = 0;
    while (next < count) {
      Filling filling(std::max(std::min(total, kBatchBytes), slots[next].size()));
      while (next < count && slots[next].size() <= filling.left &&
             filling.batch.records.size() < kBatchRecords) {
        const auto datagram = slots[next++];
        total -= datagram.size();
        if (datagram.size() > shared.setting.message_bytes_max) {
          ++shared.too_large;
        } else {
          filling.add(datagram);
        }
      }
      if (!filling.batch.records.empty()) inbox.put(std::move(filling.batch));
    }
  }

  static Task<void> read(std::shared_ptr<Shared> shared, size_t index) {
    auto& reader = *shared->readers[index];
    auto& inbox = *shared->setting.inbox;
    const auto executor = co_await asio::this_coro::executor;
    const auto slots = std::make_unique<Slots>();
    bool busy = false;  // datagrams keep coming
    for (;;) {
      const bool room = co_await inbox.wait_for_room(index);
      // Asked each time round: a cancellation that met a finished operation is told by nobody else.
      if (!room || reader.gate.closing()) co_return;
      const int count = slots->receive(reader.socket.fd());
      if (count > 0) {
        hand_on(*shared, *slots, static_cast<size_t>(count));
        busy = busy || count > 1;
        if (busy && static_cast<size_t>(count) < kSlots) {
          const bool slept = co_await aio::sleep(kGatherTime);
          if (!slept) co_return;
        } else {
          co_await asio::post(executor, aio::use_task);
        }
        continue;
      }
      // An error of one datagram (ICMP's answer to something sent) says nothing about the next.
      if (count < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED) {
        log::warn("netty", "{}: receiving datagrams: {}", shared->setting.name, errno_text(errno));
      }
      busy = false;
      const bool readable = co_await reader.socket.wait_readable();
      if (!readable) co_return;
    }
  }

  std::shared_ptr<Shared> shared_;
  std::unique_ptr<aio::Gate> watch_;
};

}  // namespace

std::unique_ptr<Listener> make_udp(Setting setting) {
  return std::make_unique<UdpListener>(std::move(setting));
}

}  // namespace hulse::connectors::netty

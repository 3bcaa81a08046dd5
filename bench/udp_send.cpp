// Sends numbered datagrams to a UDP port of this machine, flat out or at a rate. Prints one line of
// JSON. The kernel cuts one buffer into the datagrams of a group (UDP_SEGMENT): a system call for
// each would make the sender the limit.
#include <arpa/inet.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "support.h"

namespace {
constexpr size_t kGroup = 32;         // datagrams of one system call
constexpr double kAheadMax = 0.0005;  // seconds
}  // namespace

int main(int argc, char** argv) {
  bench::Options options(argc, argv, "udp_send --port P [--size 100] [--count 1000000] [--rate 0]");
  const auto port = static_cast<uint16_t>(options.number("port", 0));
  const size_t size = options.number("size", 100);
  const uint64_t count = options.number("count", 1000000);
  const double rate = options.real("rate", 0);
  options.finish();
  if (port == 0 || size < 10 || size > 1400) bench::die("a port, and 10 to 1400 bytes a datagram");

  const int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (socket < 0 ||
      ::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    bench::die_errno("socket");
  }
  const int segment = static_cast<int>(size);
  if (setsockopt(socket, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment) != 0) {
    bench::die_errno("UDP_SEGMENT");
  }
  std::string group = bench::payload("random", size * kGroup, 1);

  const double began = bench::seconds();
  for (uint64_t sent = 0; sent < count;) {
    const auto now = static_cast<size_t>(std::min<uint64_t>(kGroup, count - sent));
    for (size_t i = 0; i < now; ++i) {
      char number[11];
      std::snprintf(number, sizeof number, "%010llu", static_cast<unsigned long long>(sent + i));
      std::memcpy(group.data() + i * size, number, 10);
    }
    while (::send(socket, group.data(), now * size, 0) < 0) {
      if (errno != EINTR) bench::die_errno("sending");
    }
    sent += now;
    if (rate > 0) {
      // A sleep takes longer than a group does at high rates: sleep only when well ahead.
      const double due = began + static_cast<double>(sent) / rate;
      if (due - bench::seconds() > kAheadMax) bench::wait_until(due);
    }
  }
  std::printf("{\"sent\": %llu, \"bytes\": %llu, \"seconds\": %.4f}\n",
              static_cast<unsigned long long>(count), static_cast<unsigned long long>(count * size),
              bench::seconds() - began);
}

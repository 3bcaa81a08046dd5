// Sends numbered datagrams to a UDP port of this machine, flat out or at a rate. Prints one line of
// JSON.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "support.h"

namespace {
constexpr size_t kGroup = 32;  // datagrams of one system call
}

int main(int argc, char** argv) {
  bench::Options options(argc, argv, "udp_send --port P [--size 100] [--count 1000000] [--rate 0]");
  const auto port = static_cast<uint16_t>(options.number("port", 0));
  const size_t size = options.number("size", 100);
  const uint64_t count = options.number("count", 1000000);
  const double rate = options.real("rate", 0);
  options.finish();
  if (port == 0 || size < 10 || size > 65507)
    bench::die("a port, and 10 to 65507 bytes a datagram");

  const int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (socket < 0 ||
      ::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    bench::die_errno("socket");
  }
  std::vector<std::string> bodies(kGroup);
  std::vector<iovec> parts(kGroup);
  std::vector<mmsghdr> group(kGroup);
  for (size_t i = 0; i < kGroup; ++i) {
    bodies[i] = bench::payload("random", size, i + 1);
    parts[i] = {.iov_base = bodies[i].data(), .iov_len = size};
    group[i].msg_hdr.msg_iov = &parts[i];
    group[i].msg_hdr.msg_iovlen = 1;
  }

  const double began = bench::seconds();
  for (uint64_t sent = 0; sent < count;) {
    const auto now = static_cast<size_t>(std::min<uint64_t>(kGroup, count - sent));
    for (size_t i = 0; i < now; ++i) {
      char number[11];
      std::snprintf(number, sizeof number, "%010llu", static_cast<unsigned long long>(sent + i));
      std::memcpy(bodies[i].data(), number, 10);
    }
    for (size_t done = 0; done < now;) {
      const int went = sendmmsg(socket, &group[done], static_cast<unsigned>(now - done), 0);
      if (went < 0 && errno == EINTR) continue;
      if (went <= 0) bench::die_errno("sending");
      done += static_cast<size_t>(went);
    }
    sent += now;
    if (rate > 0) bench::wait_until(began + static_cast<double>(sent) / rate);
  }
  std::printf("{\"sent\": %llu, \"bytes\": %llu, \"seconds\": %.4f}\n",
              static_cast<unsigned long long>(count), static_cast<unsigned long long>(count * size),
              bench::seconds() - began);
}

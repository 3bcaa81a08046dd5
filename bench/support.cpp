#include "support.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace bench {

void die(std::string_view what) {
  std::fprintf(stderr, "%.*s\n", static_cast<int>(what.size()), what.data());
  std::exit(1);
}

void die_errno(std::string_view what) {
  const std::string reason = std::strerror(errno);
  die(std::string(what) + ": " + reason);
}

Options::Options(int count, char** words, std::string_view usage) : usage_(usage) {
  for (int i = 1; i < count; i += 2) {
    const std::string_view word = words[i];
    if (!word.starts_with("--") || i + 1 == count) die("usage: " + usage_);
    given_[std::string(word.substr(2))] = words[i + 1];
  }
}

std::string Options::text(const std::string& name, std::string_view fallback) {
  const auto found = given_.extract(name);
  return found.empty() ? std::string(fallback) : found.mapped();
}

uint64_t Options::number(const std::string& name, uint64_t fallback) {
  const std::string value = text(name, "");
  if (value.empty()) return fallback;
  char* end = nullptr;
  const uint64_t result = std::strtoull(value.c_str(), &end, 10);
  if (*end != '\0') die("--" + name + " takes a whole number, not " + value);
  return result;
}

double Options::real(const std::string& name, double fallback) {
  const std::string value = text(name, "");
  if (value.empty()) return fallback;
  char* end = nullptr;
  const double result = std::strtod(value.c_str(), &end);
  if (*end != '\0') die("--" + name + " takes a number, not " + value);
  return result;
}

void Options::finish() const {
  if (!given_.empty()) die("unknown option --" + given_.begin()->first + "; usage: " + usage_);
}

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void wait_until(double at) {
  const double wait = at - seconds();
  if (wait > 0) std::this_thread::sleep_for(std::chrono::duration<double>(wait));
}

uint64_t Random::next() {
  state_ ^= state_ << 13;
  state_ ^= state_ >> 7;
  state_ ^= state_ << 17;
  return state_;
}

std::string payload(std::string_view kind, size_t bytes, uint64_t seed) {
  static constexpr std::string_view kWords =
      "the quick brown pulsar jumps over the lazy queue and back ";
  Random random(seed);
  std::string result(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) {
    if (kind == "words") {
      result[i] = kWords[i % kWords.size()];
    } else if (kind == "random") {
      const char noise = static_cast<char>('0' + (random.next() >> 40) % 64);
      result[i] = noise == '\\' ? '~' : noise;
    } else if (kind == "binary") {
      result[i] = static_cast<char>(random.next() >> 40);
    } else {
      die("--payload is random, binary or words");
    }
  }
  return result;
}

namespace {
sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}
}  // namespace

int connect_tcp(uint16_t port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) die_errno("socket");
  const int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  const sockaddr_in address = loopback(port);
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    die_errno("connecting to port " + std::to_string(port));
  }
  return socket;
}

int listen_tcp(uint16_t port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) die_errno("socket");
  const int on = 1;
  setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const sockaddr_in address = loopback(port);
  if (::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(socket, 128) != 0) {
    die_errno("listening on port " + std::to_string(port));
  }
  return socket;
}

uint16_t port_of(int socket) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    die_errno("getsockname");
  return ntohs(address.sin_port);
}

void send_all(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) die_errno("sending");
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
}

void finish_sending(int socket) {
  if (::shutdown(socket, SHUT_WR) != 0) die_errno("shutdown");
  const timeval limit{.tv_sec = 120, .tv_usec = 0};
  setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  char buffer[4096];
  for (;;) {
    const ssize_t got = ::recv(socket, buffer, sizeof buffer, 0);
    if (got < 0 && errno == EINTR) continue;
    // A reset also says that the other side is done with the connection.
    if (got < 0 && errno != ECONNRESET) die_errno("waiting for the other side to read everything");
    if (got <= 0) break;
  }
  ::close(socket);
}

}  // namespace bench

// A socket that the event loop knows only while somebody waits for it.
//
// A loop that knows a socket is woken for each packet, also while its reader pauses on purpose to
// let more of them gather. Where packets are small that costs many times what reading them does.
#pragma once

#include "aio/task.h"

namespace hulse::connectors::netty {

// Owns a file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int fd() const { return fd_; }

  // On the caller's loop. False when cancelled.
  aio::Task<bool> wait_readable();

 private:
  int fd_;
};

// While data keeps coming in small pieces, more of it gathers in the kernel during this pause. What
// comes alone does not wait.
inline constexpr auto kGatherTime = std::chrono::microseconds(300);

}  // namespace hulse::connectors::netty

// A pool of single-threaded event loops. main makes three: broker I/O, worker I/O, storage.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "aio/task.h"

namespace hulse::aio {

class Threads {
 public:
  // Starts `count` threads named `name`-0, `name`-1, … that run until stop().
  Threads(const std::string& name, size_t count);
  ~Threads();  // stops
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  // Any thread. Round robin.
  Executor next();
  Executor at(size_t index);
  size_t size() const { return loops_.size(); }

  // Lets the loops run dry of ready handlers, then ends the threads. What still waits is dropped,
  // so owners stop their objects first. Not from one of the pool's threads. Idempotent.
  void stop();

 private:
  struct Loop;
  std::vector<std::unique_ptr<Loop>> loops_;
  std::atomic<size_t> next_{0};
};

}  // namespace hulse::aio

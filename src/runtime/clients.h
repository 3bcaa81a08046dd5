// Clients: one client of the bus for each thread, shared by the instances that live there, so that
// a thousand of them need a handful of connections.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "client/client.h"

namespace hulse::runtime {

// Any thread. Stopped before it is destroyed, after whoever uses the clients has ended.
class Clients {
 public:
  explicit Clients(client::Options options) : options_(std::move(options)) {}

  // The client that lives on this strand; made when it is first asked for.
  Result<std::shared_ptr<client::Client>> on(const aio::Executor& strand);
  aio::Task<void> stop();

 private:
  const client::Options options_;
  std::mutex mutex_;
  std::vector<std::pair<aio::Executor, std::shared_ptr<client::Client>>> clients_;
};

}  // namespace hulse::runtime

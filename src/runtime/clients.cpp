#include "runtime/clients.h"

#include "aio/offload.h"

namespace hulse::runtime {
namespace {

aio::Task<void> stop_one(std::shared_ptr<client::Client> client) { co_await client->stop(); }

}  // namespace

Result<std::shared_ptr<client::Client>> Clients::on(const aio::Executor& strand) {
  const std::lock_guard lock(mutex_);
  for (const auto& [where, client] : clients_) {
    if (where == strand) return client;
  }
  auto made = client::Client::make(strand, options_);
  if (!made) return made.error();
  return clients_.emplace_back(strand, std::move(*made)).second;
}

aio::Task<void> Clients::stop() {
  std::vector<std::pair<aio::Executor, std::shared_ptr<client::Client>>> all;
  {
    const std::lock_guard lock(mutex_);
    all.swap(clients_);
  }
  for (auto& [strand, client] : all) {
    auto stopping = stop_one(std::move(client));
    co_await aio::on(strand, std::move(stopping));
  }
}

}  // namespace hulse::runtime

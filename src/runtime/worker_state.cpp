// Worker's view of what components remember, and of what users uploaded.
#include "runtime/package_store.h"
#include "runtime/worker_parts.h"

namespace hulse::runtime {
namespace {

// Each that is open holds a producer, a reader and its keys.
constexpr auto kIdle = std::chrono::seconds(60);

}  // namespace

aio::Task<Result<std::shared_ptr<StateStore>>> Worker::state_of(ComponentName name) {
  if (!components_ || !client_) co_return not_ready();
  const auto* stored = components_->find(name.text());
  const auto record = stored != nullptr ? ComponentRecord::decode(stored->value)
                                        : Result<ComponentRecord>(Error(Code::not_found, ""));
  if (!record && record.error().code() != Code::not_found) co_return record.error();
  if (!record || record->drop_subscription_ms) {
    co_return Error(Code::not_found, fmt::format("Function {} doesn't exist", name.name));
  }
  auto& open = states_[name.text()];
  if (!open.store)
    open.store = std::make_shared<StateStore>(*client_, options_.name_space, name.text());
  open.used = aio::Clock::now();
  co_return open.store;
}

aio::Task<Result<StateStore::Stored>> Worker::state(ComponentName name, std::string key) {
  const auto store = co_await state_of(name);
  if (!store) co_return store.error();
  co_return co_await (*store)->look(std::move(key));
}

aio::Task<Result<void>> Worker::put_state(ComponentName name, std::string key, std::string value) {
  const auto store = co_await state_of(name);
  if (!store) co_return store.error();
  co_return co_await (*store)->put(std::move(key), std::move(value));
}

aio::Task<void> Worker::close_idle_states() {
  std::vector<std::shared_ptr<StateStore>> idle;
  for (auto at = states_.begin(); at != states_.end();) {
    const bool used =
        at->second.store.use_count() > 1 || aio::Clock::now() - at->second.used < kIdle;
    if (!used) idle.push_back(at->second.store);
    at = used ? std::next(at) : states_.erase(at);
  }
  for (const auto& store : idle) co_await store->close();
}

aio::Task<void> Worker::close_states() {
  const auto states = std::exchange(states_, {});
  for (const auto& [name, open] : states) co_await open.store->close();
}

aio::Task<Result<void>> Worker::forget_state(std::string name) {
  const auto client = client_;
  if (!client) co_return not_ready();
  const auto open = states_.find(name);
  auto store = open != states_.end()
                   ? open->second.store
                   : std::make_shared<StateStore>(*client, options_.name_space, name);
  if (open != states_.end()) states_.erase(open);
  const auto dropped = co_await store->drop();
  co_await aio::start_cleanup();
  co_await store->close();
  if (!dropped) co_return dropped.error().with("forgetting the state of " + name);
  co_return Result<void>();
}

// ---- packages

aio::Task<Result<void>> Worker::upload(std::string path, std::string_view bytes) {
  const auto client = client_;
  if (!components_ || !client) co_return not_ready();
  const auto turn = co_await take_turn("package " + path);
  co_return co_await store_package(*client, options_.name_space, path, bytes);
}

aio::Task<Result<std::string>> Worker::download(std::string path) {
  const auto client = client_;
  if (!components_ || !client) co_return not_ready();
  const auto turn = co_await take_turn("package " + path);
  co_return co_await load_package(*client, options_.name_space, path);
}

}  // namespace hulse::runtime

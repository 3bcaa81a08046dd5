#include "runtime/state_store.h"

#include <algorithm>

#include "base/log.h"
#include "wire/topic_name.h"

namespace hulse::runtime {
namespace {

constexpr std::string_view kPart = "state";
constexpr const char* kSubscription = "hulse";
constexpr auto kLookAfter = std::chrono::seconds(1);
constexpr size_t kRemovedAtOnce = 128;

}  // namespace

std::string StateStore::topic_of(const std::string& name_space, const std::string& name) {
  // No tenant or namespace may hold a tilde.
  std::string flat = name;
  std::replace(flat.begin(), flat.end(), '/', '~');
  return fmt::format("persistent://{}/hulse-state~{}", name_space, flat);
}

StateStore::StateStore(client::Client& client, const std::string& name_space,
                       const std::string& name)
    : client_(client),
      name_space_(name_space),
      topic_name_(topic_of(name_space, name)),
      changed_(client.executor()),
      gate_(client.executor()) {}

StateStore::~StateStore() = default;

// ---- opening

aio::Task<Result<StateStore::Topic>> StateStore::open() {
  while (opening_) {
    const bool woken = co_await changed_.wait();
    if (!woken) co_return Error(Code::cancelled, "stopped");
  }
  // One that follows its log no more is opened anew.
  if (topic_ && !topic_->failed()) co_return topic_;
  if (gate_.closing()) co_return Error(Code::closed, "the state is closed");
  opening_ = true;
  if (const auto old = std::exchange(topic_, nullptr)) co_await old->close();
  client::KeyValueOptions options;
  options.topic = topic_name_;
  options.subscription = kSubscription;
  auto opened = co_await client::KeyValueTopic::open(client_, std::move(options));
  opening_ = false;
  changed_.notify();
  if (!opened) co_return opened.error().with("opening the state");
  topic_ = *opened;
  if (!std::exchange(looked_after_, true)) gate_.spawn("snapshots of " + topic_name_, look_after());
  co_return topic_;
}

// Opening would create it.
aio::Task<Result<bool>> StateStore::exists() {
  if (topic_) co_return true;
  const auto listed = co_await client_.topics(name_space_, "");
  if (!listed) co_return listed.error().with("looking for the state");
  const auto& topics = listed->names;
  co_return std::find(topics.begin(), topics.end(), topic_name_) != topics.end();
}

// Whoever sees that a snapshot is due writes it; two at the same time are work twice, no harm.
aio::Task<void> StateStore::look_after() {
  for (;;) {
    const bool slept = co_await aio::sleep(kLookAfter);
    if (!slept) co_return;
    const auto topic = topic_;
    if (!topic || topic->failed() || !topic->snapshot_due()) continue;
    const auto done = co_await topic->snapshot();
    if (!done && !done.error().cancelled())
      log::warn(kPart, "a snapshot of {}: {}", topic_name_, done.error().text());
  }
}

aio::Task<void> StateStore::close() {
  co_await gate_.close();
  while (opening_) co_await changed_.wait_uncancelled();
  if (const auto topic = std::exchange(topic_, nullptr)) co_await topic->close();
}

// ---- what components do with it

aio::Task<Result<std::optional<std::string>>> StateStore::get(std::string key) {
  const auto topic = co_await open();
  if (!topic) co_return topic.error();
  const auto* stored = (*topic)->find(key);
  if (stored == nullptr) co_return std::optional<std::string>();
  const auto value = StateValue::decode(stored->value);
  if (!value) co_return value.error().with(fmt::format("the key {} of {}", key, topic_name_));
  co_return std::optional(value->as_bytes());
}

aio::Task<Result<void>> StateStore::put(std::string key, std::string value) {
  const auto topic = co_await open();
  if (!topic) co_return topic.error();
  const StateValue stored{std::nullopt, std::move(value)};
  const auto put = co_await (*topic)->put(std::move(key), stored.encode());
  co_return put ? Result<void>() : Result<void>(put.error());
}

aio::Task<Result<void>> StateStore::remove(std::string key) {
  const auto topic = co_await open();
  if (!topic) co_return topic.error();
  const auto removed = co_await (*topic)->remove(std::move(key));
  co_return removed ? Result<void>() : Result<void>(removed.error());
}

aio::Task<Result<int64_t>> StateStore::counter(std::string key) {
  const auto topic = co_await open();
  if (!topic) co_return topic.error();
  const auto* stored = (*topic)->find(key);
  if (stored == nullptr) co_return int64_t{0};
  const auto value = StateValue::decode(stored->value);
  const auto number = value ? value->as_number() : Result<int64_t>(value.error());
  if (!number) co_return number.error().with(fmt::format("the key {} of {}", key, topic_name_));
  co_return *number;
}

// The first of those who add to a key stores for all that come meanwhile.
aio::Task<Result<int64_t>> StateStore::increment(std::string key, int64_t by) {
  const auto told = std::make_shared<std::optional<Result<int64_t>>>();
  auto& mine = additions_[key];
  mine.sum += by;
  mine.waiting.push_back(told);
  mine.by.push_back(by);
  if (!adding_[key]) {
    adding_[key] = true;
    // In the background: whoever waits for it may be cancelled.
    gate_.spawn("adding up " + key, add_up(key));
  }
  while (!*told) {
    if (gate_.closing()) co_return Error(Code::closed, "the state is closed");
    const bool woken = co_await changed_.wait();
    if (!woken) co_return Error(Code::cancelled, "stopped");
  }
  co_return **told;
}

aio::Task<void> StateStore::add_up(std::string key) {
  while (!gate_.closing()) {
    const auto waiting = additions_.find(key);
    if (waiting == additions_.end()) break;
    const auto together = std::move(waiting->second);
    additions_.erase(waiting);
    const auto topic = co_await open();
    auto sum = Result<int64_t>(0);
    if (topic) {
      sum = co_await add(*topic, key, together.sum);
    } else {
      sum = topic.error();
    }
    // Each is told the sum as if it had been alone.
    int64_t so_far = sum ? *sum - together.sum : 0;
    for (size_t i = 0; i < together.waiting.size(); ++i) {
      so_far += together.by[i];
      together.waiting[i]->emplace(sum ? Result<int64_t>(so_far) : Result<int64_t>(sum.error()));
    }
    changed_.notify();
  }
  adding_.erase(key);
  changed_.notify();
}

aio::Task<Result<int64_t>> StateStore::add(Topic topic, std::string key, int64_t by) {
  for (;;) {
    StateValue value;
    uint64_t replaces = 0;
    value.number = 0;
    if (const auto* stored = topic->find(key)) {
      const auto decoded = StateValue::decode(stored->value);
      const auto number = decoded ? decoded->as_number() : Result<int64_t>(decoded.error());
      if (!number) co_return number.error().with(fmt::format("the key {} of {}", key, topic_name_));
      value.number = *number;
      replaces = stored->version;
    }
    int64_t sum = 0;
    if (__builtin_add_overflow(*value.number, by, &sum)) {
      co_return Error(Code::invalid, fmt::format("the counter {} would not fit 64 bits", key));
    }
    value.number = sum;
    const auto put = co_await topic->put(key, value.encode(), replaces);
    if (put) co_return sum;
    // Another instance was first: what it wrote has been read by now.
    if (put.error().code() != Code::busy) co_return put.error().with("adding to " + key);
  }
}

// ---- what others do with it

aio::Task<Result<StateStore::Stored>> StateStore::look(std::string key) {
  const Error none(Code::not_found, fmt::format("key '{}' doesn't exist.", key));
  const auto there = co_await exists();
  if (!there) co_return there.error();
  if (!*there) co_return none;
  const auto topic = co_await open();
  if (!topic) co_return topic.error();
  const auto current = co_await (*topic)->refresh();
  if (!current) co_return current.error().with("reading the state");
  const auto* stored = (*topic)->find(key);
  if (stored == nullptr) co_return none;
  auto value = StateValue::decode(stored->value);
  if (!value) co_return value.error().with(fmt::format("the key {} of {}", key, topic_name_));
  co_return Stored{std::move(*value), stored->version};
}

aio::Task<void> StateStore::remove_some(Topic topic, std::vector<std::string> keys, size_t first,
                                        std::shared_ptr<std::optional<Error>> failed) {
  for (size_t i = first; i < keys.size() && !*failed; i += kRemovedAtOnce) {
    const auto removed = co_await topic->remove(keys[i]);
    if (!removed) *failed = removed.error();
  }
  changed_.notify();
}

// First emptied: until the broker has trimmed what the subscription kept, whoever opens it again
// would read it.
aio::Task<Result<void>> StateStore::drop() {
  const auto there = co_await exists();
  if (!there) co_return there.error();
  if (!*there) co_return Result<void>();
  const auto topic = co_await open();
  if (!topic) co_return topic.error();
  std::vector<std::string> keys;
  for (const auto& [key, value] : (*topic)->values()) keys.push_back(key);
  const auto failed = std::make_shared<std::optional<Error>>();
  aio::Gate removing(client_.executor());
  for (size_t first = 0; first < std::min(keys.size(), kRemovedAtOnce); ++first)
    removing.spawn("emptying " + topic_name_, remove_some(*topic, keys, first, failed));
  bool woken = true;
  while (woken && removing.running() > 0) woken = co_await changed_.wait();
  co_await removing.close();
  if (!woken) co_return Error(Code::cancelled, "stopped");
  if (*failed) co_return failed->value().with("emptying the state");
  co_await close();
  client::ConsumerOptions options;
  options.topic = topic_name_;
  options.subscription = kSubscription;
  options.type = wire::pb::CommandSubscribe::Failover;
  const auto consumer = co_await client_.subscribe(std::move(options));
  if (!consumer) co_return consumer.error().with("dropping the state");
  const auto gone = co_await (*consumer)->unsubscribe();
  co_await (*consumer)->close();
  if (!gone) co_return gone.error().with("dropping the state");
  co_return Result<void>();
}

}  // namespace hulse::runtime

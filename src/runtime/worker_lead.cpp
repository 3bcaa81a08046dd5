// The leading worker: where instances run, and what deleted components leave behind.
#include <boost/json.hpp>
#include <charconv>

#include "base/log.h"
#include "runtime/worker_parts.h"

namespace hulse::runtime {
namespace {

constexpr std::string_view kPart = "worker";
constexpr auto kLook = std::chrono::seconds(1);
constexpr auto kDropRetry = std::chrono::minutes(1);

// The number of instances a component asks for. What its configuration says wrong is named where it
// is applied.
unsigned instances_of(const ComponentRecord& record) {
  const auto* value = record.config.if_contains("parallelism");
  if (value == nullptr) return 1;
  int64_t number = 1;
  if (value->is_int64()) {
    number = value->get_int64();
  } else if (value->is_string()) {
    const auto& text = value->get_string();
    std::from_chars(text.data(), text.data() + text.size(), number);
  }
  return static_cast<unsigned>(std::clamp<int64_t>(number, 1, 1024));
}

}  // namespace

aio::Task<void> Worker::lead() {
  uint64_t handled = 0;
  for (;;) {
    bool waits = false;
    if (!members_->leading()) {
      leads_ = false;
    } else {
      if (!leads_) {
        leads_ = true;
        handled = 0;
        co_await forget_orphans();
      }
      if (handled != news_) {
        handled = news_;
        co_await assign();
      }
      for (const auto& topic : remembered_.all()) {
        if (!topic->snapshot_due()) continue;
        const auto done = co_await topic->snapshot();
        if (!done && !done.error().cancelled())
          log::warn(kPart, "a snapshot of what is remembered: {}", done.error().text());
      }
      waits = co_await drop_subscriptions();
    }
    const auto until = aio::Clock::now() + kLook;
    while (aio::Clock::now() < until && !(leads_ ? handled != news_ : members_->leading())) {
      co_await changed_.wait_until(until);
      const bool stopped = co_await aio::cancelled();
      if (stopped) co_return;
      if (waits) break;
    }
    const bool stopped = co_await aio::cancelled();
    if (stopped || !components_) co_return;
  }
}

aio::Task<void> Worker::assign() {
  const auto topic = remembered_.assignments;
  std::map<std::string, unsigned> instances;
  for (const auto& [name, stored] : remembered_.components->values()) {
    const auto record = ComponentRecord::decode(stored.value);
    if (record && !record->drop_subscription_ms) instances[name] = instances_of(*record);
  }
  Placements present;
  std::map<std::string, uint64_t> versions;
  for (const auto& [name, stored] : topic->values()) {
    versions[name] = stored.version;
    auto placement = decode_placement(stored.value);
    if (placement) {
      present[name] = std::move(*placement);
    } else {
      log::warn(kPart, "{} of {}: {}", name, this->topic("assignments"), placement.error().text());
    }
  }
  const auto placed = place(instances, present, members_->alive());
  const auto told = [](const std::string& name, const Error& error) {
    // Busy: another one leads by now, and knows better.
    if (error.code() != Code::busy && !error.cancelled())
      log::warn(kPart, "placing {}: {}", name, error.text());
  };
  for (const auto& [name, placement] : placed) {
    const auto before = present.find(name);
    if (before != present.end() && before->second == placement) continue;
    const auto version = versions.find(name);
    const auto put = co_await topic->put(name, encode_placement(placement),
                                         version == versions.end() ? 0 : version->second);
    if (!put) told(name, put.error());
  }
  for (const auto& [name, version] : versions) {
    if (instances.contains(name)) continue;
    const auto removed = co_await topic->remove(name, version);
    if (!removed) told(name, removed.error());
  }
}

// Records of instances that were stored while their component was being forgotten.
aio::Task<void> Worker::forget_orphans() {
  const auto topic = remembered_.instances;
  std::vector<std::string> orphans;
  for (const auto& [key, stored] : topic->values()) {
    if (remembered_.components->find(key.substr(0, key.rfind('/'))) == nullptr)
      orphans.push_back(key);
  }
  for (const auto& key : orphans) {
    const auto removed = co_await topic->remove(key);
    if (!removed && !removed.error().cancelled())
      log::warn(kPart, "forgetting {}: {}", key, removed.error().text());
  }
}

// Whether some could not be because an instance has not ended yet.
aio::Task<bool> Worker::drop_subscriptions() {
  std::vector<std::string> due;
  bool waits = false;
  if (!components_) co_return false;
  for (const auto& [name, stored] : components_->values()) {
    // Cheap first: most components were never deleted.
    if (stored.value.find("dropSubscriptionMs") == std::string::npos) continue;
    const auto later = drop_retry_.find(name);
    if (later != drop_retry_.end() && aio::Clock::now() < later->second.at) continue;
    const auto record = ComponentRecord::decode(stored.value);
    if (record && record->drop_subscription_ms && *record->drop_subscription_ms <= aio::wall_ms())
      due.push_back(name);
  }
  for (const auto& name : due) {
    const auto turn = co_await take_turn(name);
    const auto* stored = components_ ? components_->find(name) : nullptr;
    if (stored == nullptr) continue;
    const auto record = ComponentRecord::decode(stored->value);
    if (!record || !record->drop_subscription_ms) continue;  // it came back
    if (!ended_everywhere(name)) {
      waits = true;
      continue;
    }
    std::vector<std::string> notes;
    const auto component = parse_component(record->kind, record->config, notes);
    if (component && component->leaves_position()) {
      const auto dropped = co_await drop_position(*component);
      if (!dropped) {
        // Somebody else may still consume with it: not each second.
        drop_retry_.insert_or_assign(name,
                                     DropRetry{aio::Clock::now() + kDropRetry, dropped.error()});
        changed_.notify();
        if (!dropped.error().cancelled())
          log::warn(
              kPart,
              "the position of the deleted {} stays for now, and is tried again in a minute: {}",
              name, dropped.error().text());
        continue;
      }
    }
    const auto forgotten = co_await forget(name);
    if (!forgotten && !forgotten.error().cancelled())
      log::warn(kPart, "forgetting {}: {}", name, forgotten.error().text());
  }
  co_return waits;
}

}  // namespace hulse::runtime

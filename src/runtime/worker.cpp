// Worker's life: what it remembers, what runs of it, and what deleted components leave behind.
#include <boost/json.hpp>
#include <charconv>

#include "aio/backoff.h"
#include "aio/offload.h"
#include "base/log.h"
#include "client/topic_finder.h"
#include "runtime/bus_id.h"
#include "runtime/worker_parts.h"

namespace hulse::runtime {
namespace {

namespace json = boost::json;

constexpr std::string_view kPart = "worker";
constexpr const char* kInstances = "persistent://public/functions/hulse-instances";
constexpr auto kLookAfter = std::chrono::seconds(1);
constexpr auto kDropRetry = std::chrono::minutes(1);
constexpr auto kReadyWait = std::chrono::seconds(10);

std::string instance_key(const std::string& name, unsigned index) {
  return fmt::format("{}/{}", name, index);
}

aio::Task<void> run_instance(std::shared_ptr<Instance> instance) { co_await instance->run(); }

}  // namespace

Worker::Worker(WorkerOptions options, aio::Executor executor, aio::Threads& threads)
    : options_(std::move(options)),
      executor_(executor),
      threads_(threads),
      gate_(executor),
      changed_(executor) {}

Worker::~Worker() = default;

void Worker::start() { gate_.spawn("worker", run()); }

aio::Task<void> Worker::stop() { co_await gate_.close(); }

aio::Task<void> Worker::wait_ready() {
  const auto until = aio::Clock::now() + kReadyWait;
  while (!ready() && !trouble_ && aio::Clock::now() < until) {
    const bool woken = co_await changed_.wait_until(until);
    if (!woken) co_return;
  }
}

// ---- its life

aio::Task<void> Worker::run() {
  aio::Backoff backoff({std::chrono::milliseconds(200), std::chrono::seconds(30)});
  for (;;) {
    const auto loaded = co_await load();
    if (loaded) {
      backoff.reset();
      co_await look_after();
    } else if (!loaded.error().cancelled()) {
      trouble_ = loaded.error();
      changed_.notify();
      log::warn(kPart, "sources and sinks cannot be managed yet: {}", loaded.error().text());
    }
    const bool stopping = gate_.closing();
    co_await aio::start_cleanup();
    co_await unload();
    if (stopping || gate_.closing()) co_return;
    const bool slept = co_await aio::sleep(backoff.next());
    if (!slept) co_return;
  }
}

aio::Task<Result<void>> Worker::load() {
  auto client = client::Client::make(executor_, options_.client);
  if (!client) co_return client.error();
  client_ = std::move(*client);
  auto id = co_await bus_id(*client_);
  if (!id) co_return id.error();
  bus_ = {options_.client, std::move(*id)};
  const auto components =
      co_await client::KeyValueTopic::open(*client_, {.topic = kComponentsTopic});
  if (!components) co_return components.error().with("reading the components");
  const auto counters = co_await client::KeyValueTopic::open(*client_, {.topic = kInstances});
  if (!counters) {
    co_await aio::start_cleanup();
    co_await (*components)->close();
    co_return counters.error().with("reading the counters");
  }
  counters_topic_ = *counters;
  std::vector<std::string> orphans;
  for (const auto& [key, value] : counters_topic_->values()) {
    const size_t slash = key.rfind('/');
    unsigned index = 0;
    const auto* end = key.data() + key.size();
    if (slash == std::string::npos ||
        std::from_chars(key.data() + slash + 1, end, index).ptr != end) {
      log::warn(kPart, "{} holds the key {}, which names no instance", kInstances, key);
      continue;
    }
    if ((*components)->find(key.substr(0, slash)) == nullptr) {
      // Stored while its component was being forgotten.
      orphans.push_back(key);
      continue;
    }
    auto read = decode_counters(value.value);
    if (!read) {
      log::warn(kPart, "{}: {} begins at 0: {}", kInstances, key, read.error().text());
      continue;
    }
    // What was in flight when the process ended was given back by that.
    read->returned += std::exchange(read->in_flight, 0);
    managed(key.substr(0, slash))->counters[index] = *read;
  }
  for (const auto& key : orphans) {
    const auto removed = co_await counters_topic_->remove(key);
    if (!removed && !removed.error().cancelled())
      log::warn(kPart, "forgetting the counters of {}: {}", key, removed.error().text());
  }
  components_ = *components;
  trouble_.reset();
  changed_.notify();
  std::vector<std::string> names;
  for (const auto& [name, value] : components_->values()) names.push_back(name);
  if (!names.empty()) log::info(kPart, "{} components are known", names.size());
  for (const auto& name : names) {
    const auto turn = co_await take_turn(name);
    co_await apply(name);
  }
  co_return Result<void>();
}

// Until what it remembers with has failed, or it is stopped.
aio::Task<void> Worker::look_after() {
  for (;;) {
    const bool slept = co_await aio::sleep(kLookAfter);
    if (!slept) co_return;
    for (const auto& topic : {components_, counters_topic_}) {
      if (topic->failed()) {
        log::error(kPart, "{}", topic->failed()->text());
        trouble_ = topic->failed();
        co_return;
      }
      if (!topic->snapshot_due()) continue;
      const auto done = co_await topic->snapshot();
      if (!done && !done.error().cancelled())
        log::warn(kPart, "a snapshot of what is remembered: {}", done.error().text());
    }
    co_await store_counters();
    co_await drop_subscriptions();
  }
}

aio::Task<void> Worker::unload() {
  // Nobody may manage what is going.
  const auto components = std::exchange(components_, nullptr);
  const auto all = managed_;
  for (const auto& [name, component] : all) {
    for (auto& [index, slot] : component->slots) slot.gate->cancel();
  }
  for (const auto& [name, component] : all) co_await end_slots(component, component->running());
  if (counters_topic_ && !counters_topic_->failed()) co_await store_counters();
  managed_.clear();
  if (counters_topic_) co_await counters_topic_->close();
  counters_topic_.reset();
  if (components) co_await components->close();
  if (client_) co_await client_->stop();
  client_.reset();
}

// ---- bringing what runs in line with what is remembered; in the component's turn

aio::Task<void> Worker::apply(std::string name) {
  const auto* stored = components_ ? components_->find(name) : nullptr;
  std::optional<ComponentRecord> record;
  if (stored != nullptr) {
    auto decoded = ComponentRecord::decode(stored->value);
    if (decoded) {
      record = std::move(*decoded);
    } else {
      log::error(kPart, "{} of {}: {}", name, kComponentsTopic, decoded.error().text());
    }
  }
  if (!record && !managed_.contains(name)) co_return;
  const auto managed = this->managed(name);
  const bool gone = !record || record->drop_subscription_ms;
  std::shared_ptr<const Component> wanted;
  std::optional<Error> refused;
  if (!gone) {
    std::vector<std::string> notes;
    auto parsed = parse_component(record->kind, record->config, notes);
    if (parsed) {
      for (const auto& note : notes) log::info(kPart, "{}: {}", name, note);
      wanted = std::make_shared<const Component>(std::move(*parsed));
    } else {
      log::error(kPart, "{} does not run: {}", name, parsed.error().text());
      refused = parsed.error();
    }
  }
  const bool replaced = !wanted || !managed->component || managed->config != record->config;
  std::vector<unsigned> ending;
  for (const auto& [index, slot] : managed->slots) {
    const bool keeps = !replaced && index < wanted->parallelism && !record->stopped.contains(index);
    if (!keeps) ending.push_back(index);
  }
  co_await end_slots(managed, ending);
  // The worker went meanwhile, or has loaded anew: then that brings it in line.
  const auto now = managed_.find(name);
  if (!components_ || now == managed_.end() || now->second != managed) co_return;
  managed->component = wanted;
  managed->refused = refused;
  managed->config = record ? record->config : json::object();
  if (!wanted) co_return;
  for (unsigned index = 0; index < wanted->parallelism; ++index) {
    if (record->stopped.contains(index) || managed->slots.contains(index)) continue;
    Slot slot{threads_.next(), nullptr, std::make_unique<aio::Gate>(executor_)};
    slot.instance = make_instance(wanted, index, bus_, slot.strand, managed->counters[index]);
    slot.gate->spawn("instance of " + name, aio::on(slot.strand, run_instance(slot.instance)));
    managed->slots.emplace(index, std::move(slot));
  }
}

// All at once: each may take seconds to write what it holds.
aio::Task<void> Worker::end_slots(std::shared_ptr<Managed> managed, std::vector<unsigned> indexes) {
  // Of two that end one the second finds it gone.
  std::vector<decltype(managed->slots)::node_type> ending;
  for (const unsigned index : indexes) {
    if (auto node = managed->slots.extract(index)) ending.push_back(std::move(node));
  }
  for (const auto& node : ending) node.mapped().gate->cancel();
  for (const auto& node : ending) {
    const auto& slot = node.mapped();
    co_await slot.gate->close();
    const auto status = co_await aio::on(slot.strand, status_of(slot.instance));
    managed->counters[node.key()] = status.counters;
    managed->unstored.insert(node.key());
  }
}

aio::Task<void> Worker::store_counters() {
  const auto all = managed_;
  for (const auto& [name, component] : all) {
    std::map<unsigned, std::pair<aio::Executor, std::shared_ptr<Instance>>> running;
    for (const auto& [index, slot] : component->slots)
      running.emplace(index, std::pair(slot.strand, slot.instance));
    for (const auto& [index, where] : running) {
      const auto status = co_await aio::on(where.first, status_of(where.second));
      auto& kept = component->counters[index];
      if (kept == status.counters) continue;
      kept = status.counters;
      component->unstored.insert(index);
    }
    for (const unsigned index : std::exchange(component->unstored, {})) {
      const auto topic = counters_topic_;
      const auto known = managed_.find(name);
      // Forgotten meanwhile: what was counted goes with it.
      if (!topic || known == managed_.end() || known->second != component) break;
      const auto key = instance_key(name, index);
      const auto put = co_await topic->put(key, encode_counters(component->counters[index]));
      if (put) continue;
      component->unstored.insert(index);  // with the next look
      if (!put.error().cancelled())
        log::warn(kPart, "remembering the counters of {}: {}", key, put.error().text());
    }
  }
}

// ---- what deleted components leave behind

aio::Task<void> Worker::drop_subscriptions() {
  std::vector<std::string> due;
  for (const auto& [name, stored] : components_->values()) {
    // Cheap first: most components were never deleted.
    if (stored.value.find("dropSubscriptionMs") == std::string::npos) continue;
    const auto later = drop_retry_.find(name);
    if (later != drop_retry_.end() && aio::Clock::now() < later->second) continue;
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
    std::vector<std::string> notes;
    const auto component = parse_component(record->kind, record->config, notes);
    if (component && component->kind == connect::Kind::sink && component->cleanup_subscription) {
      const auto dropped = co_await unsubscribe(*component);
      if (!dropped) {
        // Somebody else may still consume with it: not each second.
        drop_retry_[name] = aio::Clock::now() + kDropRetry;
        if (!dropped.error().cancelled())
          log::warn(kPart, "the subscription of the deleted sink {} stays for now: {}", name,
                    dropped.error().text());
        continue;
      }
    }
    const auto forgotten = co_await forget(name);
    if (!forgotten && !forgotten.error().cancelled())
      log::warn(kPart, "forgetting {}: {}", name, forgotten.error().text());
  }
}

aio::Task<Result<void>> Worker::forget_counters(std::string name) {
  const auto counters = counters_topic_;
  if (!counters) co_return not_ready();
  std::vector<std::string> keys;
  for (auto at = counters->values().lower_bound(name + "/");
       at != counters->values().end() && at->first.starts_with(name + "/"); ++at) {
    keys.push_back(at->first);
  }
  managed_.erase(name);
  for (const auto& key : keys) {
    const auto removed = co_await counters->remove(key);
    if (!removed) co_return removed.error();
  }
  co_return Result<void>();
}

aio::Task<Result<void>> Worker::forget(std::string name) {
  const auto components = components_;
  if (!components) co_return not_ready();
  drop_retry_.erase(name);
  const auto forgotten = co_await forget_counters(name);
  if (!forgotten) co_return forgotten.error();
  const auto removed = co_await components->remove(name);
  if (!removed) co_return removed.error();
  co_return Result<void>();
}

aio::Task<Result<void>> Worker::unsubscribe(const Component& component) {
  const auto shared = std::make_shared<const Component>(component);
  // The worker may go, or load anew, in the middle of this.
  const auto client = client_;
  if (!client) co_return not_ready();
  auto finder = client::TopicFinder::make(
      *client, {.topics = shared->inputs, .pattern = shared->topics_pattern});
  if (!finder) co_return finder.error();
  const auto topics = co_await (*finder)->find();
  if (!topics) co_return topics.error();
  for (const auto& topic : *topics) {
    client::ConsumerOptions options;
    options.topic = topic;
    options.subscription = shared->subscription;
    options.type = shared->subscription_type();
    const auto consumer = co_await client->subscribe(std::move(options));
    if (!consumer) co_return consumer.error();
    const auto gone = co_await (*consumer)->unsubscribe();
    co_await (*consumer)->close();
    if (!gone) co_return gone.error();
    log::info(kPart, "the subscription {} of {} went with its sink", shared->subscription, topic);
  }
  co_return Result<void>();
}

}  // namespace hulse::runtime

#include "runtime/worker.h"

#include <boost/json.hpp>
#include <charconv>
#include <set>

#include "aio/backoff.h"
#include "aio/offload.h"
#include "base/log.h"
#include "base/text.h"
#include "client/topic_finder.h"
#include "runtime/bus_id.h"
#include "runtime/component_edit.h"

namespace hulse::runtime {
namespace {

namespace json = boost::json;

constexpr std::string_view kPart = "worker";
constexpr const char* kComponents = "persistent://public/functions/hulse-components";
constexpr const char* kInstances = "persistent://public/functions/hulse-instances";
constexpr auto kLookAfter = std::chrono::seconds(1);
constexpr auto kDropRetry = std::chrono::minutes(1);
constexpr auto kReadyWait = std::chrono::seconds(10);

std::string title(connect::Kind kind) { return kind == connect::Kind::sink ? "Sink" : "Source"; }

Error missing(connect::Kind kind, const ComponentName& name, bool for_update) {
  // As Pulsar: only an update of what is not there is the caller's mistake.
  return Error(for_update ? Code::invalid : Code::not_found,
               fmt::format("{} {} doesn't exist", title(kind), name.name));
}

std::string instance_key(const std::string& name, unsigned index) {
  return fmt::format("{}/{}", name, index);
}

aio::Task<Status> status_of(std::shared_ptr<Instance> instance) { co_return instance->status(); }
aio::Task<void> run_instance(std::shared_ptr<Instance> instance) { co_await instance->run(); }

}  // namespace

struct Worker::Slot {
  aio::Executor strand;
  std::shared_ptr<Instance> instance;
  std::unique_ptr<aio::Gate> gate;  // holds its run
};

struct Worker::Managed {
  std::shared_ptr<const Component> component;  // that runs
  json::object config;                         // it was made of
  std::map<unsigned, Slot> slots;
  std::map<unsigned, Counters> counters;  // as they were last
  std::set<unsigned> unstored;            // counters that are newer than what is stored
};

// One change of a component at a time; others wait for theirs.
class Worker::Turn {
 public:
  Turn(Worker& worker, std::string name) : worker_(&worker), name_(std::move(name)) {}
  Turn(Turn&& other) noexcept
      : worker_(std::exchange(other.worker_, nullptr)), name_(std::move(other.name_)) {}
  Turn& operator=(Turn&&) = delete;
  ~Turn() {
    if (worker_ == nullptr) return;
    worker_->turns_.erase(name_);
    worker_->changed_.notify();
  }

 private:
  Worker* worker_;
  std::string name_;
};

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
  const auto components = co_await client::KeyValueTopic::open(*client_, {.topic = kComponents});
  if (!components) co_return components.error().with("reading the components");
  const auto counters = co_await client::KeyValueTopic::open(*client_, {.topic = kInstances});
  if (!counters) {
    co_await aio::start_cleanup();
    co_await (*components)->close();
    co_return counters.error().with("reading the counters");
  }
  counters_topic_ = *counters;
  for (const auto& [key, value] : counters_topic_->values()) {
    const size_t slash = key.rfind('/');
    unsigned index = 0;
    const auto* end = key.data() + key.size();
    if (slash == std::string::npos ||
        std::from_chars(key.data() + slash + 1, end, index).ptr != end) {
      log::warn(kPart, "{} holds the key {}, which names no instance", kInstances, key);
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
  for (const auto& [name, component] : all) {
    while (!component->slots.empty()) co_await end_slot(component, component->slots.begin()->first);
  }
  if (counters_topic_ && !counters_topic_->failed()) co_await store_counters();
  managed_.clear();
  if (counters_topic_) co_await counters_topic_->close();
  counters_topic_.reset();
  if (components) co_await components->close();
  if (client_) co_await client_->stop();
  client_.reset();
}

// ---- management

std::shared_ptr<Worker::Managed> Worker::managed(const std::string& name) {
  auto& known = managed_[name];
  if (!known) known = std::make_shared<Managed>();
  return known;
}

aio::Task<Worker::Turn> Worker::take_turn(std::string name) {
  while (!turns_.insert(name).second) co_await changed_.wait_uncancelled();
  co_return Turn(*this, name);
}

Error Worker::not_ready() const {
  return Error(Code::unavailable,
               fmt::format("Function worker service is not done initializing. Please try again in "
                           "a little while.{}",
                           trouble_ ? " (" + trouble_->text() + ")" : ""));
}

Result<Worker::Found> Worker::find(connect::Kind kind, const ComponentName& name,
                                   bool for_update) const {
  if (!components_) return not_ready();
  const auto* stored = components_->find(name.text());
  if (stored == nullptr) return missing(kind, name, for_update);
  auto record = ComponentRecord::decode(stored->value);
  if (!record) return record.error().with(fmt::format("{} of {}", name.text(), kComponents));
  if (record->kind != kind || record->drop_subscription_ms) return missing(kind, name, for_update);
  return Found{std::move(*record), stored->version};
}

aio::Task<Result<void>> Worker::store(ComponentName name, ComponentRecord record,
                                      uint64_t replaces) {
  const auto components = components_;
  if (!components) co_return not_ready();
  const auto put = co_await components->put(name.text(), record.encode(), replaces);
  if (put) co_return Result<void>();
  if (put.error().code() == Code::busy) {
    co_return Error(
        Code::busy,
        fmt::format("{} was changed by somebody else just now; look and try again", name.text()));
  }
  co_return put.error().with("remembering " + name.text());
}

aio::Task<Result<std::vector<std::string>>> Worker::create(connect::Kind kind, ComponentName name,
                                                           json::object config, bool dry_run) {
  const auto turn = co_await take_turn(name.text());
  if (!components_) co_return not_ready();
  config["tenant"] = name.tenant;
  config["namespace"] = name.name_space;
  config["name"] = name.name;
  std::vector<std::string> notes;
  const auto component = parse_component(kind, config, notes);
  if (!component) co_return component.error();
  uint64_t replaces = 0;
  std::optional<ComponentRecord> before;
  if (const auto* stored = components_->find(name.text())) {
    auto record = ComponentRecord::decode(stored->value);
    if (!record) co_return record.error();
    if (!record->drop_subscription_ms) {
      co_return Error(Code::invalid, fmt::format("{} {} already exists", title(kind), name.name));
    }
    replaces = stored->version;
    before = std::move(*record);
  }
  if (dry_run) co_return notes;
  if (before) {
    // It comes back within the grace time: where it was, if it reads the same.
    std::vector<std::string> ignored;
    const auto was = parse_component(before->kind, before->config, ignored);
    const bool other =
        was &&
        (kind != before->kind || was->subscription != component->subscription ||
         was->inputs != component->inputs || was->topics_pattern != component->topics_pattern);
    if (other && before->kind == connect::Kind::sink) {
      const auto dropped = co_await unsubscribe(*was);
      if (!dropped) co_return dropped.error();
    } else if (was && kind == connect::Kind::sink) {
      notes.push_back(fmt::format(
          "it goes on where the deleted sink of that name was (delete it with --drop-subscription "
          "to begin anew)"));
    }
  }
  ComponentRecord record;
  record.kind = kind;
  record.config = std::move(config);
  record.created_ms = record.modified_ms = aio::wall_ms();
  const auto stored = co_await store(name, std::move(record), replaces);
  if (!stored) co_return stored.error();
  co_await apply(name.text());
  co_return notes;
}

aio::Task<Result<std::vector<std::string>>> Worker::update(connect::Kind kind, ComponentName name,
                                                           json::object config, bool dry_run) {
  const auto turn = co_await take_turn(name.text());
  auto found = find(kind, name, true);
  if (!found) co_return found.error();
  std::vector<std::string> notes;
  auto merged = merge_component(kind, found->record.config, config);
  const auto component = parse_component(kind, merged, notes);
  if (!component) co_return component.error();
  const auto was = parse_component(kind, found->record.config, notes);
  auto changes = was ? component_changes({*was, found->record.config}, {*component, merged})
                     : Result<std::vector<std::string>>(std::vector<std::string>{
                           "the configuration, which this version of Hulse did not take"});
  if (!changes || dry_run) co_return changes;
  auto record = std::move(found->record);
  record.config = std::move(merged);
  record.modified_ms = aio::wall_ms();
  std::erase_if(record.stopped, [&](unsigned index) { return index >= component->parallelism; });
  const auto stored = co_await store(name, std::move(record), found->version);
  if (!stored) co_return stored.error();
  co_await apply(name.text());
  co_return changes;
}

aio::Task<Result<void>> Worker::remove(connect::Kind kind, ComponentName name,
                                       bool drop_subscription) {
  const auto turn = co_await take_turn(name.text());
  auto found = find(kind, name, false);
  if (!found) co_return found.error();
  std::vector<std::string> notes;
  const auto component = parse_component(kind, found->record.config, notes);
  const bool drops = component && kind == connect::Kind::sink && component->cleanup_subscription;
  const auto grace = drop_subscription ? std::chrono::milliseconds(0) : options_.subscription_grace;
  auto record = found->record;
  record.drop_subscription_ms = aio::wall_ms() + grace.count();
  record.stopped.clear();
  // First remembered, then done: a kill in between leaves nothing half deleted.
  const auto stored = co_await store(name, record, found->version);
  if (!stored) co_return stored.error();
  co_await apply(name.text());
  if (!drops) co_return co_await forget(name.text());
  if (!drop_subscription) co_return Result<void>();
  const auto dropped = co_await unsubscribe(*component);
  if (!dropped) co_return dropped.error();
  co_return co_await forget(name.text());
}

aio::Task<Result<void>> Worker::act(connect::Kind kind, ComponentName name, Verb verb,
                                    std::optional<unsigned> index) {
  const auto turn = co_await take_turn(name.text());
  auto found = find(kind, name, false);
  if (!found) co_return found.error();
  std::vector<std::string> notes;
  const auto component = parse_component(kind, found->record.config, notes);
  if (!component) co_return component.error();
  if (index && *index >= component->parallelism) {
    co_return Error(Code::invalid,
                    fmt::format("{} {} has no instance {}: there are {}, counted from 0",
                                title(kind), name.name, *index, component->parallelism));
  }
  auto record = std::move(found->record);
  const auto before = record.stopped;
  std::vector<unsigned> chosen;
  for (unsigned i = 0; i < component->parallelism; ++i) {
    if (!index || *index == i) chosen.push_back(i);
  }
  for (const unsigned i : chosen) {
    if (verb == Verb::stop) {
      record.stopped.insert(i);
    } else {
      record.stopped.erase(i);
    }
  }
  const bool changed = record.stopped != before;
  if (changed) {
    record.modified_ms = aio::wall_ms();
    const auto stored = co_await store(name, record, found->version);
    if (!stored) co_return stored.error();
  }
  const auto component_now = managed(name.text());
  for (const unsigned i : chosen) {
    // Starting what has failed is starting it anew.
    const auto slot = component_now->slots.find(i);
    const bool ended = slot != component_now->slots.end() && slot->second.gate->running() == 0;
    if (verb == Verb::restart || (verb == Verb::start && ended))
      co_await end_slot(component_now, i);
  }
  co_await apply(name.text());
  co_return Result<void>();
}

Result<json::object> Worker::config(connect::Kind kind, const ComponentName& name) const {
  const auto found = find(kind, name, false);
  if (!found) return found.error();
  std::vector<std::string> notes;
  const auto component = parse_component(kind, found->record.config, notes);
  if (!component) {
    // A later version wrote it, or an option has gone: it is shown as far as that is safe.
    auto shown = found->record.config;
    shown["configs"] =
        config::redacted({}, shown.contains("configs") && shown["configs"].is_object()
                                 ? shown["configs"].get_object()
                                 : json::object());
    shown.erase("secrets");
    return shown;
  }
  return shown_component(*component, found->record.config);
}

Result<std::vector<std::string>> Worker::list(connect::Kind kind, const std::string& tenant,
                                              const std::string& name_space) const {
  if (!components_) return not_ready();
  const std::string prefix = tenant + "/" + name_space + "/";
  std::vector<std::string> names;
  for (auto at = components_->values().lower_bound(prefix);
       at != components_->values().end() && at->first.starts_with(prefix); ++at) {
    const auto record = ComponentRecord::decode(at->second.value);
    if (!record || record->kind != kind || record->drop_subscription_ms) continue;
    names.push_back(at->first.substr(prefix.size()));
  }
  return names;
}

aio::Task<Result<std::vector<InstanceStatus>>> Worker::status(connect::Kind kind,
                                                              ComponentName name) {
  const auto found = find(kind, name, false);
  if (!found) co_return found.error();
  std::vector<std::string> notes;
  const auto component = parse_component(kind, found->record.config, notes);
  const unsigned count = component ? component->parallelism : 1;
  const auto now = managed(name.text());
  std::vector<InstanceStatus> all;
  for (unsigned index = 0; index < count; ++index) {
    InstanceStatus one{index, {}};
    const auto running = now->slots.find(index);
    if (running != now->slots.end()) {
      const auto strand = running->second.strand;
      const auto instance = running->second.instance;
      one.status = co_await aio::on(strand, status_of(instance));
    } else {
      const auto kept = now->counters.find(index);
      if (kept != now->counters.end()) one.status.counters = kept->second;
      one.status.state = component ? State::stopped : State::failed;
      if (!component) one.status.reason = component.error().text();
      const bool wanted = component && !found->record.stopped.contains(index);
      if (wanted) one.status.state = State::starting;
    }
    all.push_back(std::move(one));
  }
  co_return all;
}

aio::Task<std::vector<Worker::Everything>> Worker::everything() {
  std::vector<std::pair<ComponentName, connect::Kind>> known;
  if (components_) {
    for (const auto& [key, stored] : components_->values()) {
      const auto record = ComponentRecord::decode(stored.value);
      const auto parts = split(key, '/');
      if (!record || record->drop_subscription_ms || parts.size() != 3) continue;
      known.emplace_back(
          ComponentName{std::string(parts[0]), std::string(parts[1]), std::string(parts[2])},
          record->kind);
    }
  }
  std::vector<Everything> all;
  for (const auto& [name, kind] : known) {
    const auto instances = co_await status(kind, name);
    if (!instances) continue;  // it was deleted just now
    for (const auto& instance : *instances) all.push_back({name, kind, instance});
  }
  co_return all;
}

std::vector<std::string> Worker::assigned() const {
  std::vector<std::string> out;
  for (const auto& [name, component] : managed_) {
    for (const auto& [index, slot] : component->slots)
      out.push_back(fmt::format("{}:{}", name, index));
  }
  return out;
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
      log::error(kPart, "{} of {}: {}", name, kComponents, decoded.error().text());
    }
  }
  if (!record && !managed_.contains(name)) co_return;
  const auto managed = this->managed(name);
  const bool gone = !record || record->drop_subscription_ms;
  std::shared_ptr<const Component> wanted;
  if (!gone) {
    std::vector<std::string> notes;
    auto parsed = parse_component(record->kind, record->config, notes);
    if (parsed) {
      for (const auto& note : notes) log::info(kPart, "{}: {}", name, note);
      wanted = std::make_shared<const Component>(std::move(*parsed));
    } else {
      log::error(kPart, "{} does not run: {}", name, parsed.error().text());
    }
  }
  const bool replaced = !wanted || !managed->component || managed->config != record->config;
  std::vector<unsigned> ending;
  for (const auto& [index, slot] : managed->slots) {
    const bool keeps = !replaced && index < wanted->parallelism && !record->stopped.contains(index);
    if (!keeps) ending.push_back(index);
  }
  for (const unsigned index : ending) managed->slots.at(index).gate->cancel();  // all at once
  for (const unsigned index : ending) co_await end_slot(managed, index);
  // The worker went meanwhile, or has loaded anew: then that brings it in line.
  const auto now = managed_.find(name);
  if (!components_ || now == managed_.end() || now->second != managed) co_return;
  managed->component = wanted;
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

aio::Task<void> Worker::end_slot(std::shared_ptr<Managed> managed, unsigned index) {
  const auto at = managed->slots.find(index);
  if (at == managed->slots.end()) co_return;
  // Of two that end it the second one finds it gone.
  auto node = managed->slots.extract(at);
  auto& slot = node.mapped();
  co_await slot.gate->close();
  const auto status = co_await aio::on(slot.strand, status_of(slot.instance));
  managed->counters[index] = status.counters;
  managed->unstored.insert(index);
}

aio::Task<void> Worker::store_counters() {
  const auto all = managed_;
  std::map<std::string, std::string> changed;
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
    for (const unsigned index : std::exchange(component->unstored, {}))
      changed[instance_key(name, index)] = encode_counters(component->counters[index]);
  }
  for (const auto& [key, value] : changed) {
    const auto topic = counters_topic_;
    if (!topic || !managed_.contains(key.substr(0, key.rfind('/')))) continue;
    const auto put = co_await topic->put(key, value);
    if (!put && !put.error().cancelled())
      log::warn(kPart, "remembering the counters of {}: {}", key, put.error().text());
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

aio::Task<Result<void>> Worker::forget(std::string name) {
  const auto components = components_;
  const auto counters = counters_topic_;
  if (!components || !counters) co_return not_ready();
  std::vector<std::string> keys;
  for (auto at = counters->values().lower_bound(name + "/");
       at != counters->values().end() && at->first.starts_with(name + "/"); ++at) {
    keys.push_back(at->first);
  }
  managed_.erase(name);
  drop_retry_.erase(name);
  for (const auto& key : keys) {
    const auto removed = co_await counters->remove(key);
    if (!removed) co_return removed.error();
  }
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

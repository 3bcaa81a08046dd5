// Worker's life: what it remembers with, and what runs here.
#include <boost/json.hpp>

#include "aio/backoff.h"
#include "aio/offload.h"
#include "base/log.h"
#include "runtime/sealing.h"
#include "runtime/worker_parts.h"

namespace hulse::runtime {
namespace {

namespace json = boost::json;

constexpr std::string_view kPart = "worker";
constexpr auto kLookAfter = std::chrono::seconds(1);
constexpr auto kReadyWait = std::chrono::seconds(10);
// How long an instance waits for a living worker to end it, before it starts all the same.
constexpr auto kHandOverMax = std::chrono::seconds(15);
constexpr auto kStoreRetry = std::chrono::seconds(1);

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

std::string Worker::topic(std::string_view name) const {
  return fmt::format("persistent://{}/hulse-{}", options_.name_space, name);
}

std::vector<std::shared_ptr<client::KeyValueTopic>> Worker::Remembered::all() const {
  std::vector<std::shared_ptr<client::KeyValueTopic>> open;
  for (const auto& topic : {components, assignments, instances}) {
    if (topic) open.push_back(topic);
  }
  return open;
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
    if (stopping || gate_.closing() || superseded_) co_return;
    const bool slept = co_await aio::sleep(backoff.next());
    if (!slept) co_return;
  }
}

aio::Task<Result<void>> Worker::load() {
  auto client = client::Client::make(executor_, options_.client);
  if (!client) co_return client.error();
  client_ = std::move(*client);
  // Asked once, so that whoever waits hears soon that there is none.
  const auto reached = co_await client_->connect();
  if (!reached) co_return reached.error().with("no broker at " + options_.client.service_url);
  auto id = co_await bus_id(*client_, options_.name_space);
  if (!id) co_return id.error();
  bus_ = {std::make_shared<Clients>(options_.client), std::move(*id), options_.name_space,
          options_.secret_sources};
  const std::pair<std::string, std::shared_ptr<client::KeyValueTopic>*> topics[] = {
      {topic("components"), &remembered_.components},
      {topic("assignments"), &remembered_.assignments},
      {topic("instances"), &remembered_.instances}};
  for (const auto& [name, where] : topics) {
    const auto opened = co_await client::KeyValueTopic::open(*client_, {.topic = name});
    if (!opened) co_return opened.error();
    *where = *opened;
  }
  MembersOptions joining;
  joining.name_space = options_.name_space;
  joining.self = {.id = options_.id, .host = options_.host, .port = options_.port};
  joining.beat = options_.beat;
  joining.silence = options_.silence;
  const auto members = co_await Members::join(*client_, std::move(joining));
  if (!members) co_return members.error();
  members_ = *members;
  components_ = remembered_.components;
  trouble_.reset();
  leads_ = false;
  if (const size_t count = components_->values().size(); count > 0)
    log::info(kPart, "{} components are known", count);
  work_ = std::make_unique<aio::Gate>(executor_);
  for (const auto& [name, where] : topics) work_->spawn("following " + name, follow(*where));
  work_->spawn("following the workers", follow_members(members_));
  work_->spawn("what runs here", watch());
  work_->spawn("what runs where", lead());
  ++news_;
  changed_.notify();
  co_return Result<void>();
}

// Until what it remembers with has failed, or it is stopped, or no member any more.
aio::Task<void> Worker::look_after() {
  for (;;) {
    const auto until = aio::Clock::now() + kLookAfter;
    while (!members_->out() && aio::Clock::now() < until) {
      co_await changed_.wait_until(until);
      const bool stopped = co_await aio::cancelled();
      if (stopped) co_return;
    }
    for (const auto& topic : remembered_.all()) {
      if (!topic->failed()) continue;
      log::error(kPart, "{}", topic->failed()->text());
      trouble_ = topic->failed();
      co_return;
    }
    if (members_->out()) {
      trouble_ = members_->out();
      if (trouble_->code() == Code::busy) superseded_ = trouble_;
      co_return;
    }
    co_await store_statuses();
    co_await close_idle_states();
  }
}

aio::Task<void> Worker::unload() {
  // Nobody may manage what is going.
  components_.reset();
  const auto all = managed_;
  for (const auto& [name, component] : all) {
    for (auto& [index, slot] : component->slots) slot->gate->cancel();
  }
  if (work_) co_await work_->close();
  work_.reset();
  for (const auto& [name, component] : all)
    co_await end_slots(component, name, component->running());
  if (remembered_.instances && !remembered_.instances->failed()) co_await store_statuses();
  managed_.clear();
  co_await close_states();
  if (bus_.clients) co_await bus_.clients->stop();
  bus_ = {};
  if (members_) co_await members_->leave();
  members_.reset();
  for (const auto& topic : remembered_.all()) co_await topic->close();
  remembered_ = {};
  if (client_) co_await client_->stop();
  client_.reset();
  changed_.notify();
}

// ---- what has changed

aio::Task<void> Worker::follow(std::shared_ptr<client::KeyValueTopic> topic) {
  // What instances tell is no news, but may be what others wait for.
  const bool news = topic != remembered_.instances;
  while (!topic->failed()) {
    const bool woken = co_await topic->changed().wait();
    if (!woken) co_return;
    if (news) ++news_;
    changed_.notify();
  }
}

aio::Task<void> Worker::follow_members(std::shared_ptr<Members> members) {
  while (!members->out()) {
    const bool woken = co_await members->changed().wait();
    if (!woken) co_return;
    ++news_;
    changed_.notify();
  }
}

aio::Task<void> Worker::watch() {
  uint64_t handled = 0;
  for (;;) {
    handled = news_;
    bring_in_line();
    const auto until = aio::Clock::now() + kLookAfter;
    while (handled == news_ && aio::Clock::now() < until) {
      co_await changed_.wait_until(until);
      const bool stopped = co_await aio::cancelled();
      if (stopped) co_return;
      if (awaiting()) break;
    }
  }
}

bool Worker::awaiting() const {
  return std::any_of(managed_.begin(), managed_.end(),
                     [](const auto& each) { return !each.second->awaited.empty(); });
}

// Starts the work that brings what runs in line with what is remembered.
void Worker::bring_in_line() {
  std::set<std::string> names;
  for (const auto& [name, stored] : components_->values()) names.insert(name);
  for (const auto& [name, component] : managed_) names.insert(name);
  for (const auto& name : names) {
    const auto component = managed(name);
    if (component->applying) continue;
    const bool due =
        std::any_of(component->awaited.begin(), component->awaited.end(),
                    [&](const auto& each) { return may_start(name, each.first, *component); });
    if (component->applied == versions_of(name) && !due) continue;
    component->applying = true;
    work_->spawn("applying " + name, apply_in_turn(name));
  }
}

Worker::Applied Worker::versions_of(const std::string& name) const {
  const auto version = [&](const std::shared_ptr<client::KeyValueTopic>& topic) {
    const auto* stored = topic ? topic->find(name) : nullptr;
    return stored ? stored->version : 0;
  };
  return {version(remembered_.components), version(remembered_.assignments)};
}

aio::Task<void> Worker::apply_in_turn(std::string name) {
  const auto turn = co_await take_turn(name);
  const auto component = managed(name);
  do {
    co_await apply(name);
    const bool stopped = co_await aio::cancelled();
    if (stopped) break;
  } while (components_ && component->applied != versions_of(name));
  component->applying = false;
  changed_.notify();
}

// ---- bringing what runs in line with what is remembered; in the component's turn

aio::Task<void> Worker::apply(std::string name) {
  if (!components_) co_return;
  const auto managed = this->managed(name);
  const auto versions = versions_of(name);
  const auto* stored = components_->find(name);
  const bool known = stored != nullptr;
  std::optional<ComponentRecord> record;
  std::optional<Error> sealed_off;  // its secrets cannot be read
  if (known) {
    auto decoded = ComponentRecord::decode(stored->value);
    if (decoded) {
      auto open = unsealed(*decoded, name, box());
      if (!open) sealed_off = open.error();
      record = open ? std::move(*open) : std::move(*decoded);
    } else {
      log::error(kPart, "{} of {}: {}", name, topic("components"), decoded.error().text());
    }
  }
  const bool gone = !record || record->drop_subscription_ms;
  const auto placement = placement_of(name);
  const auto here = [&](unsigned index) {
    return index < placement.size() && placement[index] == options_.id &&
           !record->stopped.contains(index);
  };
  const auto restart_of = [&](unsigned index) {
    const auto found = record->restarts.find(index);
    return found == record->restarts.end() ? 0 : found->second;
  };
  std::shared_ptr<const Component> wanted;
  std::optional<Error> refused;
  const bool changed = !managed->applied || managed->applied->component != versions.component;
  if (!gone && !changed) {
    wanted = managed->component;
    refused = managed->refused;
  } else if (!gone && sealed_off) {
    log::error(kPart, "{} does not run: {}", name, sealed_off->text());
    refused = sealed_off;
  } else if (!gone) {
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
    const bool keeps = !replaced && !slot->lost && index < wanted->parallelism && here(index) &&
                       slot->restart == restart_of(index);
    if (!keeps) ending.push_back(index);
  }
  co_await end_slots(managed, name, ending);
  // The worker went meanwhile, or has loaded anew: then that brings it in line.
  const auto now = managed_.find(name);
  if (!components_ || now == managed_.end() || now->second != managed) co_return;
  managed->component = wanted;
  managed->refused = refused;
  managed->config = record ? record->config : json::object();
  managed->applied = versions;
  const auto awaited = std::exchange(managed->awaited, {});
  if (!known && managed->kept.empty()) managed_.erase(name);
  if (!wanted) co_return;
  for (unsigned index = 0; index < wanted->parallelism; ++index) {
    if (!here(index) || managed->slots.contains(index)) continue;
    const auto since = awaited.find(index);
    managed->awaited[index] = since == awaited.end() ? aio::Clock::now() : since->second;
    if (!may_start(name, index, *managed)) continue;
    managed->awaited.erase(index);
    const auto slot = std::make_shared<Slot>(threads_.next());
    slot->restart = restart_of(index);
    slot->component = wanted;
    slot->gate = std::make_unique<aio::Gate>(executor_);
    managed->slots.emplace(index, slot);
    slot->gate->spawn("instance of " + name, serve(managed, slot, name, index));
  }
}

Result<InstanceRecord> Worker::instance_record(const std::string& name, unsigned index) const {
  const auto* stored =
      remembered_.instances ? remembered_.instances->find(instance_key(name, index)) : nullptr;
  if (stored == nullptr) return InstanceRecord();
  return InstanceRecord::decode(stored->value);
}

// Whether nobody else runs it, or has had the time to end it.
bool Worker::may_start(const std::string& name, unsigned index, const Managed& managed) const {
  const auto record = instance_record(name, index);
  if (!record || record->ended || record->worker == options_.id) return true;
  if (!members_->alive(record->worker)) return true;
  const auto since = managed.awaited.find(index);
  return since != managed.awaited.end() && aio::Clock::now() - since->second > kHandOverMax;
}

aio::Task<void> Worker::serve(std::shared_ptr<Managed> managed, std::shared_ptr<Slot> slot,
                              std::string name, unsigned index) {
  const bool ours = co_await take_over(managed, name, index);
  if (!ours) {
    // Somebody else was first, or it is to end: it is looked at again.
    slot->lost = true;
    managed->applied.reset();
    ++news_;
    changed_.notify();
    co_return;
  }
  slot->instance = make_instance(slot->component, index, bus_, slot->strand,
                                 managed->kept[index].record.status.counters);
  co_await aio::on(slot->strand, run_instance(slot->instance));
}

// Writes this worker into the instance's record.
aio::Task<bool> Worker::take_over(std::shared_ptr<Managed> managed, std::string name,
                                  unsigned index) {
  const auto topic = remembered_.instances;
  const auto key = instance_key(name, index);
  for (bool again = false;; again = true) {
    const auto* stored = topic->find(key);
    const uint64_t version = stored ? stored->version : 0;
    auto record = instance_record(name, index);
    if (!record) {
      log::warn(kPart, "{} of {}: it begins at 0: {}", key, this->topic("instances"),
                record.error().text());
      record = InstanceRecord();
    }
    if (again && !record->ended && record->worker != options_.id) co_return false;
    record->worker = options_.id;
    record->ended = false;
    record->status.state = State::starting;
    record->status.reason.clear();
    record->status.failures.clear();
    // What was in flight when its last owner ended was given back by that.
    auto& counters = record->status.counters;
    counters.returned += std::exchange(counters.in_flight, 0);
    const auto put = co_await topic->put(key, record->encode(), version);
    if (put) {
      managed->kept[index] = {std::move(*record), *put, true};
      co_return true;
    }
    if (put.error().cancelled()) co_return false;
    if (put.error().code() == Code::busy) continue;
    log::warn(kPart, "taking over {}: {}", key, put.error().text());
    const bool slept = co_await aio::sleep(kStoreRetry);
    if (!slept) co_return false;
  }
}

// All at once: each may take seconds to write what it holds.
aio::Task<void> Worker::end_slots(std::shared_ptr<Managed> managed, std::string name,
                                  std::vector<unsigned> indexes) {
  // Of two that end one the second finds it gone.
  std::map<unsigned, std::shared_ptr<Slot>> ending;
  for (const unsigned index : indexes) {
    const auto found = managed->slots.find(index);
    if (found == managed->slots.end()) continue;
    ending.insert(*found);
    managed->slots.erase(found);
  }
  for (const auto& [index, slot] : ending) slot->gate->cancel();
  for (const auto& [index, slot] : ending) {
    co_await slot->gate->close();
    if (!slot->instance) continue;
    const auto status = co_await aio::on(slot->strand, status_of(slot->instance));
    const auto kept = managed->kept.find(index);
    if (kept == managed->kept.end()) continue;  // it is another worker's
    kept->second.record.status = status;
    kept->second.record.ended = true;
    kept->second.stored = false;
    co_await store_status(managed, name, index);
  }
}

aio::Task<void> Worker::store_statuses() {
  const auto all = managed_;
  for (const auto& [name, component] : all) {
    const auto slots = component->slots;
    for (const auto& [index, slot] : slots) {
      if (!slot->instance) continue;
      auto status = co_await aio::on(slot->strand, status_of(slot->instance));
      const auto kept = component->kept.find(index);
      const auto now = component->slots.find(index);
      if (kept == component->kept.end() || now == component->slots.end() || now->second != slot)
        continue;
      if (kept->second.record.status == status) continue;
      kept->second.record.status = std::move(status);
      kept->second.stored = false;
    }
    std::vector<unsigned> unstored;
    for (const auto& [index, kept] : component->kept) {
      if (!kept.stored) unstored.push_back(index);
    }
    for (const unsigned index : unstored) {
      const bool still_ours = co_await store_status(component, name, index);
      if (still_ours) continue;
      log::error(kPart, "{} is run by another worker; it ends here", instance_key(name, index));
      co_await end_slots(component, name, {index});
      component->applied.reset();
      ++news_;
      changed_.notify();
    }
  }
}

// False when the instance is another worker's.
aio::Task<bool> Worker::store_status(std::shared_ptr<Managed> managed, std::string name,
                                     unsigned index) {
  const auto topic = remembered_.instances;
  const auto key = instance_key(name, index);
  // One write of a record at a time: each names the one before.
  while (!managed->storing.insert(index).second) co_await changed_.wait_uncancelled();
  bool ours = true;
  for (;;) {
    auto kept = managed->kept.find(index);
    const auto known = managed_.find(name);
    // Forgotten meanwhile: what was counted goes with it.
    if (kept == managed->kept.end() || kept->second.stored || known == managed_.end() ||
        known->second != managed) {
      break;
    }
    const InstanceRecord record = kept->second.record;
    const auto put = co_await topic->put(key, record.encode(), kept->second.version);
    kept = managed->kept.find(index);
    if (kept == managed->kept.end()) break;
    if (put) {
      kept->second.version = *put;
      const auto& now = kept->second.record;
      if (now.status == record.status && now.ended == record.ended) kept->second.stored = true;
      if (record.ended && kept->second.stored) managed->kept.erase(kept);
      break;
    }
    if (put.error().code() == Code::busy) {
      // A write of ours that was cancelled has come through, or another one is the owner now.
      const auto* stored = topic->find(key);
      const auto theirs = instance_record(name, index);
      if (stored != nullptr && theirs && theirs->worker == options_.id) {
        kept->second.version = stored->version;
        continue;
      }
      managed->kept.erase(kept);
      ours = false;
      break;
    }
    if (!put.error().cancelled())
      log::warn(kPart, "remembering the counters of {}: {}", key, put.error().text());
    break;  // with the next look
  }
  managed->storing.erase(index);
  changed_.notify();
  co_return ours;
}

}  // namespace hulse::runtime

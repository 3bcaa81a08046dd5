// Worker's management: what users ask for. Each change is first remembered, then made true.
#include <boost/json.hpp>

#include "aio/offload.h"
#include "base/log.h"
#include "base/text.h"
#include "client/topic_finder.h"
#include "runtime/component_edit.h"
#include "runtime/sealing.h"
#include "runtime/source_offsets.h"
#include "runtime/worker_parts.h"

namespace hulse::runtime {
namespace {

namespace json = boost::json;

// How long an answer waits for what was asked for to be true.
constexpr auto kEffectWait = std::chrono::seconds(10);

constexpr std::string_view kPart = "worker";

Error missing(connect::Kind kind, const ComponentName& name, bool for_update) {
  // As Pulsar: only an update of what is not there is the caller's mistake.
  return Error(for_update ? Code::invalid : Code::not_found,
               fmt::format("{} {} doesn't exist", title(kind), name.name));
}

}  // namespace

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
  if (!record)
    return record.error().with(fmt::format("{} of {}", name.text(), topic("components")));
  if (record->kind != kind || record->drop_subscription_ms) return missing(kind, name, for_update);
  auto open = unsealed(*record, name.text(), box());
  // It may still be looked at, stopped and deleted.
  if (!open && for_update) return open.error();
  if (open) record = std::move(*open);
  return Found{std::move(*record), stored->version};
}

aio::Task<Result<uint64_t>> Worker::store(ComponentName name, ComponentRecord record,
                                          uint64_t replaces) {
  const auto components = components_;
  if (!components) co_return not_ready();
  const auto closed = sealed(std::move(record), name.text(), box());
  if (!closed) co_return closed.error();
  const auto put = co_await components->put(name.text(), closed->encode(), replaces);
  if (put) co_return *put;
  if (put.error().code() == Code::busy) {
    co_return Error(
        Code::busy,
        fmt::format("{} was changed by somebody else just now; look and try again", name.text()));
  }
  co_return put.error().with("remembering " + name.text());
}

Placement Worker::placement_of(const std::string& name) const {
  const auto* stored = remembered_.assignments ? remembered_.assignments->find(name) : nullptr;
  if (stored == nullptr) return {};
  auto placement = decode_placement(stored->value);
  return placement ? std::move(*placement) : Placement();
}

// Until the change is in effect here and placed, for a while at the most: it will be in any case.
aio::Task<void> Worker::wait_applied(std::string name, uint64_t version) {
  const auto until = aio::Clock::now() + kEffectWait;
  const auto in_effect = [&] {
    if (!components_) return true;
    const auto known = managed_.find(name);
    if (known == managed_.end()) return components_->find(name) == nullptr;
    const auto& [_, now] = *known;
    if (!now->applied || now->applied->component < version) return false;
    if (!now->component) return true;
    return placement_of(name).size() >= now->component->parallelism &&
           now->applied == versions_of(name);
  };
  while (!in_effect() && aio::Clock::now() < until) {
    co_await changed_.wait_until(until);
    const bool stopped = co_await aio::cancelled();
    if (stopped) co_return;
  }
}

bool Worker::ended_everywhere(const std::string& name) const {
  const auto instances = remembered_.instances;
  if (!instances || !members_) return false;
  for (auto at = instances->values().lower_bound(name + "/");
       at != instances->values().end() && at->first.starts_with(name + "/"); ++at) {
    const auto record = InstanceRecord::decode(at->second.value);
    if (record && !record->ended && members_->alive(record->worker)) return false;
  }
  return true;
}

aio::Task<Result<std::vector<std::string>>> Worker::create(connect::Kind kind, ComponentName name,
                                                           json::object config, bool dry_run) {
  auto turn = co_await take_turn(name.text());
  if (!components_) co_return not_ready();
  config["tenant"] = name.tenant;
  config["namespace"] = name.name_space;
  config["name"] = name.name;
  std::vector<std::string> notes;
  const auto component = parse_component(kind, config, notes);
  if (!component) co_return component.error();
  const auto secrets =
      resolve_secrets(component->fields(), component->given, options_.secret_sources);
  if (!secrets) co_return secrets.error();
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
    const bool other = was && !was->goes_on_as(*component);
    if (other) {
      if (was->leaves_position()) {
        const auto dropped = co_await drop_position(*was);
        if (!dropped) co_return dropped.error();
      }
      auto forgotten = co_await forget_instances(name.text());
      if (forgotten) forgotten = co_await forget_state(name.text());
      if (!forgotten) co_return forgotten.error();
    } else if (was && was->leaves_position()) {
      notes.push_back(fmt::format(
          "it goes on where the deleted {} of that name was (delete it with {} to begin anew)",
          connect::to_string(kind),
          connect::reads_topics(kind) ? "--drop-subscription" : "--drop-offset"));
    }
  }
  ComponentRecord record;
  record.kind = kind;
  record.config = std::move(config);
  record.created_ms = record.modified_ms = aio::wall_ms();
  const auto stored = co_await store(name, std::move(record), replaces);
  if (!stored) co_return stored.error();
  turn.end();
  co_await wait_applied(name.text(), *stored);
  co_return notes;
}

aio::Task<Result<std::vector<std::string>>> Worker::update(connect::Kind kind, ComponentName name,
                                                           json::object config, bool dry_run) {
  auto turn = co_await take_turn(name.text());
  auto found = find(kind, name, true);
  if (!found) co_return found.error();
  std::vector<std::string> notes;
  auto merged = merge_component(kind, found->record.config, config);
  const auto component = parse_component(kind, merged, notes);
  if (!component) co_return component.error();
  const auto secrets =
      resolve_secrets(component->fields(), component->given, options_.secret_sources);
  if (!secrets) co_return secrets.error();
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
  turn.end();
  co_await wait_applied(name.text(), *stored);
  co_return changes;
}

aio::Task<Result<void>> Worker::remove(connect::Kind kind, ComponentName name,
                                       bool drop_subscription) {
  auto turn = co_await take_turn(name.text());
  auto found = find(kind, name, false);
  if (!found) co_return found.error();
  std::vector<std::string> notes;
  const auto component = parse_component(kind, found->record.config, notes);
  const bool drops = component && component->leaves_position();
  const auto grace =
      drop_subscription || !drops ? std::chrono::milliseconds(0) : options_.subscription_grace;
  auto record = found->record;
  record.drop_subscription_ms = aio::wall_ms() + grace.count();
  record.stopped.clear();
  record.restarts.clear();
  // First remembered, then done: a kill in between leaves nothing half deleted.
  const auto stored = co_await store(name, record, found->version);
  if (!stored) co_return stored.error();
  turn.end();
  co_await wait_applied(name.text(), *stored);
  if (drops && !drop_subscription) co_return Result<void>();
  // The leader drops what is to be dropped, and then forgets it.
  const auto until = aio::Clock::now() + kEffectWait;
  const auto there = [&] {
    const auto* now = components_ ? components_->find(name.text()) : nullptr;
    return now != nullptr && now->version == *stored;
  };
  while (there() && aio::Clock::now() < until) {
    const auto trouble = drop_retry_.find(name.text());
    if (trouble != drop_retry_.end()) co_return trouble->second.why;
    co_await changed_.wait_until(until);
    const bool stopped = co_await aio::cancelled();
    if (stopped) break;
  }
  if (!there()) co_return Result<void>();
  co_return Error(Code::unavailable,
                  fmt::format("{} {} is deleted, but not every worker has ended its instances yet; "
                              "its subscription goes when they have",
                              title(kind), name.name));
}

aio::Task<Result<void>> Worker::act(connect::Kind kind, ComponentName name, Verb verb,
                                    std::optional<unsigned> index) {
  auto turn = co_await take_turn(name.text());
  const auto instances = co_await status(kind, name);
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
  // Starting what has failed is starting it anew.
  const auto failed = [&](unsigned i) {
    return instances && i < instances->size() && (*instances)[i].status.state == State::failed;
  };
  bool changed = false;
  for (unsigned i = 0; i < component->parallelism; ++i) {
    if (index && *index != i) continue;
    const bool stopped = record.stopped.contains(i);
    if (verb == Verb::stop) {
      changed |= record.stopped.insert(i).second;
    } else if (verb == Verb::restart || stopped || failed(i)) {
      record.stopped.erase(i);
      ++record.restarts[i];
      changed = true;
    }
  }
  if (!changed) co_return Result<void>();
  record.modified_ms = aio::wall_ms();
  const auto stored = co_await store(name, record, found->version);
  if (!stored) co_return stored.error();
  turn.end();
  co_await wait_applied(name.text(), *stored);
  co_return Result<void>();
}

Result<json::object> Worker::config(connect::Kind kind, const ComponentName& name) const {
  const auto found = find(kind, name, false);
  if (!found) return found.error();
  std::vector<std::string> notes;
  const auto component = parse_component(kind, found->record.config, notes);
  if (!component) {
    // A later version wrote it, or an option has gone: it is shown as far as that is safe.
    auto shown = without_secrets({}, found->record.config);
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
  const auto now = managed(name.text());
  const unsigned count = now->component ? now->component->parallelism : 1;
  const auto placement = placement_of(name.text());
  std::vector<InstanceStatus> all;
  for (unsigned index = 0; index < count; ++index) {
    InstanceStatus one{index, {}, index < placement.size() ? placement[index] : std::string()};
    const auto running = now->slots.find(index);
    const auto kept = now->kept.find(index);
    if (running != now->slots.end() && running->second->instance) {
      const auto strand = running->second->strand;
      const auto instance = running->second->instance;
      one.status = co_await aio::on(strand, status_of(instance));
    } else if (kept != now->kept.end()) {
      one.status = kept->second.record.status;
    } else if (const auto record = instance_record(name.text(), index); record) {
      one.status = record->status;
      const bool lost = !record->ended && members_ && !members_->alive(record->worker);
      if (record->ended || lost) one.status.state = State::starting;
      if (lost) {
        one.status.reason =
            fmt::format("its worker {} is heard no more; another one takes over", record->worker);
      }
    }
    if (found->record.stopped.contains(index)) {
      one.status.state = State::stopped;
      one.status.reason.clear();
    } else if (now->refused) {
      one.status.state = State::failed;
      one.status.reason = now->refused->text();
    }
    all.push_back(std::move(one));
  }
  co_return all;
}

aio::Task<std::vector<Worker::Everything>> Worker::everything() {
  std::vector<Everything> all;
  const auto components = managed_;
  for (const auto& [key, component] : components) {
    const auto parts = split(key, '/');
    if (!component->component || parts.size() != 3) continue;
    const ComponentName name{std::string(parts[0]), std::string(parts[1]), std::string(parts[2])};
    const auto slots = component->slots;
    for (const auto& [index, slot] : slots) {
      InstanceStatus one{index, {}, options_.id};
      if (slot->instance) one.status = co_await aio::on(slot->strand, status_of(slot->instance));
      all.push_back({name, slot->component->kind, std::move(one)});
    }
  }
  co_return all;
}

std::map<std::string, std::vector<std::string>> Worker::assignments() const {
  std::map<std::string, std::vector<std::string>> out;
  if (!remembered_.assignments) return out;
  for (const auto& [name, stored] : remembered_.assignments->values()) {
    const auto placement = decode_placement(stored.value);
    for (unsigned index = 0; placement && index < placement->size(); ++index)
      out[(*placement)[index]].push_back(fmt::format("{}:{}", name, index));
  }
  return out;
}

std::vector<Member> Worker::members() const {
  return members_ ? members_->members() : std::vector<Member>();
}

std::optional<Member> Worker::leader() const {
  return members_ ? members_->leader() : std::nullopt;
}

// ---- taking leave of a component

aio::Task<Result<void>> Worker::forget_instances(std::string name) {
  const auto counters = remembered_.instances;
  if (!counters) co_return not_ready();
  std::vector<std::string> keys;
  for (auto at = counters->values().lower_bound(name + "/");
       at != counters->values().end() && at->first.starts_with(name + "/"); ++at) {
    keys.push_back(at->first);
  }
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
  auto forgotten = co_await forget_instances(name);
  if (forgotten) forgotten = co_await forget_state(name);
  if (!forgotten) co_return forgotten.error();
  const auto removed = co_await components->remove(name);
  if (!removed) co_return removed.error();
  co_return Result<void>();
}

// Of a sink its subscriptions, of a source its offsets.
aio::Task<Result<void>> Worker::drop_position(Component component) {
  if (connect::reads_topics(component.kind)) co_return co_await unsubscribe(component);
  const auto client = client_;
  if (!client) co_return not_ready();
  for (unsigned index = 0; index < component.parallelism; ++index) {
    OffsetsOptions where{options_.name_space, component.full_name(), index};
    const auto offsets = co_await SourceOffsets::open(*client, std::move(where));
    if (!offsets) co_return offsets.error();
    const auto forgotten = co_await (*offsets)->forget();
    co_await (*offsets)->close();
    if (!forgotten) co_return forgotten.error();
  }
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
    log::info(kPart, "the subscription {} of {} went with what read it", shared->subscription,
              topic);
  }
  co_return Result<void>();
}

}  // namespace hulse::runtime

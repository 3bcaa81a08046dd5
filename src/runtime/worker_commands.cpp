// Worker's management: what users ask for. Each change is first remembered, then made true.
#include <boost/json.hpp>

#include "aio/offload.h"
#include "base/text.h"
#include "runtime/component_edit.h"
#include "runtime/worker_parts.h"

namespace hulse::runtime {
namespace {

namespace json = boost::json;

std::string title(connect::Kind kind) { return kind == connect::Kind::sink ? "Sink" : "Source"; }

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
  if (!record) return record.error().with(fmt::format("{} of {}", name.text(), kComponentsTopic));
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
    if (other) {
      if (before->kind == connect::Kind::sink && was->cleanup_subscription) {
        const auto dropped = co_await unsubscribe(*was);
        if (!dropped) co_return dropped.error();
      }
      const auto forgotten = co_await forget_counters(name.text());
      if (!forgotten) co_return forgotten.error();
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
  const auto now = managed(name.text());
  // Starting what has failed is starting it anew.
  std::erase_if(chosen, [&](unsigned i) {
    const auto slot = now->slots.find(i);
    const bool runs = slot != now->slots.end() && slot->second.gate->running() > 0;
    return verb == Verb::stop || (verb == Verb::start && runs);
  });
  co_await end_slots(now, chosen);
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
  const auto now = managed(name.text());
  const unsigned count = now->component ? now->component->parallelism : 1;
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
      const bool stopped = found->record.stopped.contains(index);
      one.status.state = stopped ? State::stopped : State::starting;
      if (now->refused) {
        one.status.state = State::failed;
        one.status.reason = now->refused->text();
      }
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

}  // namespace hulse::runtime

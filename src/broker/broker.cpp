#include "broker/broker.h"

#include <charconv>
#include <set>

#include "aio/listen.h"
#include "aio/offload.h"
#include "base/log.h"
#include "broker/compaction.h"
#include "broker/session.h"
#include "broker/subscription.h"

namespace hulse::broker {
namespace {

constexpr std::string_view kPart = "broker";
constexpr auto kHousekeeping = std::chrono::seconds(30);
constexpr auto kRates = std::chrono::seconds(10);

const std::string& advertised_host(const Options& options) {
  return options.advertised_host.empty() ? options.host : options.advertised_host;
}

}  // namespace

Broker::Broker(Options options, storage::Store& store, aio::Executor executor, aio::Executor disk)
    : options_(std::move(options)),
      shared_{.store = store,
              .executor = executor,
              .disk = disk,
              .tail_bytes_max = options_.cache_bytes_max,
              .ahead_bytes_max = options_.cache_bytes_max,
              .unsynced_bytes_max = options_.unsynced_total_bytes_max,
              .consistent_hashing = options_.consistent_hashing,
              .note_time = options_.note_time,
              .note_index = options_.note_index},
      namespaces_(store, executor),
      schemas_(store),
      gate_(executor),
      authorization_(options_.authorization, options_.super_roles, namespaces_) {}

Broker::~Broker() = default;

Result<void> Broker::load() {
  const auto number = [](const std::string& text) {
    uint64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
  };
  const auto ledger = shared_.store.get("broker/next_ledger");
  if (!ledger) return ledger.error();
  shared_.next_ledger = *ledger ? number(**ledger) : 1;
  boot_ = shared_.next_ledger;
  const auto namespaces = namespaces_.load();
  if (!namespaces) return namespaces.error();
  const auto schemas = schemas_.load();
  if (!schemas) return schemas.error();
  const auto topics = shared_.store.scan("topic/");
  if (!topics) return topics.error();
  for (const auto& [key, value] : *topics) {
    auto record = TopicRecord::decode(value);
    if (!record) return record.error().with(key);
    const auto end = shared_.store.extent(record->id).end;
    if (options_.note_index && end > 0) {
      // The record knows of the ledgers before the last one.
      const auto last = shared_.store.read(record->id, end - 1, 1, 1);
      const auto noted = last && !last->empty()
                             ? wire::broker_metadata(last->front().payload.view())
                             : std::nullopt;
      if (noted && noted->has_index())
        record->messages = std::max(record->messages, noted->index() + 1);
    }
    records_[key.substr(std::string_view("topic/").size())] = std::move(*record);
  }
  const auto cursors = shared_.store.scan("cursor/");
  if (!cursors) return cursors.error();
  for (const auto& [key, value] : *cursors) {
    const std::string_view rest = std::string_view(key).substr(std::string_view("cursor/").size());
    uint64_t id = 0;
    const auto [end, failed] = std::from_chars(rest.data(), rest.data() + 16, id, 16);
    if (rest.size() < 18 || failed != std::errc() || end != rest.data() + 16) {
      return Error(Code::corrupt, "a stored cursor has the key " + key);
    }
    cursors_[id].emplace_back(rest.substr(17), value);
  }
  const auto sequences = shared_.store.scan("sequence/");
  if (!sequences) return sequences.error();
  for (const auto& [key, value] : *sequences) {
    const std::string_view rest =
        std::string_view(key).substr(std::string_view("sequence/").size());
    uint64_t id = 0;
    const auto [end, failed] =
        std::from_chars(rest.data(), rest.data() + std::min<size_t>(16, rest.size()), id, 16);
    if (rest.size() < 17 || failed != std::errc() || end != rest.data() + 16) {
      return Error(Code::corrupt, "a stored sequence id has the key " + key);
    }
    sequences_[id].emplace_back(rest.substr(17), number(value));
  }
  return {};
}

aio::Task<Result<void>> Broker::start() {
  auto authenticator = auth::Authenticator::load(options_.authentication);
  if (!authenticator) co_return authenticator.error();
  authenticator_ = std::move(*authenticator);
  const auto loaded = co_await aio::offload(shared_.disk, [this] { return load(); });
  if (!loaded) co_return loaded.error();
  auto listening = co_await listen(options_.port, std::nullopt);
  if (!listening) co_return listening;
  if (options_.tls_port) {
    auto tls = aio::TlsServer::load(options_.tls, shared_.disk);
    if (!tls) co_return tls.error();
    listening = co_await listen(*options_.tls_port, std::move(*tls));
    if (!listening) co_return listening;
  }
  for (const auto& listener : listeners_) gate_.spawn("accept", accept(*listener));
  gate_.spawn("housekeeping", keep_house());
  gate_.spawn("backlog quotas", keep_quotas());
  gate_.spawn("unused topics", forget_unused());
  gate_.spawn("rates", keep_rates());
  co_return Result<void>();
}

aio::Task<Result<void>> Broker::listen(uint16_t port, std::optional<aio::TlsServer> tls) {
  auto acceptor = co_await aio::listen(options_.host, port);
  if (!acceptor && acceptor.error().code() == Code::busy) {
    co_return Error(Code::busy,
                    fmt::format("port {} of {} is taken by another program; stop it or choose "
                                "another one with --broker-port{}",
                                port, options_.host, tls ? "-tls" : ""));
  }
  if (!acceptor) co_return acceptor.error();
  const uint16_t bound = acceptor->local_endpoint().port();
  listeners_.push_back(
      std::make_unique<Listener>(Listener{std::move(*acceptor), std::move(tls), bound}));
  co_return Result<void>();
}

aio::Task<void> Broker::accept(Listener& listener) {
  for (;;) {
    aio::Socket socket(shared_.executor);
    const auto [error] = co_await listener.acceptor.async_accept(socket, aio::as_values);
    if (error == aio::asio::error::operation_aborted) co_return;
    if (error) {
      // Out of descriptors, for one: what is there goes on, and new ones get in when it is over.
      log::warn(kPart, "cannot accept a connection: {}", error.message());
      const bool slept = co_await aio::sleep(std::chrono::milliseconds(100));
      if (!slept) co_return;
      continue;
    }
    boost::system::error_code ignored;
    socket.set_option(aio::asio::ip::tcp::no_delay(true), ignored);
    const auto peer = socket.remote_endpoint(ignored);
    aio::TlsContext tls;
    if (listener.tls) tls = co_await listener.tls->context();
    auto session =
        std::make_shared<Session>(*this, std::move(socket), std::move(tls), aio::to_string(peer));
    gate_.spawn("connection of " + session->address(), session->run());
  }
}

aio::Task<void> Broker::stop() {
  stopping_ = true;
  for (const auto& listener : listeners_) {
    boost::system::error_code ignored;
    listener->acceptor.close(ignored);
  }
  const auto topics = std::move(topics_);
  topics_.clear();
  for (const auto& [name, topic] : topics) co_await topic->stop();
  co_await gate_.close();
  // What topics asked of the store may ask for one more write; completions keep topics alive, which
  // must not outlive what they share.
  co_await settle();
  co_await settle();
}

// Until everything asked of the store so far has been answered here: answers keep the order of
// requests.
aio::Task<void> Broker::settle() {
  aio::Event answered(shared_.executor);
  bool done = false;
  shared_.store.change({}, shared_.executor, [&](const Result<void>&) {
    done = true;
    answered.notify();
  });
  while (!done) co_await answered.wait_uncancelled();
}

std::string Broker::service_url() const {
  return fmt::format("pulsar://{}:{}", advertised_host(options_), listeners_.front()->port);
}

std::string Broker::service_url_tls() const {
  if (listeners_.size() < 2) return {};
  return fmt::format("pulsar+ssl://{}:{}", advertised_host(options_), listeners_.back()->port);
}

std::optional<Topic::Refusal> Broker::refuse(const wire::TopicName& name) const {
  if (!name.persistent()) {
    return Topic::Refusal{pb::NotAllowedError,
                          "non-persistent topics are not supported by this broker: " + name.text()};
  }
  const auto name_space = name.namespace_text();
  if (!namespaces_.exists(name_space)) {
    return Topic::Refusal{pb::TopicNotFound, fmt::format("Namespace not found: {}", name_space)};
  }
  return std::nullopt;
}

Broker::Found Broker::topic(const std::string& text, bool create) {
  const auto name = wire::TopicName::parse(text);
  if (!name) return {nullptr, Topic::Refusal{pb::InvalidTopicName, name.error().text()}};
  if (const auto refusal = refuse(*name)) return {nullptr, refusal};
  const std::string full = name->text();
  const auto loaded = topics_.find(full);
  if (loaded != topics_.end()) return {loaded->second, std::nullopt};
  if (stopping_ || leaving_.contains(full)) {
    return {nullptr, Topic::Refusal{pb::ServiceNotReady, full + " is being unloaded"}};
  }
  auto known = records_.find(full);
  if (known == records_.end()) {
    const auto base = name->base();
    const int partitions = namespaces_.partitions(base.text());
    if (name->partition >= 0 && partitions > 0 && name->partition >= partitions) {
      return {nullptr, Topic::Refusal{pb::TopicNotFound,
                                      fmt::format("{} has {} partitions; {} is none of them",
                                                  base.text(), partitions, full)}};
    }
    // The partitions of a partitioned topic were created with it.
    const bool allowed = namespaces_.topic_policies(name->namespace_text()).auto_create ||
                         (name->partition >= 0 && partitions > 0);
    if (!create || !allowed)
      return {nullptr, Topic::Refusal{pb::TopicNotFound, "Topic does not exist: " + full}};
    // From the ledgers' counter, which is stored with the record: an id is never used again.
    known = records_.emplace(full, TopicRecord{shared_.next_ledger++, {}}).first;
  }
  std::optional<Topic::Refusal> refusal;
  auto topic = load_topic(full, *name, refusal);
  return {topic, refusal};
}

std::shared_ptr<Topic> Broker::load_topic(const std::string& full, const wire::TopicName& parsed,
                                          std::optional<Topic::Refusal>& refusal) {
  const auto& record = records_.at(full);
  auto topic = std::make_shared<Topic>(shared_, parsed, record);
  topic->set_policies(namespaces_.topic_policies(parsed.namespace_text()));
  for (const auto& [subscription, bytes] : cursors_[record.id]) {
    auto cursor = Cursor::decode(bytes);
    if (!cursor) {
      refusal = Topic::Refusal{
          pb::PersistenceError,
          fmt::format("{}, subscription {}: {}", full, subscription, cursor.error().text())};
      log::error(kPart, "{}", refusal->message);
      return nullptr;
    }
    topic->restore(subscription, std::move(*cursor));
  }
  for (const auto& [producer, sequence_id] : sequences_[record.id])
    topic->restore_sequence(producer, sequence_id);
  cursors_.erase(record.id);
  sequences_.erase(record.id);
  topic->open();
  topic->trim();
  topics_[full] = topic;
  return topic;
}

std::optional<Topic::Refusal> Broker::create(const std::string& text) {
  const auto name = wire::TopicName::parse(text);
  if (!name) return Topic::Refusal{pb::InvalidTopicName, name.error().text()};
  if (auto refusal = refuse(*name)) return refusal;
  const std::string full = name->text();
  if (!records_.contains(full)) records_.emplace(full, TopicRecord{shared_.next_ledger++, {}});
  return topic(full, true).refusal;
}

void Broker::policies_changed(const std::string& name_space) {
  const auto policies = namespaces_.topic_policies(name_space);
  for (const auto& [name, topic] : topics_) {
    if (topic->name().namespace_text() == name_space) topic->set_policies(policies);
  }
}

// What time alone makes due: expired messages, ledgers whose retention has ended.
aio::Task<void> Broker::keep_house() {
  for (;;) {
    const bool slept = co_await aio::sleep(kHousekeeping);
    if (!slept) co_return;
    const auto topics = topics_;
    const auto trouble = shared_.store.trouble();
    const bool full = trouble && trouble->code() == Code::full;
    for (const auto& [name, topic] : topics) {
      topic->forget_abandoned();
      if (full) topic->make_room();
      const int64_t ttl = topic->policies().ttl_seconds;
      if (ttl > 0 && !topic->subscriptions().empty()) {
        const auto index =
            co_await topic->index_at(static_cast<uint64_t>(aio::wall_ms() - ttl * 1000));
        if (!index) {
          log::error(kPart, "looking for expired messages: {}", index.error().text());
          continue;
        }
        const auto subscriptions = topic->subscriptions();
        for (const auto& [subscription, state] : subscriptions) state->expire_until(*index);
      }
      topic->trim();
      const int64_t threshold = topic->policies().compaction_threshold;
      if (threshold > 0 && topic->uncompacted_bytes() > static_cast<uint64_t>(threshold))
        start_compaction(topic);
    }
  }
}

int Broker::partitions(const wire::TopicName& name) const {
  return namespaces_.partitions(name.text());
}

std::vector<std::string> Broker::topics(const std::string& name_space) const {
  const std::string prefix = "persistent://" + name_space + "/";
  std::set<std::string> names;
  const auto own = [&](const std::string& name) {
    // Names that begin with two underscores are the system's.
    return std::string_view(name).substr(prefix.size()).starts_with("__");
  };
  for (auto at = records_.lower_bound(prefix);
       at != records_.end() && at->first.starts_with(prefix); ++at) {
    if (!own(at->first)) names.insert(at->first);
  }
  const auto& partitioned = namespaces_.partitioned();
  for (auto at = partitioned.lower_bound(prefix);
       at != partitioned.end() && at->first.starts_with(prefix); ++at) {
    for (int i = 0; i < at->second && !own(at->first); ++i) {
      names.insert(fmt::format("{}-partition-{}", at->first, i));
    }
  }
  return {names.begin(), names.end()};
}

aio::Task<void> Broker::unload(std::string name) {
  const bool gone = co_await let_go(name);
  if (gone) leaving_.erase(name);
}

// Until leaving_ forgets the name, nobody gets at the topic: its next life would begin before what
// is still on its way into the log.
aio::Task<bool> Broker::let_go(std::string name) {
  if (!leaving_.insert(name).second) co_return false;
  const auto loaded = topics_.find(name);
  if (loaded == topics_.end()) co_return true;
  const auto topic = loaded->second;
  const auto subscriptions = topic->subscriptions();
  topics_.erase(loaded);
  co_await topic->stop();
  co_await settle();
  co_await settle();
  auto& cursors = cursors_[topic->id()];
  cursors.clear();
  for (const auto& [subscription, state] : subscriptions) {
    if (state->durable()) cursors.emplace_back(subscription, state->cursor().encode());
  }
  sequences_[topic->id()] = topic->sequences();
  records_[name] = topic->record();
  co_return true;
}

aio::Task<Result<void>> Broker::remove(std::string name) {
  const bool gone = co_await let_go(name);
  if (!gone) co_return Error(Code::busy, name + " is being unloaded or removed already");
  const auto known = records_.find(name);
  Result<void> result = Error(Code::not_found, fmt::format("Topic {} not found", name));
  if (known != records_.end()) {
    const storage::TopicId id = known->second.id;
    std::vector<storage::Change> changes;
    changes.push_back({topic_key(name), std::nullopt});
    for (const auto& [subscription, cursor] : cursors_[id]) {
      changes.push_back({cursor_key(id, subscription), std::nullopt});
    }
    for (const auto& [producer, sequence_id] : sequences_[id]) {
      changes.push_back({sequence_key(id, producer), std::nullopt});
    }
    cursors_.erase(id);
    sequences_.erase(id);
    if (known->second.compacted) shared_.store.trim(known->second.compacted->id, UINT64_MAX);
    if (known->second.compacting != 0) shared_.store.trim(known->second.compacting, UINT64_MAX);
    records_.erase(known);
    shared_.store.trim(id, UINT64_MAX);
    result = co_await write_through(shared_.store, std::move(changes));
    if (result) result = co_await namespaces_.put_properties(name, {});
  }
  leaving_.erase(name);
  co_return result;
}

aio::Task<void> Broker::keep_quotas() {
  for (;;) {
    const bool slept = co_await aio::sleep(options_.quota_check);
    if (!slept) co_return;
    const auto topics = topics_;
    for (const auto& [name, topic] : topics) {
      const auto& policies = topic->policies();
      if (policies.quota_bytes >= 0 || policies.quota_seconds >= 0) co_await topic->check_quota();
    }
  }
}

aio::Task<void> Broker::forget_unused() {
  for (;;) {
    const bool slept = co_await aio::sleep(options_.inactive_check);
    if (!slept) co_return;
    const auto topics = topics_;
    for (const auto& [name, topic] : topics) {
      // Asked when its turn comes: removing the others takes its time.
      const auto loaded = topics_.find(name);
      if (loaded == topics_.end() || loaded->second != topic || !topic->outlived()) continue;
      log::info(kPart, "{}: deleted, nobody has used it for {} s", name,
                topic->policies().inactive_seconds);
      const auto removed = co_await remove(name);
      if (!removed) log::error(kPart, "deleting the unused {}: {}", name, removed.error().text());
    }
  }
}

aio::Task<void> Broker::keep_rates() {
  for (;;) {
    const auto begun = aio::Clock::now();
    const bool slept = co_await aio::sleep(kRates);
    if (!slept) co_return;
    const double seconds = std::chrono::duration<double>(aio::Clock::now() - begun).count();
    for (const auto& [name, topic] : topics_) topic->sample(seconds);
  }
}

bool Broker::start_compaction(const std::shared_ptr<Topic>& topic) {
  if (topic->compaction_state().running) return false;
  const auto run = [](std::shared_ptr<Topic> what) -> aio::Task<void> {
    // Its outcome is in the topic's state.
    (void)co_await compact(std::move(what));
  };
  topic->gate().spawn("compaction of " + topic->text(), run(topic));
  return true;
}

std::string Broker::next_producer_name() {
  return fmt::format("standalone-{}-{}", boot_, producers_named_++);
}

}  // namespace hulse::broker

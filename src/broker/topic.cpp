#include "broker/topic.h"

#include <boost/json.hpp>

#include "aio/clock.h"
#include "base/log.h"
#include "broker/subscription.h"

namespace hulse::broker {
namespace {

namespace json = boost::json;

constexpr std::string_view kPart = "broker";
// What a topic keeps for a subscription that is still to come (docs/decisions/0004).
constexpr uint64_t kUnsubscribedBytesMax = uint64_t{1} << 30;

}  // namespace

std::string topic_key(const std::string& name) { return "topic/" + name; }
std::string cursor_key(storage::TopicId topic, const std::string& subscription) {
  return fmt::format("cursor/{:016x}/{}", topic, subscription);
}

std::string sequence_key(storage::TopicId topic, const std::string& producer) {
  return fmt::format("sequence/{:016x}/{}", topic, producer);
}

std::string TopicRecord::encode() const {
  json::array list;
  for (const auto& ledger : ledgers) {
    list.push_back(json::array{ledger.id, ledger.first_index, ledger.bytes, ledger.closed_ms});
  }
  json::object out{{"v", 1}, {"id", id}, {"ledgers", std::move(list)}};
  if (has_epoch) out["epoch"] = epoch;
  if (terminated) out["terminated"] = true;
  if (compacted) {
    out["compacted"] = json::array{compacted->id, compacted->horizon, compacted->entries,
                                   compacted->bytes, compacted->last_index};
  }
  if (compacting != 0) out["compacting"] = compacting;
  if (messages != 0) out["messages"] = messages;
  return json::serialize(out);
}

Result<TopicRecord> TopicRecord::decode(std::string_view text) {
  const Error damaged(Code::corrupt, "a stored topic record is damaged");
  boost::system::error_code error;
  const auto value = json::parse(text, error);
  if (error || !value.is_object()) return damaged;
  const auto& object = value.get_object();
  const auto* id = object.if_contains("id");
  const auto* ledgers = object.if_contains("ledgers");
  if (id == nullptr || ledgers == nullptr || !ledgers->is_array()) return damaged;
  const auto number = [&](const json::value& from) {
    boost::system::error_code failed;
    const auto out = from.to_number<uint64_t>(failed);
    if (failed) error = failed;
    return out;
  };
  TopicRecord record;
  record.id = number(*id);
  for (const auto& ledger : ledgers->get_array()) {
    if (!ledger.is_array() || ledger.get_array().size() < 4) return damaged;
    const auto& row = ledger.get_array();
    record.ledgers.push_back(
        {number(row[0]), number(row[1]), number(row[2]), static_cast<int64_t>(number(row[3]))});
  }
  if (const auto* epoch = object.if_contains("epoch")) {
    record.epoch = number(*epoch);
    record.has_epoch = true;
  }
  record.terminated = object.contains("terminated");
  if (const auto* compacted = object.if_contains("compacted")) {
    if (!compacted->is_array() || compacted->get_array().size() < 5) return damaged;
    const auto& row = compacted->get_array();
    record.compacted =
        Compacted{number(row[0]), number(row[1]), number(row[2]), number(row[3]), number(row[4])};
  }
  if (const auto* compacting = object.if_contains("compacting"))
    record.compacting = number(*compacting);
  if (const auto* messages = object.if_contains("messages")) record.messages = number(*messages);
  if (error) return damaged;
  return record;
}

Topic::Topic(Shared& shared, wire::TopicName name, TopicRecord record)
    : shared_(shared),
      name_(std::move(name)),
      text_(name_.text()),
      record_(std::move(record)),
      gate_(shared.executor) {
  const auto extent = shared_.store.extent(record_.id);
  next_index_ = stored_end_ = std::max(extent.end, extent.first);
  if (!record_.ledgers.empty()) {
    next_index_ = stored_end_ = std::max(next_index_, record_.ledgers.back().first_index);
  }
  trimmed_until_ = extent.first;
  // Sizes are written down when a ledger ends; a kill leaves that to whoever finds it.
  auto& ledgers = record_.ledgers;
  if (ledgers.empty()) return;
  ledger_bytes_ = shared_.store.bytes_from(record_.id, ledgers.back().first_index);
  uint64_t after = ledger_bytes_;
  for (size_t i = ledgers.size() - 1; i-- > 0 && ledgers[i].bytes == 0;) {
    const uint64_t from = shared_.store.bytes_from(record_.id, ledgers[i].first_index);
    ledgers[i].bytes = from - std::min(from, after);
    after = from;
  }
}

Topic::~Topic() { forget_tail(0); }

void Topic::open() {
  // What a compaction had written when the process ended.
  if (record_.compacting != 0) shared_.store.trim(std::exchange(record_.compacting, 0), UINT64_MAX);
  roll_ledger();
}

void Topic::restore(const std::string& subscription, Cursor cursor) {
  const auto restored =
      std::make_shared<Subscription>(*this, subscription, true, std::move(cursor));
  restored->set_stored();
  subscriptions_[subscription] = restored;
}

void Topic::restore_sequence(const std::string& producer, uint64_t sequence_id) {
  sequences_[producer] = {sequence_id, sequence_id};
}

std::vector<std::pair<std::string, uint64_t>> Topic::sequences() const {
  std::vector<std::pair<std::string, uint64_t>> out;
  for (const auto& [producer, sequence] : sequences_) {
    if (sequence.stored) out.emplace_back(producer, *sequence.stored);
  }
  return out;
}

void Topic::roll_ledger() {
  if (!record_.ledgers.empty() && record_.ledgers.back().first_index == next_index_) {
    record_.ledgers.pop_back();  // nothing was ever in it
  } else if (!record_.ledgers.empty()) {
    record_.ledgers.back().bytes = ledger_bytes_;
    record_.ledgers.back().closed_ms = aio::wall_ms();
  }
  record_.ledgers.push_back({shared_.next_ledger++, next_index_});
  ledger_bytes_ = 0;
  store_record();
}

// Only whole closed ledgers go; on a full disk, what is consumed should not wait for that.
void Topic::make_room() {
  if (record_.ledgers.empty() || stored_end_ <= record_.ledgers.back().first_index) return;
  roll_ledger();
  trim();
}

std::vector<storage::Change> Topic::record_changes() const {
  return {{topic_key(text_), record_.encode()},
          {"broker/next_ledger", std::to_string(shared_.next_ledger)}};
}

void Topic::store_record(Done done) {
  shared_.store.change(
      record_changes(), shared_.executor,
      [self = shared_from_this(), done = std::move(done)](const Result<void>& result) {
        if (!result) {
          log::error(kPart, "{}: {}", self->text_, result.error().text());
          self->record_unsaved_ = true;
        }
        if (done) done(result);
      });
}

bool Topic::in_use() const {
  return !producers_.empty() ||
         std::any_of(subscriptions_.begin(), subscriptions_.end(),
                     [](const auto& entry) { return entry.second->durable(); });
}

std::optional<Topic::Refusal> Topic::over_consumers() const {
  if (policies_.consumers_max <= 0) return std::nullopt;
  size_t connected = 0;
  for (const auto& [name, subscription] : subscriptions_)
    connected += subscription->consumers().size();
  if (connected < static_cast<size_t>(policies_.consumers_max)) return std::nullopt;
  return Refusal{pb::ConsumerBusy,
                 fmt::format("Topic reached max consumers limit: {} of {}", connected, text_)};
}

bool Topic::unused() const {
  if (!producers_.empty() || !waiting_.empty() || unstored_ > 0 || compaction_.running)
    return false;
  if (!policies_.inactive_caught_up) return subscriptions_.empty();
  return std::all_of(subscriptions_.begin(), subscriptions_.end(), [&](const auto& entry) {
    return entry.second->consumers().empty() && backlog(entry.second->cursor()) == 0;
  });
}

bool Topic::outlived() {
  const auto now = aio::Clock::now();
  if (policies_.inactive_seconds <= 0 || !unused()) {
    last_used_ = now;
    return false;
  }
  const auto since = now - last_used_;
  // What is to be retained is, as long as the retention says.
  return since >= std::chrono::seconds(policies_.inactive_seconds) &&
         policies_.retention_minutes >= 0 &&
         since >= std::chrono::minutes(policies_.retention_minutes);
}

void Topic::terminate(Done done) {
  record_.terminated = true;
  // As Pulsar: producers come back and are told why they may not; not every client takes the
  // refusal of a message for the end of its producer.
  const auto producers = producers_;
  for (const auto& [name, producer] : producers) {
    remove_producer(producer);
    producer->link->drop_producer(producer->id);
  }
  store_record([self = shared_from_this(), done = std::move(done)](const Result<void>& result) {
    for (const auto& [name, subscription] : self->subscriptions_) subscription->dispatch();
    done(result);
  });
}

void Topic::sample(double seconds) {
  counters_.in.sample(seconds);
  counters_.out.sample(seconds);
  for (const auto& [name, producer] : producers_) producer->in.sample(seconds);
  for (const auto& [name, subscription] : subscriptions_) subscription->sample(seconds);
}

// ---- subscriptions

std::shared_ptr<Subscription> Topic::find(const std::string& subscription) const {
  const auto known = subscriptions_.find(subscription);
  return known == subscriptions_.end() ? nullptr : known->second;
}

std::shared_ptr<Subscription> Topic::create(const std::string& subscription, bool durable,
                                            uint64_t from,
                                            std::function<void(const Result<void>&)> done) {
  auto made = std::make_shared<Subscription>(*this, subscription, durable, Cursor(from));
  subscriptions_[subscription] = made;
  if (!durable) {
    done({});
    return made;
  }
  std::vector<storage::Change> changes;
  changes.push_back({cursor_key(record_.id, subscription), made->cursor().encode()});
  shared_.store.change(
      std::move(changes), shared_.executor,
      [self = shared_from_this(), made, done = std::move(done)](const Result<void>& result) {
        // Who comes later must not find what a restart would not.
        if (!result && self->find(made->name()) == made) self->subscriptions_.erase(made->name());
        made->set_stored();
        done(result);
      });
  return made;
}

void Topic::when_stored(const std::shared_ptr<Subscription>& subscription, Done done) {
  if (subscription->stored()) return done({});
  // Behind what creates it: answers keep the order of requests.
  shared_.store.change(
      {}, shared_.executor,
      [self = shared_from_this(), subscription,
       done = std::move(done)](const Result<void>& result) {
        const bool there = self->find(subscription->name()) == subscription;
        done(result && !there
                 ? Result<void>(Error(Code::io, "the subscription could not be stored"))
                 : result);
      });
}

void Topic::remove(const std::string& subscription, std::function<void(const Result<void>&)> done) {
  const auto known = find(subscription);
  subscriptions_.erase(subscription);
  if (known == nullptr || !known->durable()) {
    done({});
    return;
  }
  std::vector<storage::Change> changes;
  changes.push_back({cursor_key(record_.id, subscription), std::nullopt});
  shared_.store.change(std::move(changes), shared_.executor,
                       [self = shared_from_this(),
                        done = std::move(done)](const Result<void>& result) { done(result); });
  trim();
}

void Topic::forget_abandoned() {
  std::set<std::string> now;
  for (const auto& [name, subscription] : subscriptions_) {
    if (subscription->abandoned()) now.insert(name);
  }
  for (const auto& name : now) {
    if (abandoned_.contains(name)) subscriptions_.erase(name);
  }
  abandoned_ = std::move(now);
}

void Topic::trim() {
  if (compaction_.running) return;  // it reads everything twice
  uint64_t needed = record_.ledgers.back().first_index;
  const uint64_t horizon = record_.compacted ? record_.compacted->horizon : 0;
  // What came after the last compaction waits for the next one, as with Pulsar's cursor for it.
  if (record_.compacted) needed = std::min(needed, horizon);
  bool subscribed = false;
  for (const auto& [name, subscription] : subscriptions_) {
    if (!subscription->durable()) continue;
    subscribed = true;
    uint64_t at = subscription->cursor().acked_until();
    // What could not be stored has left holes that nobody will acknowledge.
    if (at >= stored_end_ && unstored_ == 0) at = next_index_;
    needed = std::min(needed, subscription->reads_compacted() ? std::max(at, horizon) : at);
  }
  auto& ledgers = record_.ledgers;
  // Rows of compacted entries: their ledgers are gone already.
  size_t first = 0;
  while (first + 1 < ledgers.size() && ledgers[first + 1].first_index <= trimmed_until_) ++first;
  // Whole ledgers: a new subscription may begin with what an old one has consumed of the last
  // ledger. A closed one that nobody needs goes as soon as either limit of the retention is passed.
  const int64_t now = aio::wall_ms();
  uint64_t kept_bytes = ledger_bytes_;
  for (size_t i = first; i < ledgers.size(); ++i) kept_bytes += ledgers[i].bytes;
  const auto may_go = [&](const Ledger& ledger) {
    if (!subscribed && policies_.retention_minutes == 0 && policies_.retention_mb == 0) {
      return kept_bytes > kUnsubscribedBytesMax;
    }
    const bool old = policies_.retention_minutes >= 0 &&
                     now - ledger.closed_ms >= policies_.retention_minutes * 60'000;
    const bool large = policies_.retention_mb == 0 ||
                       (policies_.retention_mb > 0 &&
                        kept_bytes > static_cast<uint64_t>(policies_.retention_mb) << 20);
    return old || large;
  };
  size_t gone = first;
  while (gone + 1 < ledgers.size() && ledgers[gone + 1].first_index <= needed &&
         may_go(ledgers[gone])) {
    kept_bytes -= ledgers[gone++].bytes;
  }
  if (gone == first) return;
  const uint64_t until = ledgers[gone].first_index;
  if (!record_.compacted) {
    ledgers.erase(ledgers.begin(), ledgers.begin() + static_cast<ptrdiff_t>(gone));
  }
  store_record();
  if (until <= trimmed_until_) return;
  trimmed_until_ = until;
  shared_.store.trim(record_.id, trimmed_until_);
}

// ---- compaction

storage::TopicId Topic::begin_compaction() {
  record_.compacting = shared_.next_ledger++;
  uncompacted_bytes_ = 0;
  store_record();
  return record_.compacting;
}

aio::Task<Result<void>> Topic::finish_compaction(Compacted made, std::set<uint64_t> kept) {
  const auto self = shared_from_this();
  const auto before = record_.compacted;
  // Until the answer the new one is read already: its entries are durable.
  record_.compacted = made;
  record_.compacting = 0;
  auto changes = record_changes();
  const auto written = co_await write_through(shared_.store, std::move(changes));
  if (!written) {
    record_.compacted = before;
    record_.compacting = made.id;
    co_return written;
  }
  if (before) shared_.store.trim(before->id, UINT64_MAX);
  // Of what is trimmed only the ledgers of entries that stay are still spoken of.
  auto& ledgers = record_.ledgers;
  std::vector<Ledger> rows;
  for (size_t i = 0; i < ledgers.size(); ++i) {
    const bool trimmed = i + 1 < ledgers.size() && ledgers[i + 1].first_index <= trimmed_until_;
    if (!trimmed || kept.contains(ledgers[i].id)) rows.push_back(ledgers[i]);
  }
  if (rows.size() == ledgers.size()) co_return written;
  ledgers = std::move(rows);
  store_record();
  co_return written;
}

void Topic::abandon_compaction() {
  if (record_.compacting == 0) return;
  shared_.store.trim(std::exchange(record_.compacting, 0), UINT64_MAX);
  store_record();
}

aio::Task<void> Topic::stop() {
  const auto producers = std::move(producers_);
  producers_.clear();
  for (const auto& [name, producer] : producers) producer->link->drop_producer(producer->id);
  exclusive_.reset();
  const auto waiting = std::move(waiting_);
  waiting_.clear();
  for (const auto& [producer, told] : waiting) {
    told(Error(Code::unavailable, text_ + " was unloaded"));  // they ask again
  }
  // A copy: a reader's subscription leaves the map with its last consumer.
  const auto subscriptions = subscriptions_;
  for (const auto& [name, subscription] : subscriptions) {
    const auto consumers = subscription->consumers();
    for (const auto& consumer : consumers) consumer->link->drop_consumer(consumer->id);
  }
  co_await gate_.close();
  subscriptions_.clear();
}

}  // namespace hulse::broker

#include "broker/topic.h"

#include <boost/json.hpp>

#include "aio/clock.h"
#include "aio/offload.h"
#include "base/log.h"
#include "broker/subscription.h"

namespace hulse::broker {
namespace {

namespace json = boost::json;

constexpr std::string_view kPart = "broker";
constexpr uint64_t kLedgerEntriesMax = 50'000;  // Pulsar's managedLedgerMaxEntriesPerLedger
constexpr size_t kLedgerBytesMax = 128 << 20;   // of ours: what a consumed ledger may hold on disk
constexpr uint64_t kEarliestPart = UINT64_MAX;  // MessageId earliest is (-1, -1)
constexpr uint64_t kLatestPart = INT64_MAX;     // and latest is (2^63-1, 2^63-1)

}  // namespace

std::string topic_key(const std::string& name) { return "topic/" + name; }
std::string cursor_key(storage::TopicId topic, const std::string& subscription) {
  return fmt::format("cursor/{:016x}/{}", topic, subscription);
}

std::string TopicRecord::encode() const {
  json::array list;
  for (const auto& ledger : ledgers) list.push_back(json::array{ledger.id, ledger.first_index});
  return json::serialize(json::object{{"v", 1}, {"id", id}, {"ledgers", std::move(list)}});
}

Result<TopicRecord> TopicRecord::decode(std::string_view text) {
  boost::system::error_code error;
  const auto value = json::parse(text, error);
  const Error damaged(Code::corrupt, "a stored topic record is damaged");
  if (error || !value.is_object()) return damaged;
  const auto& object = value.get_object();
  const auto* id = object.if_contains("id");
  const auto* ledgers = object.if_contains("ledgers");
  if (id == nullptr || ledgers == nullptr || !ledgers->is_array()) return damaged;
  TopicRecord record;
  record.id = id->to_number<uint64_t>(error);
  for (const auto& ledger : ledgers->get_array()) {
    if (error || !ledger.is_array() || ledger.get_array().size() != 2) return damaged;
    const auto& pair = ledger.get_array();
    const auto ledger_id = pair[0].to_number<uint64_t>(error);
    if (error) return damaged;
    record.ledgers.push_back({ledger_id, pair[1].to_number<uint64_t>(error)});
  }
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
}

Topic::~Topic() { forget_tail(0); }

void Topic::open() { roll_ledger(); }

void Topic::restore(const std::string& subscription, Cursor cursor) {
  subscriptions_[subscription] =
      std::make_shared<Subscription>(*this, subscription, true, std::move(cursor));
}

void Topic::roll_ledger() {
  // A ledger without entries is used on, but for the positions it has given out after a restart.
  record_.ledgers.push_back({shared_.next_ledger++, next_index_});
  ledger_bytes_ = 0;
  store_record();
}

void Topic::store_record() {
  std::vector<storage::Change> changes;
  changes.push_back({topic_key(text_), record_.encode()});
  changes.push_back({"broker/next_ledger", std::to_string(shared_.next_ledger)});
  shared_.store.change(std::move(changes), shared_.executor,
                       [self = shared_from_this()](const Result<void>& result) {
                         if (!result)
                           log::error(kPart, "{}: {}", self->text_, result.error().text());
                       });
}

// ---- producers

std::optional<Topic::Refusal> Topic::add_producer(const std::shared_ptr<Producer>& producer) {
  const auto known = producers_.find(producer->name);
  if (known != producers_.end()) {
    const auto& old = known->second;
    const bool same = old->link == producer->link && old->id == producer->id;
    if (!same || producer->epoch < old->epoch) {
      return Refusal{
          pb::ProducerBusy,
          fmt::format("Producer with name '{}' is already connected to topic '{}' from {}",
                      producer->name, text_, old->link->address())};
    }
  }
  producers_[producer->name] = producer;
  return std::nullopt;
}

void Topic::remove_producer(const std::shared_ptr<Producer>& producer) {
  const auto known = producers_.find(producer->name);
  if (known != producers_.end() && known->second == producer) producers_.erase(known);
}

void Topic::publish(const std::shared_ptr<Producer>& producer, const pb::CommandSend& send,
                    Bytes entry) {
  if (next_index_ - record_.ledgers.back().first_index >= kLedgerEntriesMax ||
      ledger_bytes_ >= kLedgerBytesMax) {
    roll_ledger();
    trim();
  }
  const uint64_t index = next_index_++;
  ledger_bytes_ += entry.size();
  const auto messages = static_cast<uint32_t>(std::max(1, send.num_messages()));
  std::optional<uint64_t> highest;
  if (send.has_highest_sequence_id()) highest = send.highest_sequence_id();
  shared_.store.append(record_.id, index, entry, shared_.executor,
                       [self = shared_from_this(), producer, sequence = send.sequence_id(), highest,
                        index, messages, entry](const Result<void>& result) {
                         self->stored(producer, sequence, highest, index, messages, entry, result);
                       });
}

void Topic::stored(const std::shared_ptr<Producer>& producer, uint64_t sequence_id,
                   std::optional<uint64_t> highest_sequence_id, uint64_t index, uint32_t messages,
                   Bytes entry, const Result<void>& result) {
  const size_t size = entry.size();
  pb::BaseCommand command;
  if (!result) {
    command.set_type(pb::BaseCommand::SEND_ERROR);
    auto* error = command.mutable_send_error();
    error->set_producer_id(producer->id);
    error->set_sequence_id(sequence_id);
    error->set_error(pb::PersistenceError);
    error->set_message(result.error().text());
  } else {
    stored_end_ = index + 1;
    counters_.messages_in += messages;
    counters_.bytes_in += size;
    command.set_type(pb::BaseCommand::SEND_RECEIPT);
    auto* receipt = command.mutable_send_receipt();
    receipt->set_producer_id(producer->id);
    receipt->set_sequence_id(sequence_id);
    if (highest_sequence_id) receipt->set_highest_sequence_id(*highest_sequence_id);
    const auto id = message_id(index);
    receipt->mutable_message_id()->set_ledgerid(static_cast<uint64_t>(id.ledger));
    receipt->mutable_message_id()->set_entryid(static_cast<uint64_t>(id.entry));
    if (id.partition >= 0) receipt->mutable_message_id()->set_partition(id.partition);
    if (!subscriptions_.empty()) remember({index, std::move(entry), messages});
  }
  producer->link->send(command);
  producer->link->published(size);
  if (!result) return;
  for (const auto& [name, subscription] : subscriptions_) subscription->dispatch();
}

// ---- the tail in memory

void Topic::remember(TailEntry entry) {
  tail_bytes_ += entry.entry.size();
  shared_.tail_bytes += entry.entry.size();
  tail_.push_back(std::move(entry));
  forget_tail(shared_.tail_bytes > shared_.tail_bytes_max ? tail_bytes_ / 2
                                                          : shared_.tail_topic_bytes_max);
}

void Topic::forget_tail(size_t keep_bytes) {
  while (!tail_.empty() && tail_bytes_ > keep_bytes) {
    tail_bytes_ -= tail_.front().entry.size();
    shared_.tail_bytes -= tail_.front().entry.size();
    tail_.pop_front();
  }
}

const TailEntry* Topic::in_tail(uint64_t index) const {
  if (tail_.empty() || index < tail_.front().index) return nullptr;
  const uint64_t guess = index - tail_.front().index;  // right unless there are holes
  if (guess < tail_.size() && tail_[guess].index == index) return &tail_[guess];
  const auto at = std::lower_bound(tail_.begin(), tail_.end(), index,
                                   [](const TailEntry& e, uint64_t i) { return e.index < i; });
  return at != tail_.end() && at->index == index ? &*at : nullptr;
}

// ---- positions

uint64_t Topic::first_index() const {
  return std::max(trimmed_until_, record_.ledgers.front().first_index);
}

MessageId Topic::message_id(uint64_t index) const {
  auto after =
      std::upper_bound(record_.ledgers.begin(), record_.ledgers.end(), index,
                       [](uint64_t i, const Ledger& ledger) { return i < ledger.first_index; });
  if (after != record_.ledgers.begin()) --after;
  return {static_cast<int64_t>(after->id), static_cast<int64_t>(index - after->first_index),
          name_.partition, -1};
}

std::optional<uint64_t> Topic::exact_index(uint64_t ledger, uint64_t entry) const {
  for (size_t i = 0; i < record_.ledgers.size(); ++i) {
    if (record_.ledgers[i].id != ledger) continue;
    const uint64_t end =
        i + 1 < record_.ledgers.size() ? record_.ledgers[i + 1].first_index : stored_end_;
    const uint64_t size = end - std::min(end, record_.ledgers[i].first_index);
    if (entry >= size) return std::nullopt;
    return record_.ledgers[i].first_index + entry;
  }
  return std::nullopt;
}

uint64_t Topic::index_of(uint64_t ledger, uint64_t entry) const {
  if (ledger == kEarliestPart) return first_index();
  if (ledger >= kLatestPart) return stored_end_;
  for (size_t i = 0; i < record_.ledgers.size(); ++i) {
    const auto& at = record_.ledgers[i];
    if (at.id < ledger) continue;
    if (at.id > ledger) return std::max(first_index(), at.first_index);
    const uint64_t end =
        i + 1 < record_.ledgers.size() ? record_.ledgers[i + 1].first_index : stored_end_;
    if (entry == kEarliestPart) return std::max(first_index(), at.first_index);
    return std::max(first_index(), std::min(end, at.first_index + std::min(entry, end)));
  }
  return stored_end_;
}

MessageId Topic::last_id() const {
  if (stored_end_ == 0 || stored_end_ <= first_index()) {
    return {static_cast<int64_t>(record_.ledgers.back().id), -1, name_.partition, -1};
  }
  return message_id(stored_end_ - 1);
}

uint64_t Topic::backlog(const Cursor& cursor) const {
  const uint64_t from = std::max(cursor.acked_until(), first_index());
  const uint64_t behind = stored_end_ - std::min(stored_end_, from);
  return behind - std::min(behind, cursor.acked_ahead());
}

// ---- reading

aio::Task<Result<std::vector<TailEntry>>> Topic::read(uint64_t from, size_t entries_max,
                                                      size_t bytes_max) {
  auto stored = co_await aio::offload(
      shared_.disk, [&store = shared_.store, id = record_.id, from, entries_max, bytes_max] {
        return store.read(id, from, entries_max, bytes_max);
      });
  if (!stored) co_return stored.error().with(text_);
  std::vector<TailEntry> out;
  for (auto& entry : *stored) {
    // What was written but is not synced yet is nobody's business.
    if (entry.index >= stored_end_) break;
    const auto metadata = wire::parse_metadata(entry.payload.view());
    if (!metadata) {
      co_return metadata.error().with(
          fmt::format("{}, message {}", text_, message_id(entry.index).text()));
    }
    out.push_back({entry.index, std::move(entry.payload),
                   static_cast<uint32_t>(std::max(1, metadata->num_messages_in_batch()))});
  }
  co_return out;
}

aio::Task<Result<uint64_t>> Topic::index_at(uint64_t time) {
  uint64_t low = first_index();
  uint64_t high = stored_end_;
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    const auto found = co_await read(middle, 1, 1);
    if (!found) co_return found.error();
    if (found->empty() || found->front().index >= high) {
      high = middle;
      continue;
    }
    const auto metadata = wire::parse_metadata(found->front().entry.view());
    if (!metadata) co_return metadata.error().with(text_);
    if (metadata->publish_time() >= time) {
      high = middle;
    } else {
      low = found->front().index + 1;
    }
  }
  co_return low;
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
  shared_.store.change(std::move(changes), shared_.executor,
                       [self = shared_from_this(),
                        done = std::move(done)](const Result<void>& result) { done(result); });
  return made;
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

void Topic::trim() {
  uint64_t needed = record_.ledgers.back().first_index;
  for (const auto& [name, subscription] : subscriptions_) {
    if (subscription->durable()) needed = std::min(needed, subscription->cursor().acked_until());
  }
  // Whole ledgers: a new subscription may begin with what an old one has consumed of the last
  // ledger.
  size_t gone = 0;
  while (gone + 1 < record_.ledgers.size() && record_.ledgers[gone + 1].first_index <= needed)
    ++gone;
  if (gone == 0) return;
  record_.ledgers.erase(record_.ledgers.begin(),
                        record_.ledgers.begin() + static_cast<ptrdiff_t>(gone));
  store_record();
  if (record_.ledgers.front().first_index <= trimmed_until_) return;
  trimmed_until_ = record_.ledgers.front().first_index;
  shared_.store.trim(record_.id, trimmed_until_);
}

aio::Task<void> Topic::stop() {
  const auto producers = std::move(producers_);
  producers_.clear();
  for (const auto& [name, producer] : producers) producer->link->drop_producer(producer->id);
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

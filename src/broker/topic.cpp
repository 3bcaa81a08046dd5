#include "broker/topic.h"

#include <boost/json.hpp>

#include "aio/clock.h"
#include "aio/offload.h"
#include "base/log.h"
#include "broker/subscription.h"
#include "wire/compaction.h"

namespace hulse::broker {
namespace {

namespace json = boost::json;

constexpr std::string_view kPart = "broker";
constexpr uint64_t kLedgerEntriesMax = 50'000;  // Pulsar's managedLedgerMaxEntriesPerLedger
constexpr size_t kLedgerBytesMax = 128 << 20;   // of ours: what a consumed ledger may hold on disk
constexpr size_t kCopiedBytesMax = 32 << 10;
// What a topic keeps for a subscription that is still to come (docs/decisions/0004).
constexpr uint64_t kUnsubscribedBytesMax = uint64_t{1} << 30;
constexpr uint64_t kEarliestPart = UINT64_MAX;  // MessageId earliest is (-1, -1)
constexpr uint64_t kLatestPart = INT64_MAX;     // and latest is (2^63-1, 2^63-1)

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
  if (!record_.ledgers.empty()) {
    record_.ledgers.back().bytes = ledger_bytes_;
    record_.ledgers.back().closed_ms = aio::wall_ms();
  }
  record_.ledgers.push_back({shared_.next_ledger++, next_index_});
  ledger_bytes_ = 0;
  store_record();
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

void Topic::terminate(Done done) {
  record_.terminated = true;
  store_record([self = shared_from_this(), done = std::move(done)](const Result<void>& result) {
    for (const auto& [name, subscription] : self->subscriptions_) subscription->dispatch();
    done(result);
  });
}

// ---- producers

std::optional<Topic::Refusal> Topic::add_producer(const std::shared_ptr<Producer>& producer,
                                                  Done ready, bool& waits) {
  waits = false;
  if (record_.terminated) return Refusal{pb::TopicTerminatedError, text_ + " was terminated"};
  if (const auto refusal = over_quota()) return refusal;
  const auto known = producers_.find(producer->name);
  if (known != producers_.end()) {
    const auto old = known->second;
    const bool same = old->link == producer->link && old->id == producer->id;
    if (!same || producer->epoch < old->epoch) {
      return Refusal{
          pb::ProducerBusy,
          fmt::format("Producer with name '{}' is already connected to topic '{}' from {}",
                      producer->name, text_, old->link->address())};
    }
    producers_.erase(known);
    if (exclusive_ == old) exclusive_.reset();
  }
  const bool fenced =
      producer->topic_epoch && record_.has_epoch && *producer->topic_epoch < record_.epoch;
  if (fenced) {
    return Refusal{pb::ProducerFenced,
                   fmt::format("Topic {} has epoch {}, the producer comes with {}", text_,
                               record_.epoch, *producer->topic_epoch)};
  }
  switch (producer->access) {
    case pb::Exclusive:
      if (exclusive_ || !producers_.empty()) {
        return Refusal{pb::ProducerFenced, fmt::format("Topic {} has an existing {}producer", text_,
                                                       exclusive_ ? "exclusive " : "")};
      }
      become_exclusive(producer, std::move(ready));
      return std::nullopt;
    case pb::WaitForExclusive:
      if (exclusive_ || !producers_.empty()) {
        waits = true;
        waiting_.emplace_back(producer, std::move(ready));
        return std::nullopt;
      }
      become_exclusive(producer, std::move(ready));
      return std::nullopt;
    case pb::ExclusiveWithFencing: {
      const auto others = std::move(producers_);
      producers_.clear();
      exclusive_.reset();
      for (const auto& [name, other] : others) other->link->forget_producer(other->id);
      const auto waiting = std::move(waiting_);
      waiting_.clear();
      for (const auto& [other, told] : waiting) {
        other->link->forget_producer(other->id);
        told(Error(Code::fenced, "another producer took the topic over"));
      }
      become_exclusive(producer, std::move(ready));
      return std::nullopt;
    }
    case pb::Shared: break;
  }
  if (exclusive_) {
    return Refusal{pb::ProducerBusy, fmt::format("Topic {} has an existing exclusive producer: {}",
                                                 text_, exclusive_->name)};
  }
  producers_[producer->name] = producer;
  ready({});
  return std::nullopt;
}

std::optional<Topic::Refusal> Topic::over_quota() const {
  const int64_t most = policies_.quota_bytes;
  const uint64_t behind = most < 0 ? 0 : bytes_from(slowest());
  const bool too_large = most >= 0 && behind > static_cast<uint64_t>(most);
  if (!too_large && !too_old_) return std::nullopt;
  return Refusal{
      policies_.quota_holds ? pb::ProducerBlockedQuotaExceededError
                            : pb::ProducerBlockedQuotaExceededException,
      too_large
          ? fmt::format("the backlog of {} has {} bytes, its quota is {}", text_, behind, most)
          : fmt::format("the backlog of {} reaches back more than its quota of {} s", text_,
                        policies_.quota_seconds)};
}

aio::Task<void> Topic::check_quota() {
  const auto self = shared_from_this();
  bool old = false;
  if (policies_.quota_seconds >= 0 && slowest() < stored_end_) {
    const auto oldest = co_await read(slowest(), 1, 1);
    const auto metadata = !oldest || oldest->empty()
                              ? Result<wire::pb::MessageMetadata>(wire::pb::MessageMetadata())
                              : wire::parse_metadata(oldest->front().entry.view());
    const int64_t since = metadata ? static_cast<int64_t>(metadata->publish_time()) : 0;
    old = since > 0 && aio::wall_ms() - since > policies_.quota_seconds * 1000;
  }
  too_old_ = old;
  if (producers_.empty()) co_return;
  const auto over = over_quota();
  if (!over) co_return;
  log::warn(kPart, "{}; its producers are let go", over->message);
  const auto producers = producers_;
  for (const auto& [name, producer] : producers) {
    remove_producer(producer);
    producer->link->drop_producer(producer->id);
  }
}

void Topic::become_exclusive(const std::shared_ptr<Producer>& producer, Done ready) {
  exclusive_ = producer;
  producers_[producer->name] = producer;
  if (!producer->topic_epoch || !record_.has_epoch) {
    record_.epoch = record_.has_epoch ? record_.epoch + 1 : 0;
    record_.has_epoch = true;
  } else {
    record_.epoch = std::max(record_.epoch, *producer->topic_epoch);
  }
  producer->topic_epoch = record_.epoch;
  store_record(std::move(ready));
}

void Topic::promote_waiting() {
  if (exclusive_ || !producers_.empty() || waiting_.empty()) return;
  auto [producer, ready] = std::move(waiting_.front());
  waiting_.pop_front();
  become_exclusive(producer, std::move(ready));
}

void Topic::remove_producer(const std::shared_ptr<Producer>& producer) {
  std::erase_if(waiting_, [&](const auto& entry) { return entry.first == producer; });
  const auto known = producers_.find(producer->name);
  if (known != producers_.end() && known->second == producer) producers_.erase(known);
  if (exclusive_ == producer) exclusive_.reset();
  promote_waiting();
}

int64_t Topic::last_sequence_id(const std::string& producer) const {
  if (!policies_.deduplication) return -1;
  const auto known = sequences_.find(producer);
  return known == sequences_.end() || !known->second.stored
             ? -1
             : static_cast<int64_t>(*known->second.stored);
}

bool Topic::is_repeat(const std::shared_ptr<Producer>& producer, const pb::CommandSend& send,
                      uint64_t mark, size_t size) {
  auto& sequence = sequences_[producer->name];
  if (!sequence.pushed || send.sequence_id() > *sequence.pushed) {
    sequence.pushed = mark;
    return false;
  }
  if (sequence.stored && send.sequence_id() <= *sequence.stored) {
    Sent sent{.sequence_id = send.sequence_id()};
    if (send.has_highest_sequence_id()) sent.highest_sequence_id = send.highest_sequence_id();
    receipt(*producer, sent, UINT64_MAX, UINT64_MAX);
  } else {
    // Seen, but not stored yet: whether it will be is not known.
    refuse(*producer, send.sequence_id(), pb::PersistenceError,
           "Cannot determine whether the message is a duplicate at this time", size);
    return true;
  }
  producer->link->published(size);
  return true;
}

void Topic::publish(const std::shared_ptr<Producer>& producer, const pb::CommandSend& send,
                    Bytes entry) {
  if (record_.terminated) {
    return refuse(*producer, send.sequence_id(), pb::TopicTerminatedError,
                  text_ + " was terminated", entry.size());
  }
  if (producer->broken) {
    return refuse(*producer, send.sequence_id(), pb::PersistenceError,
                  "an entry before it could not be stored", entry.size());
  }
  Sent sent;
  sent.sequence_id = send.sequence_id();
  if (send.has_highest_sequence_id()) sent.highest_sequence_id = send.highest_sequence_id();
  std::vector<storage::Change> changes;
  if (policies_.deduplication) {
    // Every chunk of a message has the same sequence id: the last one speaks for it.
    bool counts = true;
    if (send.is_chunk()) {
      const auto metadata = wire::parse_metadata(entry.view());
      counts = metadata && metadata->chunk_id() + 1 == metadata->num_chunks_from_msg();
    }
    if (counts) {
      const uint64_t mark = std::max(send.sequence_id(), send.highest_sequence_id());
      if (is_repeat(producer, send, mark, entry.size())) return;
      sent.mark = mark;
      changes.push_back({sequence_key(record_.id, producer->name), std::to_string(mark)});
    }
  }
  if (next_index_ - record_.ledgers.back().first_index >= kLedgerEntriesMax ||
      ledger_bytes_ >= kLedgerBytesMax) {
    roll_ledger();
    trim();
  }
  if (record_unsaved_) {
    sent.carries_record = true;
    for (auto& change : record_changes()) changes.push_back(std::move(change));
  }
  if (send.is_chunk()) counters_.chunked = true;
  sent.fence = fence_;
  sent.index = next_index_++;
  sent.messages = static_cast<uint32_t>(std::max(1, send.num_messages()));
  ledger_bytes_ += entry.size();
  uncompacted_bytes_ += entry.size();
  shared_.store.append(
      record_.id, sent.index, entry, shared_.executor,
      [self = shared_from_this(), producer, sent, entry](const Result<void>& result) {
        self->stored(producer, sent, entry, result);
      },
      std::move(changes), fence_);
}

void Topic::refuse(const Producer& producer, uint64_t sequence_id, pb::ServerError code,
                   std::string message, size_t size) {
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::SEND_ERROR);
  auto* error = command.mutable_send_error();
  error->set_producer_id(producer.id);
  error->set_sequence_id(sequence_id);
  error->set_error(code);
  error->set_message(std::move(message));
  producer.link->send(command);
  producer.link->published(size);
}

void Topic::receipt(const Producer& producer, const Sent& sent, uint64_t ledger, uint64_t entry) {
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::SEND_RECEIPT);
  auto* receipt = command.mutable_send_receipt();
  receipt->set_producer_id(producer.id);
  receipt->set_sequence_id(sent.sequence_id);
  if (sent.highest_sequence_id) receipt->set_highest_sequence_id(*sent.highest_sequence_id);
  receipt->mutable_message_id()->set_ledgerid(ledger);
  receipt->mutable_message_id()->set_entryid(entry);
  if (name_.partition >= 0) receipt->mutable_message_id()->set_partition(name_.partition);
  producer.link->send(command);
}

void Topic::stored(const std::shared_ptr<Producer>& producer, const Sent& sent, Bytes entry,
                   const Result<void>& written) {
  const size_t size = entry.size();
  auto* sequence = sent.mark ? &sequences_[producer->name] : nullptr;
  Result<void> result = written;
  if (result && sent.carries_record) record_unsaved_ = false;
  if (result && record_unsaved_) {
    // After a restart nobody would find it.
    result = Error(Code::io, "the topic's own record could not be stored");
  }
  if (!result) {
    // What was handed over after it fails with it; what comes from now on is a new start.
    if (!written && sent.fence == fence_) fence_ = std::make_shared<storage::Fence>();
    if (sequence != nullptr) sequence->pushed = sequence->stored;
    producer->broken = true;
    refuse(*producer, sent.sequence_id, pb::PersistenceError, result.error().text(), size);
    return;
  }
  if (sequence != nullptr) sequence->stored = sent.mark;
  stored_end_ = sent.index + 1;
  counters_.in.add(sent.messages, size);
  producer->in.add(sent.messages, size);
  const auto id = message_id(sent.index);
  receipt(*producer, sent, static_cast<uint64_t>(id.ledger), static_cast<uint64_t>(id.entry));
  producer->link->published(size);
  if (!subscriptions_.empty()) {
    // A small slice would keep all of the buffer it came in.
    if (size < kCopiedBytesMax) entry = Bytes::copy(entry.view());
    remember({sent.index, std::move(entry), sent.messages});
  }
  for (const auto& [name, subscription] : subscriptions_) subscription->dispatch();
}

void Topic::sample(double seconds) {
  counters_.in.sample(seconds);
  counters_.out.sample(seconds);
  for (const auto& [name, producer] : producers_) producer->in.sample(seconds);
  for (const auto& [name, subscription] : subscriptions_) subscription->sample(seconds);
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

uint64_t Topic::first_readable(bool compacted) const {
  return compacted && record_.compacted ? record_.ledgers.front().first_index : first_index();
}

MessageId Topic::message_id(uint64_t index) const {
  auto after =
      std::upper_bound(record_.ledgers.begin(), record_.ledgers.end(), index,
                       [](uint64_t i, const Ledger& ledger) { return i < ledger.first_index; });
  if (after != record_.ledgers.begin()) --after;
  return {static_cast<int64_t>(after->id), static_cast<int64_t>(index - after->first_index),
          name_.partition, -1};
}

MessageId Topic::before(uint64_t index) const {
  if (index == 0 || index <= record_.ledgers.front().first_index) {
    return {static_cast<int64_t>(record_.ledgers.front().id), -1, name_.partition, -1};
  }
  return message_id(index - 1);
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

uint64_t Topic::index_of(uint64_t ledger, uint64_t entry, bool compacted) const {
  const uint64_t first = first_readable(compacted);
  if (ledger == kEarliestPart) return first;
  if (ledger >= kLatestPart) return stored_end_;
  for (size_t i = 0; i < record_.ledgers.size(); ++i) {
    const auto& at = record_.ledgers[i];
    if (at.id < ledger) continue;
    if (at.id > ledger) return std::max(first, at.first_index);
    const uint64_t end =
        i + 1 < record_.ledgers.size() ? record_.ledgers[i + 1].first_index : stored_end_;
    if (entry == kEarliestPart) return std::max(first, at.first_index);
    return std::max(first, std::min(end, at.first_index + std::min(entry, end)));
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

uint64_t Topic::bytes_from(uint64_t index) const {
  uint64_t sum = 0;
  for (size_t i = record_.ledgers.size(); i > 0; --i) {
    const auto& ledger = record_.ledgers[i - 1];
    const bool last = i == record_.ledgers.size();
    const uint64_t end = last ? next_index_ : record_.ledgers[i].first_index;
    const uint64_t begin = std::max(ledger.first_index, trimmed_until_);
    if (end <= index || end <= begin) break;
    const uint64_t bytes = last ? ledger_bytes_ : ledger.bytes;
    const uint64_t from = std::max(index, begin);
    sum += static_cast<uint64_t>(static_cast<double>(bytes) * static_cast<double>(end - from) /
                                 static_cast<double>(end - ledger.first_index));
  }
  return sum;
}

uint64_t Topic::slowest() const {
  uint64_t out = stored_end_;
  for (const auto& [name, subscription] : subscriptions_) {
    if (subscription->durable()) out = std::min(out, subscription->cursor().acked_until());
  }
  return std::max(out, first_index());
}

// ---- reading

aio::Task<Result<std::vector<TailEntry>>> Topic::read(uint64_t from, size_t entries_max,
                                                      size_t bytes_max, bool compacted) {
  while (compacted && record_.compacted && from < record_.compacted->horizon) {
    const auto before = *record_.compacted;
    auto entries = co_await read_store(before.id, from, entries_max, bytes_max, true);
    // Another compaction may have taken this one's place, and its entries, meanwhile.
    if (!record_.compacted || record_.compacted->id != before.id) continue;
    if (!entries || !entries->empty()) co_return entries;
    from = before.horizon;
  }
  auto entries = co_await read_store(record_.id, from, entries_max, bytes_max, false);
  co_return entries;
}

aio::Task<Result<std::vector<TailEntry>>> Topic::read_store(storage::TopicId id, uint64_t from,
                                                            size_t entries_max, size_t bytes_max,
                                                            bool compacted) {
  auto stored = co_await aio::offload(shared_.disk,
                                      [&store = shared_.store, id, from, entries_max, bytes_max] {
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
  if (compacted) {
    // Clients are told which messages of a batch are left: not all know the mark in the batch.
    out = co_await aio::offload(shared_.disk, [entries = std::move(out)]() mutable {
      for (auto& entry : entries) {
        if (entry.messages > 1) entry.present = wire::present_messages(entry.entry);
      }
      return std::move(entries);
    });
  }
  co_return out;
}

std::string Topic::damage(uint64_t index) const {
  const auto known = damage_.find(index);
  return known == damage_.end() ? std::string() : known->second;
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
    const uint64_t at = subscription->cursor().acked_until();
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
  const auto before = record_;
  record_.compacted = made;
  record_.compacting = 0;
  // Of what is trimmed only the ledgers of entries that stay are still spoken of.
  std::vector<Ledger> rows;
  for (size_t i = 0; i < record_.ledgers.size(); ++i) {
    const auto& row = record_.ledgers[i];
    const bool trimmed =
        i + 1 < record_.ledgers.size() && record_.ledgers[i + 1].first_index <= trimmed_until_;
    if (!trimmed || kept.contains(row.id)) rows.push_back(row);
  }
  record_.ledgers = std::move(rows);
  auto changes = record_changes();
  // Until the answer the new one is read already: its entries are durable.
  const auto written = co_await write_through(shared_.store, std::move(changes));
  if (!written) {
    record_.compacted = before.compacted;
    record_.compacting = made.id;
    co_return written;
  }
  if (before.compacted) shared_.store.trim(before.compacted->id, UINT64_MAX);
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

// Topic's producers: who may publish, and what becomes of what they send.
#include "aio/clock.h"
#include "base/log.h"
#include "broker/subscription.h"

namespace hulse::broker {
namespace {

constexpr std::string_view kPart = "broker";
constexpr uint64_t kLedgerEntriesMax = 50'000;  // Pulsar's managedLedgerMaxEntriesPerLedger
constexpr size_t kLedgerBytesMax = 128 << 20;   // of ours: what a consumed ledger may hold on disk
constexpr size_t kCopiedBytesMax = 32 << 10;

}  // namespace

std::optional<Topic::Refusal> Topic::add_producer(const std::shared_ptr<Producer>& producer,
                                                  Done ready, bool& waits) {
  waits = false;
  if (stopped()) return Refusal{pb::ServiceNotReady, text_ + " was unloaded"};
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
  }
  const size_t present = producers_.size() - (known == producers_.end() ? 0 : 1);
  const bool no_room = policies_.producers_max > 0 && producer->access == pb::Shared &&
                       present >= static_cast<size_t>(policies_.producers_max);
  if (no_room) {
    return Refusal{pb::ProducerBusy,
                   fmt::format("Topic reached max producers limit: {} of {}", present, text_)};
  }
  if (known != producers_.end()) {
    if (exclusive_ == known->second) exclusive_.reset();
    producers_.erase(known);
  }
  // One that asks again while it waits takes its own place, else the old one would be let in later.
  std::erase_if(waiting_, [&](const auto& entry) {
    return entry.first->link == producer->link && entry.first->id == producer->id;
  });
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
    const int64_t since =
        !metadata || oldest->empty()
            ? 0
            : static_cast<int64_t>(wire::publish_time(oldest->front().entry.view(), *metadata));
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
  sent.bytes = entry.size();
  entry = noted(entry, sent.messages);
  ledger_bytes_ += entry.size();
  uncompacted_bytes_ += entry.size();
  ++unstored_;
  shared_.store.append(
      record_.id, sent.index, entry, shared_.executor,
      [self = shared_from_this(), producer, sent, entry](const Result<void>& result) {
        self->stored(producer, sent, entry, result);
      },
      std::move(changes), fence_);
}

Bytes Topic::noted(const Bytes& entry, uint32_t messages) {
  if (!shared_.note_time && !shared_.note_index) return entry;
  pb::BrokerEntryMetadata metadata;
  if (shared_.note_time) metadata.set_broker_timestamp(static_cast<uint64_t>(aio::wall_ms()));
  if (shared_.note_index) {
    // Of the last message of a batch, as Pulsar counts. One that fails to be stored leaves a gap.
    record_.messages += messages;
    metadata.set_index(record_.messages - 1);
  }
  return wire::with_broker_metadata(metadata, entry);
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
  --unstored_;
  const size_t size = sent.bytes;
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
    if (result.error().code() == Code::full) make_room();
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

}  // namespace hulse::broker

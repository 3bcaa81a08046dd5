// Subscription's decisions about who gets which entry when.
#include <algorithm>
#include <bit>

#include "base/log.h"
#include "broker/subscription.h"
#include "wire/peek.h"

namespace hulse::broker {
namespace {

constexpr std::string_view kPart = "broker";
constexpr unsigned kMessagesInARow = 20;  // Pulsar's dispatcherMaxRoundRobinBatchSize
constexpr size_t kReadEntries = 256;
constexpr size_t kReadBytes = 1 << 20;
constexpr size_t kReadBytesScarce = 32 << 10;
constexpr auto kReadRetry = std::chrono::seconds(5);
// Key_Shared: how far it looks past entries whose consumer cannot take them.
constexpr size_t kParkedEntriesMax = 2000;
constexpr size_t kPointsPerConsumer = 100;  // Pulsar's consistent hashing
constexpr uint32_t kRingSlots = 65535;
constexpr uint32_t kRangeSlots = 65536;  // of Pulsar's range splitting; slot 0 counts as 1

// How many of a batch's messages an ack_set still asks for.
uint32_t count_remaining(std::span<const int64_t> words, uint32_t messages) {
  if (words.empty()) return messages;
  uint32_t count = 0;
  for (const int64_t word : words) {
    count += static_cast<uint32_t>(std::popcount(static_cast<uint64_t>(word)));
  }
  return std::min(count, messages);
}

bool can_take(const Consumer& consumer) {
  return consumer.permits > 0 && !consumer.blocked && consumer.link->writable();
}

}  // namespace

// ---- in turn: exclusive, failover, shared

Consumer* Subscription::taker() {
  if (ordered()) return active_ && active_ready_ && can_take(*active_) ? active_.get() : nullptr;
  if (consumers_.empty()) return nullptr;
  round_robin_ %= consumers_.size();
  if (in_a_row_ >= kMessagesInARow) {
    round_robin_ = (round_robin_ + 1) % consumers_.size();
    in_a_row_ = 0;
  }
  Consumer* best = nullptr;
  size_t best_at = 0;
  for (size_t i = 0; i < consumers_.size(); ++i) {
    const size_t at = (round_robin_ + i) % consumers_.size();
    auto& consumer = *consumers_[at];
    if (can_take(consumer) && (best == nullptr || consumer.priority < best->priority)) {
      best = &consumer;
      best_at = at;
    }
  }
  if (best != nullptr && best_at != round_robin_) {
    round_robin_ = best_at;
    in_a_row_ = 0;
  }
  return best;
}

std::optional<uint64_t> Subscription::next_index() {
  while (!redeliveries_.empty() && cursor_.is_acked(*redeliveries_.begin())) {
    redeliveries_.erase(redeliveries_.begin());
  }
  if (!redeliveries_.empty()) return *redeliveries_.begin();
  const uint64_t first = topic_.first_readable(reads_compacted_);
  read_index_ = cursor_.next_unacked(std::max(read_index_, first));
  if (read_index_ >= topic_.end_index()) return std::nullopt;
  return read_index_;
}

const TailEntry* Subscription::in_memory(uint64_t index) {
  const auto& compacted = topic_.record().compacted;
  const bool replaced = reads_compacted_ && compacted && index < compacted->horizon;
  if (const auto* entry = replaced ? nullptr : topic_.in_tail(index)) return entry;
  if (const auto parked = parked_.find(index); parked != parked_.end()) return &parked->second;
  const auto at = std::lower_bound(ahead_.begin(), ahead_.end(), index,
                                   [](const TailEntry& e, uint64_t i) { return e.index < i; });
  return at != ahead_.end() && at->index == index ? &*at : nullptr;
}

// Of what was read ahead, the entries before `index`.
void Subscription::forget_ahead(uint64_t index) {
  while (!ahead_.empty() && ahead_.front().index < index) {
    shared_.ahead_bytes -= ahead_.front().entry.size();
    ahead_.pop_front();
  }
}

void Subscription::dispatch() {
  if (dispatching_) return;  // a delivery closed something that calls back
  dispatching_ = true;
  unblock();
  if (by_key()) {
    dispatch_by_key();
  } else {
    dispatch_in_turn();
  }
  dispatching_ = false;
  // What is delivered is read again in the rare case that it is given back.
  if (redeliveries_.empty()) forget_ahead(read_index_);
  notice_end();
}

void Subscription::dispatch_in_turn() {
  while (!blocked_) {
    auto* consumer = taker();
    if (consumer == nullptr) break;
    const auto index = next_index();
    if (!index) break;
    const TailEntry* entry = in_memory(*index);
    if (entry == nullptr) {
      read_ahead(*index);
      break;
    }
    const bool again = redeliveries_.erase(*index) > 0;
    if (!again) read_index_ = *index + 1;
    if (!again && !ordered() && is_delayed(*entry)) continue;
    deliver(*consumer, *entry);
  }
}

// ---- by key

// Each consumer has points on a ring of hashes; a hash belongs to the next point. Or it has a
// range, named by its end: each one that joins gets the lower half of the largest.
void Subscription::arrange_keys() {
  ring_.clear();
  if (sticky()) return;
  if (!topic_.shared().consistent_hashing) {
    for (const auto& consumer : consumers_) {
      uint32_t begin = 0;
      uint32_t largest_begin = 0;
      uint32_t largest_end = kRangeSlots;
      uint32_t largest = 0;
      for (const auto& [end, owner] : ring_) {
        if (end - begin > largest) {
          largest = end - begin;
          largest_begin = begin;
          largest_end = end;
        }
        begin = end;
      }
      const uint32_t split =
          ring_.empty() ? kRangeSlots : largest_end - (largest_end - largest_begin) / 2;
      ring_[split] = consumer.get();
    }
    return;
  }
  std::unordered_map<std::string, size_t> same_name;
  for (const auto& consumer : consumers_) {
    const size_t nth = same_name[consumer->name]++;
    for (size_t point = 0; point < kPointsPerConsumer; ++point) {
      std::string key = consumer->name;
      key += '\0' + std::to_string(nth);
      key += '\0' + std::to_string(point);
      ring_[wire::murmur3(key) % kRingSlots + 1] = consumer.get();
    }
  }
}

uint32_t Subscription::slot_of(const TailEntry& entry) const {
  const auto seen = wire::peek(entry.entry.view());
  if (!seen) return 1;
  const uint32_t hash = wire::sticky_hash(*seen);
  return topic_.shared().consistent_hashing && !sticky() ? hash % kRingSlots + 1
                                                         : std::max(1U, hash % kRangeSlots);
}

std::string Subscription::range_conflict(const Consumer& consumer) const {
  if (!consumer.sticky) return "";
  if (consumer.ranges.empty()) return "Ranges for KeyShared policy must not be empty.";
  for (const auto& [begin, end] : consumer.ranges) {
    if (begin > end || end >= kRangeSlots)
      return fmt::format("[{}, {}] is no range within [0, {}]", begin, end, kRangeSlots - 1);
    for (const auto& other : consumers_) {
      for (const auto& [other_begin, other_end] : other->ranges) {
        if (begin <= other_end && other_begin <= end)
          return fmt::format("Range conflict with consumer {}: [{}, {}] and [{}, {}]", other->name,
                             begin, end, other_begin, other_end);
      }
    }
  }
  return "";
}

// Nobody: entries of that hash wait until somebody comes.
Consumer* Subscription::owner_of(uint32_t hash) const {
  for (const auto& consumer : consumers_) {
    for (const auto& [begin, end] : consumer->ranges)
      if (begin <= hash && hash <= end) return consumer.get();
  }
  if (ring_.empty()) return nullptr;
  const auto at = ring_.lower_bound(hash);
  return at == ring_.end() ? ring_.begin()->second : at->second;
}

void Subscription::dispatch_by_key() {
  if (consumers_.empty()) return;
  // What waits must not be overtaken by a later entry of its key.
  std::set<uint32_t> waiting_hashes;
  const auto offer = [&](uint64_t index, const TailEntry& entry) {
    const uint32_t hash = slot_of(entry);
    auto* consumer = owner_of(hash);
    const auto holder = holders_.find(hash);
    const bool held_elsewhere = consumer != nullptr && holder != holders_.end() &&
                                holder->second.consumer != consumer && !consumer->out_of_order;
    if (consumer == nullptr || waiting_hashes.contains(hash) || held_elsewhere || blocked_ ||
        !can_take(*consumer)) {
      waiting_hashes.insert(hash);
      return false;
    }
    auto& held = holders_[hash];
    held.consumer = consumer;
    ++held.entries;
    hashes_[index] = hash;
    deliver(*consumer, entry);
    return true;
  };

  const std::vector<uint64_t> again(redeliveries_.begin(), redeliveries_.end());
  for (const uint64_t index : again) {
    if (cursor_.is_acked(index)) {
      redeliveries_.erase(index);
      parked_.erase(index);
      continue;
    }
    const TailEntry* entry = in_memory(index);
    if (entry == nullptr) {
      read_ahead(index);
      return;  // what comes after it may be of its key
    }
    const TailEntry kept = *entry;
    if (offer(index, kept)) {
      redeliveries_.erase(index);
      parked_.erase(index);
    } else {
      parked_.emplace(index, kept);
    }
  }
  while (redeliveries_.size() < kParkedEntriesMax) {
    read_index_ = cursor_.next_unacked(std::max(read_index_, topic_.first_index()));
    if (read_index_ >= topic_.end_index()) return;
    const bool anybody = std::any_of(consumers_.begin(), consumers_.end(),
                                     [](const auto& consumer) { return can_take(*consumer); });
    if (!anybody || blocked_) return;
    const TailEntry* found = in_memory(read_index_);
    if (found == nullptr) {
      read_ahead(read_index_);
      return;
    }
    const TailEntry entry = *found;
    const uint64_t index = read_index_++;
    if (is_delayed(entry) || offer(index, entry)) continue;
    redeliveries_.insert(index);
    parked_.emplace(index, entry);
  }
}

// True when it was blocked and is no more.
bool Subscription::unblock() {
  if (!blocked_) return false;
  const int64_t all = topic_.policies().unacked_per_subscription;
  if (all > 0 && unacked_messages() > static_cast<uint64_t>(all) / 2) return false;
  blocked_ = false;
  return true;
}

void Subscription::forget_pending(Consumer& consumer, uint64_t index) {
  const auto held = consumer.pending.find(index);
  if (held == consumer.pending.end()) return;
  consumer.unacked -= std::min<uint64_t>(consumer.unacked, held->second);
  consumer.pending.erase(held);
  const auto hash = hashes_.find(index);
  if (hash == hashes_.end()) return;
  const auto holder = holders_.find(hash->second);
  if (holder != holders_.end() && --holder->second.entries == 0) holders_.erase(holder);
  hashes_.erase(hash);
}

// ---- delayed delivery

// Sets the entry aside if its time has not come.
bool Subscription::is_delayed(const TailEntry& entry) {
  if (!topic_.policies().delayed_delivery) return false;
  const auto seen = wire::peek(entry.entry.view());
  // Clients cut the time they mean down to a millisecond: not before the next one.
  if (!seen || seen->deliver_at < aio::wall_ms()) return false;
  delayed_[seen->deliver_at].insert(entry.index);
  if (!delays_changed_) delays_changed_.emplace(topic_.shared().executor);
  if (!waking_) {
    waking_ = true;
    topic_.gate().spawn("delays of " + name_, wake_delayed());
  }
  delays_changed_->notify();
  return true;
}

aio::Task<void> Subscription::wake_delayed() {
  const auto self = shared_from_this();
  while (!delayed_.empty()) {
    const int64_t wait = delayed_.begin()->first + 1 - aio::wall_ms();
    if (wait <= 0) {
      redeliveries_.insert(delayed_.begin()->second.begin(), delayed_.begin()->second.end());
      delayed_.erase(delayed_.begin());
      dispatch();
      continue;
    }
    // An earlier one may come while it waits.
    co_await delays_changed_->wait_until(aio::Clock::now() + std::chrono::milliseconds(wait));
    const bool stopped = co_await aio::cancelled();
    if (stopped) co_return;
  }
  waking_ = false;
}

uint64_t Subscription::delayed() const {
  uint64_t count = 0;
  for (const auto& [due, indexes] : delayed_) count += indexes.size();
  return count;
}

// ---- handing over

void Subscription::deliver(Consumer& consumer, const TailEntry& entry) {
  std::span<const int64_t> remaining = cursor_.remaining(entry.index);
  std::vector<int64_t> left;
  if (!entry.present.empty()) {
    left = entry.present;
    for (size_t i = 0; i < std::min(left.size(), remaining.size()); ++i) left[i] &= remaining[i];
    remaining = left;
  }
  const uint32_t messages = count_remaining(remaining, entry.messages);
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::MESSAGE);
  auto* message = command.mutable_message();
  message->set_consumer_id(consumer.id);
  const auto id = topic_.message_id(entry.index);
  message->mutable_message_id()->set_ledgerid(static_cast<uint64_t>(id.ledger));
  message->mutable_message_id()->set_entryid(static_cast<uint64_t>(id.entry));
  message->mutable_message_id()->set_partition(id.partition);
  const auto count = counts_.find(entry.index);
  if (count != counts_.end()) message->set_redelivery_count(count->second);
  for (const int64_t word : remaining) message->add_ack_set(word);
  if (consumer.has_epoch) message->set_consumer_epoch(consumer.epoch);

  const size_t size = entry.entry.size();
  consumer.permits -= messages;
  consumer.out.add(messages, size);
  ++consumer.entries_out;
  out_.add(messages, size);
  topic_.counters().out.add(messages, size);
  consumer.consumed_ms = consumed_ms_ = aio::wall_ms();
  if (!ordered()) {
    in_a_row_ += messages;
    consumer.pending[entry.index] = messages;
    consumer.unacked += messages;
    const int64_t most = topic_.policies().unacked_per_consumer;
    if (most > 0 && consumer.unacked >= static_cast<uint64_t>(most)) consumer.blocked = true;
    const int64_t all = topic_.policies().unacked_per_subscription;
    if (all > 0 && unacked_messages() >= static_cast<uint64_t>(all)) blocked_ = true;
  }
  consumer.link->send(command, entry.entry);
}

// Of a terminated topic: whoever has read it to its end is told.
// As Pulsar: when all is acknowledged, not when all is delivered. (The Go client does not know the
// command and closes its connection.)
void Subscription::notice_end() {
  if (!topic_.record().terminated || topic_.backlog(cursor_) > 0) return;
  for (const auto& consumer : consumers_) {
    if (consumer->told_end) continue;
    consumer->told_end = true;
    pb::BaseCommand command;
    command.set_type(pb::BaseCommand::REACHED_END_OF_TOPIC);
    command.mutable_reachedendoftopic()->set_consumer_id(consumer->id);
    consumer->link->send(command);
  }
}

// ---- from disk

void Subscription::read_ahead(uint64_t from) {
  if (reading_) return;
  reading_ = true;
  topic_.gate().spawn("read for " + name_, run_read(from));
}

// Once everything before the entry is acknowledged its consumers are disconnected, and whoever
// comes is told why there is nothing to have. Until then they may acknowledge.
void Subscription::tell_of_damage(uint64_t index, const Error& why) {
  if (cursor_.next_unacked(cursor_.acked_until()) != index) return;
  topic_.note_damage(
      index, fmt::format("{}, message {} cannot be read: {}. To go on without it: POST /admin/v2/"
                         "persistent/.../subscription/{}/skip/1",
                         topic_.text(), topic_.message_id(index).text(), why.text(), name_));
  const auto consumers = consumers_;
  for (const auto& consumer : consumers) consumer->link->drop_consumer(consumer->id);
}

aio::Task<void> Subscription::run_read(uint64_t from) {
  const auto self = shared_from_this();
  // What is stored while it reads must not count as gone.
  const uint64_t end = topic_.end_index();
  const size_t bytes_max =
      shared_.ahead_bytes > shared_.ahead_bytes_max ? kReadBytesScarce : kReadBytes;
  auto entries = co_await topic_.read(from, kReadEntries, bytes_max, reads_compacted_);
  if (!entries) {
    log::error(kPart, "subscription {} cannot go on at message {}: {}", name_,
               topic_.message_id(from).text(), entries.error().text());
    if (entries.error().code() == Code::corrupt) tell_of_damage(from, entries.error());
    co_await aio::sleep(kReadRetry);
    reading_ = false;
    dispatch();
    co_return;
  }
  reading_ = false;
  // What lies before the first one found does not exist any more (trimmed, or its write failed).
  const uint64_t found = entries->empty() ? end : entries->front().index;
  bool moved = false;
  if (from <= cursor_.acked_until()) {
    moved = cursor_.ack_until(found);
  } else {
    for (uint64_t gone = from; gone < found; ++gone) moved |= cursor_.ack(gone);
  }
  if (moved) changed(nullptr);
  forget_ahead(UINT64_MAX);
  ahead_.assign(std::make_move_iterator(entries->begin()), std::make_move_iterator(entries->end()));
  for (const auto& entry : ahead_) shared_.ahead_bytes += entry.entry.size();
  dispatch();
}

}  // namespace hulse::broker

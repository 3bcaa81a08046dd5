#include "broker/subscription.h"

#include <algorithm>
#include <bit>

#include "base/log.h"

namespace hulse::broker {
namespace {

constexpr std::string_view kPart = "broker";
constexpr uint64_t kUnackedMax = 50'000;  // Pulsar's maxUnackedMessagesPerConsumer
constexpr unsigned kMessagesInARow = 20;  // Pulsar's dispatcherMaxRoundRobinBatchSize
constexpr size_t kReadEntries = 256;
constexpr size_t kReadBytes = 1 << 20;
constexpr auto kReadRetry = std::chrono::seconds(5);

// How many of a batch's messages an ack_set still asks for.
uint32_t count_remaining(std::span<const int64_t> words, uint32_t messages) {
  if (words.empty()) return messages;
  uint32_t count = 0;
  for (const int64_t word : words)
    count += static_cast<uint32_t>(std::popcount(static_cast<uint64_t>(word)));
  return std::min(count, messages);
}

}  // namespace

Subscription::Subscription(Topic& topic, std::string name, bool durable, Cursor cursor)
    : topic_(topic), name_(std::move(name)), durable_(durable), cursor_(std::move(cursor)) {
  read_index_ = cursor_.acked_until();
}

std::optional<Topic::Refusal> Subscription::add(const std::shared_ptr<Consumer>& consumer,
                                                SubType type) {
  if (!consumers_.empty()) {
    if (type != type_) {
      return Topic::Refusal{
          pb::ConsumerBusy,
          fmt::format("Subscription is of different type: \"{}\" of {} is {} now", name_,
                      topic_.text(), pb::CommandSubscribe::SubType_Name(type_))};
    }
    if (type == pb::CommandSubscribe::Exclusive) {
      return Topic::Refusal{pb::ConsumerBusy, "Exclusive consumer is already connected"};
    }
  } else {
    type_ = type;
    active_.reset();
    rewind();
  }
  consumers_.push_back(consumer);
  if (ordered()) {
    choose_active();
    // The others keep what they know; the new one has to be told either way.
    if (type_ == pb::CommandSubscribe::Failover && active_ != consumer) announce_active();
  }
  return std::nullopt;
}

void Subscription::remove(const std::shared_ptr<Consumer>& consumer) {
  const auto known = std::find(consumers_.begin(), consumers_.end(), consumer);
  if (known == consumers_.end()) return;
  consumers_.erase(known);
  for (const auto& [index, messages] : consumer->pending) redeliveries_.insert(index);
  consumer->pending.clear();
  consumer->unacked = 0;
  if (consumers_.empty()) {
    active_.reset();
    rewind();
    if (!durable_) topic_.remove(name_, [](const Result<void>&) {});
    return;
  }
  if (ordered()) {
    choose_active();
  } else {
    dispatch();
  }
}

void Subscription::choose_active() {
  if (consumers_.empty()) return;
  // Consumers of one name keep the order they came in.
  std::multimap<std::pair<int, std::string>, std::shared_ptr<Consumer>> by_rank;
  for (const auto& consumer : consumers_) {
    by_rank.emplace(std::pair(consumer->priority, consumer->name), consumer);
  }
  std::vector<std::shared_ptr<Consumer>> sorted;
  for (const auto& [rank, consumer] : by_rank) sorted.push_back(consumer);
  const auto lower = std::find_if(sorted.begin(), sorted.end(), [&](const auto& consumer) {
    return consumer->priority != sorted.front()->priority;
  });
  const auto candidates = static_cast<size_t>(lower - sorted.begin());
  const int partition = topic_.name().partition;
  const auto chosen = sorted[partition > 0 ? static_cast<size_t>(partition) % candidates : 0];
  if (chosen == active_) return;
  const bool old_is_here =
      active_ && std::find(consumers_.begin(), consumers_.end(), active_) != consumers_.end();
  active_ = chosen;
  if (type_ == pb::CommandSubscribe::Failover) announce_active();
  if (old_is_here) {
    // Acknowledgements of the one before may still be on their way.
    active_ready_ = false;
    topic_.gate().spawn("failover of " + name_, activate_later(active_));
    return;
  }
  active_ready_ = true;
  rewind();
  dispatch();
}

aio::Task<void> Subscription::activate_later(std::shared_ptr<Consumer> consumer) {
  const auto self = shared_from_this();
  const bool slept = co_await aio::sleep(topic_.shared().failover_delay);
  if (!slept || active_ != consumer) co_return;
  active_ready_ = true;
  rewind();
  dispatch();
}

void Subscription::announce_active() {
  for (const auto& consumer : consumers_) {
    pb::BaseCommand command;
    command.set_type(pb::BaseCommand::ACTIVE_CONSUMER_CHANGE);
    command.mutable_active_consumer_change()->set_consumer_id(consumer->id);
    command.mutable_active_consumer_change()->set_is_active(consumer == active_);
    consumer->link->send(command);
  }
}

void Subscription::rewind() {
  read_index_ = cursor_.acked_until();
  redeliveries_.clear();
  ahead_.clear();
}

void Subscription::flow(const std::shared_ptr<Consumer>& consumer, uint32_t permits) {
  consumer->permits += permits;
  dispatch();
}

// ---- acknowledgements

void Subscription::ack(const std::shared_ptr<Consumer>& consumer, const pb::CommandAck& ack,
                       Done done) {
  bool moved = false;
  for (const auto& id : ack.message_id()) {
    if (ack.ack_type() == pb::CommandAck::Cumulative) {
      if (!ordered()) continue;
      const auto index = topic_.exact_index(id.ledgerid(), id.entryid());
      const uint64_t until = index ? *index : topic_.index_of(id.ledgerid(), id.entryid());
      if (!index) {
        moved |= cursor_.ack_until(until);
      } else if (id.ack_set_size() > 0) {
        moved |= cursor_.ack_until(until);
        moved |=
            cursor_.ack_batch(until, {id.ack_set().data(), static_cast<size_t>(id.ack_set_size())});
      } else {
        moved |= cursor_.ack_until(until + 1);
      }
      counts_.clear();
      continue;
    }
    const auto index = topic_.exact_index(id.ledgerid(), id.entryid());
    if (!index) continue;  // trimmed or never there: acknowledged as far as anybody can tell
    if (id.ack_set_size() > 0) {
      moved |=
          cursor_.ack_batch(*index, {id.ack_set().data(), static_cast<size_t>(id.ack_set_size())});
      if (!cursor_.is_acked(*index)) continue;
    } else {
      moved |= cursor_.ack(*index);
    }
    counts_.erase(*index);
    redeliveries_.erase(*index);
    const auto settle = [&](Consumer& holder) {
      const auto held = holder.pending.find(*index);
      if (held == holder.pending.end()) return false;
      holder.unacked -= std::min<uint64_t>(holder.unacked, held->second);
      holder.pending.erase(held);
      return true;
    };
    if (!ordered() && !settle(*consumer)) {
      for (const auto& other : consumers_) settle(*other);
    }
  }
  if (consumer->blocked && consumer->unacked <= kUnackedMax / 2) {
    consumer->blocked = false;
    dispatch();
  }
  if (moved || done) changed(std::move(done));
}

void Subscription::changed(Done done) {
  dirty_ = true;
  if (done) waiting_.push_back(std::move(done));
  store();
}

void Subscription::store() {
  if (storing_ || !dirty_) return;
  dirty_ = false;
  auto waiting = std::move(waiting_);
  waiting_.clear();
  if (!durable_) {
    for (const auto& done : waiting) done({});
    return;
  }
  storing_ = true;
  std::vector<storage::Change> changes;
  changes.push_back({cursor_key(topic_.id(), name_), cursor_.encode()});
  // The topic outlives its subscriptions; keeping it keeps both.
  topic_.shared().store.change(std::move(changes), topic_.shared().executor,
                               [self = shared_from_this(), topic = topic_.shared_from_this(),
                                waiting = std::move(waiting)](const Result<void>& result) {
                                 self->storing_ = false;
                                 if (!result)
                                   log::error(kPart, "{}, subscription {}: {}", topic->text(),
                                              self->name_, result.error().text());
                                 for (const auto& done : waiting) done(result);
                                 topic->trim();
                                 self->store();
                               });
}

// ---- redelivery

void Subscription::give_back(Consumer& consumer, uint64_t index) {
  const auto held = consumer.pending.find(index);
  if (held == consumer.pending.end()) return;
  consumer.unacked -= std::min<uint64_t>(consumer.unacked, held->second);
  consumer.pending.erase(held);
  ++counts_[index];
  redeliveries_.insert(index);
}

void Subscription::redeliver(const std::shared_ptr<Consumer>& consumer,
                             const pb::CommandRedeliverUnacknowledgedMessages& command) {
  if (ordered()) {
    if (consumer != active_) return;
    if (command.has_consumer_epoch()) {
      consumer->epoch = command.consumer_epoch();
      consumer->has_epoch = true;
    }
    rewind();
  } else if (command.message_ids_size() == 0) {
    std::vector<uint64_t> all;
    for (const auto& [index, messages] : consumer->pending) all.push_back(index);
    for (const uint64_t index : all) give_back(*consumer, index);
  } else {
    for (const auto& id : command.message_ids()) {
      const auto index = topic_.exact_index(id.ledgerid(), id.entryid());
      if (index) give_back(*consumer, *index);
    }
  }
  if (consumer->unacked <= kUnackedMax / 2) consumer->blocked = false;
  dispatch();
}

void Subscription::seek(uint64_t index, Done done) {
  const auto consumers = consumers_;
  cursor_.reset(index);
  counts_.clear();
  for (const auto& consumer : consumers) {
    consumer->pending.clear();
    consumer->link->drop_consumer(consumer->id);
  }
  rewind();
  changed(std::move(done));
}

// ---- dispatch

Consumer* Subscription::taker() {
  const auto can_take = [](const Consumer& consumer) {
    return consumer.permits > 0 && !consumer.blocked && consumer.link->writable();
  };
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
  read_index_ = cursor_.next_unacked(std::max(read_index_, topic_.first_index()));
  if (read_index_ >= topic_.end_index()) return std::nullopt;
  return read_index_;
}

void Subscription::dispatch() {
  if (dispatching_) return;  // a delivery closed something that calls back
  dispatching_ = true;
  for (;;) {
    auto* consumer = taker();
    if (consumer == nullptr) break;
    const auto index = next_index();
    if (!index) break;
    const TailEntry* entry = topic_.in_tail(*index);
    if (entry == nullptr) {
      while (!ahead_.empty() && ahead_.front().index < *index) ahead_.pop_front();
      if (ahead_.empty() || ahead_.front().index != *index) {
        read_ahead(*index);
        break;
      }
      entry = &ahead_.front();
    }
    if (redeliveries_.erase(*index) == 0) read_index_ = *index + 1;
    deliver(*consumer, *entry);
  }
  dispatching_ = false;
}

void Subscription::deliver(Consumer& consumer, const TailEntry& entry) {
  const auto remaining = cursor_.remaining(entry.index);
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

  consumer.permits -= messages;
  consumer.messages_out += messages;
  topic_.counters().messages_out += messages;
  topic_.counters().bytes_out += entry.entry.size();
  if (!ordered()) {
    in_a_row_ += messages;
    consumer.pending[entry.index] = messages;
    consumer.unacked += messages;
    if (consumer.unacked >= kUnackedMax) consumer.blocked = true;
  }
  consumer.link->send(command, entry.entry);
}

void Subscription::read_ahead(uint64_t from) {
  if (reading_) return;
  reading_ = true;
  topic_.gate().spawn("read for " + name_, run_read(from));
}

aio::Task<void> Subscription::run_read(uint64_t from) {
  const auto self = shared_from_this();
  auto entries = co_await topic_.read(from, kReadEntries, kReadBytes);
  if (!entries) {
    log::error(kPart, "subscription {} cannot go on at message {}: {}", name_,
               topic_.message_id(from).text(), entries.error().text());
    co_await aio::sleep(kReadRetry);
    reading_ = false;
    dispatch();
    co_return;
  }
  reading_ = false;
  // What lies before the first one found does not exist any more (trimmed, or its write failed).
  const uint64_t found = entries->empty() ? topic_.end_index() : entries->front().index;
  bool moved = false;
  for (uint64_t gone = from; gone < found; ++gone) moved |= cursor_.ack(gone);
  if (moved) changed(nullptr);
  ahead_.assign(std::make_move_iterator(entries->begin()), std::make_move_iterator(entries->end()));
  dispatch();
}

uint64_t Subscription::unacked_messages() const {
  uint64_t sum = 0;
  for (const auto& consumer : consumers_) sum += consumer->unacked;
  return sum;
}

}  // namespace hulse::broker

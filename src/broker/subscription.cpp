#include "broker/subscription.h"

#include <algorithm>

#include "base/log.h"
#include "wire/peek.h"

namespace hulse::broker {
namespace {

constexpr std::string_view kPart = "broker";

constexpr int kPointsPerConsumer = 100;

// Whom an unpartitioned topic falls to: Pulsar's ring, so that topics spread over consumers.
std::shared_ptr<Consumer> on_ring(const std::vector<std::shared_ptr<Consumer>>& consumers,
                                  const std::string& topic) {
  std::map<uint32_t, std::shared_ptr<Consumer>> ring;
  for (const auto& consumer : consumers) {
    for (int point = 0; point < kPointsPerConsumer; ++point)
      ring[wire::murmur3(consumer->name + std::to_string(point))] = consumer;
  }
  const auto at = ring.lower_bound(wire::murmur3(topic));
  return at == ring.end() ? ring.begin()->second : at->second;
}

}  // namespace

Subscription::Subscription(Topic& topic, std::string name, bool durable, Cursor cursor)
    : topic_(topic),
      shared_(topic.shared()),
      name_(std::move(name)),
      durable_(durable),
      stored_(!durable),
      cursor_(std::move(cursor)) {
  read_index_ = cursor_.acked_until();
}

Subscription::~Subscription() { forget_ahead(UINT64_MAX); }

std::optional<Topic::Refusal> Subscription::add(const std::shared_ptr<Consumer>& consumer,
                                                SubType type,
                                                const std::function<void()>& admitted) {
  if (topic_.stopped()) return Topic::Refusal{pb::ServiceNotReady, topic_.text() + " was unloaded"};
  const auto damage = topic_.damage(cursor_.next_unacked(cursor_.acked_until()));
  // Clients try again after PersistenceError; this one they tell their caller.
  if (!damage.empty()) return Topic::Refusal{pb::ChecksumError, damage};
  const bool keyed = type == pb::CommandSubscribe::Key_Shared;
  if (!consumers_.empty()) {
    if (type != type_ || (keyed && consumer->sticky != consumers_.front()->sticky)) {
      return Topic::Refusal{
          pb::ConsumerBusy,
          fmt::format("Subscription is of different type: \"{}\" of {} is {} now", name_,
                      topic_.text(), pb::CommandSubscribe::SubType_Name(type_))};
    }
    if (type == pb::CommandSubscribe::Exclusive) {
      return Topic::Refusal{pb::ConsumerBusy, "Exclusive consumer is already connected"};
    }
  }
  if (const auto refusal = topic_.over_consumers()) return refusal;
  const auto most = static_cast<size_t>(topic_.policies().subscription_consumers_max);
  if (most > 0 && consumers_.size() >= most) {
    return Topic::Refusal{pb::ConsumerBusy,
                          fmt::format("Subscription reached max consumers limit: {} of {} on {}",
                                      consumers_.size(), name_, topic_.text())};
  }
  const auto conflict = keyed ? range_conflict(*consumer) : std::string();
  if (!conflict.empty()) return Topic::Refusal{pb::ConsumerAssignError, conflict};
  if (consumers_.empty()) {
    type_ = type;
    reads_compacted_ = consumer->reads_compacted;
    active_.reset();
    rewind();
  }
  consumers_.push_back(consumer);
  admitted();
  if (by_key()) arrange_keys();
  if (ordered()) {
    choose_active(consumer.get());
    // The others keep what they know; the new one has to be told either way.
    if (type_ == pb::CommandSubscribe::Failover && active_ != consumer) announce_active();
  }
  return std::nullopt;
}

void Subscription::remove(const std::shared_ptr<Consumer>& consumer) {
  const auto known = std::find(consumers_.begin(), consumers_.end(), consumer);
  if (known == consumers_.end()) return;
  consumers_.erase(known);
  std::vector<uint64_t> held;
  for (const auto& [index, messages] : consumer->pending) held.push_back(index);
  for (const uint64_t index : held) {
    forget_pending(*consumer, index);
    redeliveries_.insert(index);
  }
  if (by_key()) arrange_keys();
  if (consumers_.empty()) {
    active_.reset();
    rewind();
    // After a seek they come back, and must find the position they asked for.
    if (!durable_ && !seeking_) topic_.remove(name_, [](const Result<void>&) {});
    return;
  }
  if (ordered()) {
    choose_active(nullptr);
  } else {
    dispatch();
  }
}

void Subscription::choose_active(const Consumer* newcomer) {
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
  sorted.erase(lower, sorted.end());
  const int partition = topic_.name().partition;
  const auto chosen = partition >= 0 ? sorted[static_cast<size_t>(partition) % sorted.size()]
                                     : on_ring(sorted, topic_.text());
  if (chosen == active_) return;
  const bool old_is_here =
      active_ && std::find(consumers_.begin(), consumers_.end(), active_) != consumers_.end();
  active_ = chosen;
  // With somebody before it, acknowledgements of that one may still be on their way.
  active_ready_ = !old_is_here;
  if (type_ == pb::CommandSubscribe::Failover) {
    // A newcomer is told after the delay, as with Pulsar: some clients lose what follows right on
    // their subscription's answer.
    const bool later = old_is_here || active_.get() == newcomer;
    if (later) {
      topic_.gate().spawn("failover of " + name_, activate_later(active_));
    } else {
      announce_active();
    }
  }
  if (old_is_here) return;
  rewind();
  dispatch();
}

aio::Task<void> Subscription::activate_later(std::shared_ptr<Consumer> consumer) {
  const auto self = shared_from_this();
  const bool slept = co_await aio::sleep(topic_.shared().failover_delay);
  if (!slept || active_ != consumer) co_return;
  announce_active();
  if (active_ready_) co_return;
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
  forget_ahead(UINT64_MAX);
  parked_.clear();
  delayed_.clear();
}

void Subscription::flow(const std::shared_ptr<Consumer>& consumer, uint32_t permits) {
  consumer->permits += permits;
  consumer->flow_ms = aio::wall_ms();
  dispatch();
}

// ---- acknowledgements

void Subscription::ack(const std::shared_ptr<Consumer>& consumer, const pb::CommandAck& ack,
                       Done done) {
  bool moved = false;
  consumer->acked_ms = acked_ms_ = aio::wall_ms();
  const auto count = static_cast<uint64_t>(ack.message_id_size());
  consumer->acked.add(count, 0);
  acked_.add(count, 0);
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
      const bool held = holder.pending.contains(*index);
      if (held) forget_pending(holder, *index);
      return held;
    };
    if (!ordered() && !settle(*consumer)) {
      for (const auto& other : consumers_) settle(*other);
    }
  }
  const auto most = static_cast<uint64_t>(topic_.policies().unacked_per_consumer);
  const bool unblocked = consumer->blocked && consumer->unacked <= most / 2;
  if (unblocked) consumer->blocked = false;
  // By key, an acknowledgement may free a key for another consumer.
  if (unblocked || by_key() || unblock()) dispatch();
  if (moved) notice_end();
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

void Subscription::expire_until(uint64_t index) {
  index = std::min(index, topic_.end_index());
  const uint64_t before = cursor_.acked_until();
  if (!cursor_.ack_until(index)) return;
  expired_.add(index - before, 0);
  expired_ms_ = aio::wall_ms();
  changed(nullptr);
  dispatch();
}

// ---- redelivery

void Subscription::give_back(Consumer& consumer, uint64_t index) {
  if (!consumer.pending.contains(index)) return;
  forget_pending(consumer, index);
  consumer.redelivered.add(1, 0);
  redelivered_.add(1, 0);
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
  if (consumer->unacked <= static_cast<uint64_t>(topic_.policies().unacked_per_consumer) / 2) {
    consumer->blocked = false;
  }
  dispatch();
}

void Subscription::seek(uint64_t index, Done done) {
  const auto consumers = consumers_;
  cursor_.reset(index);
  counts_.clear();
  seeking_ = true;
  for (const auto& consumer : consumers) consumer->link->drop_consumer(consumer->id);
  seeking_ = false;
  rewind();
  changed(std::move(done));
}

void Subscription::sample(double seconds) {
  for (Meter* meter : {&out_, &redelivered_, &acked_, &expired_}) meter->sample(seconds);
  for (const auto& consumer : consumers_) {
    for (Meter* meter : {&consumer->out, &consumer->redelivered, &consumer->acked})
      meter->sample(seconds);
  }
}

uint64_t Subscription::unacked_messages() const {
  uint64_t sum = 0;
  for (const auto& consumer : consumers_) sum += consumer->unacked;
  return sum;
}

}  // namespace hulse::broker

// Consumer's acknowledgements and redeliveries: kept until the broker has confirmed them.
#include <algorithm>

#include "base/log.h"
#include "client/client.h"
#include "client/consumer.h"

namespace hulse::client {
namespace {

constexpr std::string_view kPart = "client";
constexpr size_t kIdsInOne = 1000;
constexpr aio::Duration kAckPause = std::chrono::milliseconds(100);

Position position_of(const MessageId& id) {
  return {static_cast<uint64_t>(id.ledger), static_cast<uint64_t>(id.entry)};
}

pb::MessageIdData& add(pb::CommandAck& ack, const Position& position) {
  auto* id = ack.add_message_id();
  id->set_ledgerid(position.first);
  id->set_entryid(position.second);
  return *id;
}

}  // namespace

void Consumer::ack(const MessageId& entry) {
  const Position position = position_of(entry);
  const auto known = held_.find(position);
  if (known == held_.end() || known->second.state != State::taken) return;
  known->second.state = State::acked;
  partial_acks_.erase(position);
  acks_.insert(position);
  for (const auto& part : known->second.parts) {
    held_[part].state = State::acked;
    acks_.insert(part);
  }
  if (!known->second.parts.empty()) --in_chunks_;
  acks_changed_.notify();
}

void Consumer::ack_message(const MessageId& message) {
  const Position position = position_of(message);
  const auto known = held_.find(position);
  if (known == held_.end() || known->second.state != State::taken) return;
  auto& held = known->second;
  if (message.batch_index < 0 || held.batch_size <= 1) return ack(message);
  const auto index = static_cast<uint32_t>(message.batch_index);
  if (index >= held.batch_size) return;
  if (held.left.empty()) {
    held.left.assign((held.batch_size + 63) / 64, -1);
    const uint32_t last = held.batch_size % 64;
    if (last != 0) held.left.back() = static_cast<int64_t>((uint64_t{1} << last) - 1);
  }
  if (index / 64 < held.left.size()) {
    auto& word = held.left[index / 64];
    word = static_cast<int64_t>(static_cast<uint64_t>(word) & ~(uint64_t{1} << (index % 64)));
  }
  const bool none =
      std::all_of(held.left.begin(), held.left.end(), [](int64_t word) { return word == 0; });
  if (none) return ack(message);
  partial_acks_.insert(position);
  acks_changed_.notify();
}

void Consumer::ack_until(const MessageId& entry) {
  const Position position = position_of(entry);
  // Chunks of messages that end behind it, complete or not, have to come again after a crash.
  std::set<Position> kept;
  if (in_chunks_ > 0) {
    for (auto at = held_.upper_bound(position); at != held_.end(); ++at) {
      if (at->second.state == State::taken)
        kept.insert(at->second.parts.begin(), at->second.parts.end());
    }
  }
  std::optional<Position> barrier = chunks_.first();
  if (!kept.empty() && (!barrier || *kept.begin() < *barrier)) barrier = *kept.begin();
  const bool whole = !barrier || position < *barrier;
  for (auto at = held_.begin(); at != held_.end() && at->first <= position; ++at) {
    auto& held = at->second;
    if (held.state == State::acked || held.state == State::part || kept.contains(at->first))
      continue;
    if (held.state == State::taken && !held.parts.empty()) --in_chunks_;
    held.state = State::acked;
    if (!whole) acks_.insert(at->first);
  }
  if (whole && (!ack_until_ || *ack_until_ < position)) ack_until_ = position;
  acks_changed_.notify();
}

// What one ACK can carry.
bool Consumer::fill_in(pb::CommandAck& ack, std::vector<Position>& sent,
                       std::optional<Position>& until) {
  until = std::exchange(ack_until_, std::nullopt);
  if (until) {
    ack.set_ack_type(pb::CommandAck::Cumulative);
    add(ack, *until);
    return true;
  }
  ack.set_ack_type(pb::CommandAck::Individual);
  while (!acks_.empty() && sent.size() < kIdsInOne) {
    const Position position = acks_.extract(acks_.begin()).value();
    add(ack, position);
    sent.push_back(position);
  }
  while (!partial_acks_.empty() && sent.size() < kIdsInOne) {
    const Position position = partial_acks_.extract(partial_acks_.begin()).value();
    const auto known = held_.find(position);
    // Given back meanwhile: nothing of it is acknowledged, and an empty set would mean all of it.
    if (known == held_.end() || known->second.state != State::taken || known->second.left.empty())
      continue;
    auto& id = add(ack, position);
    for (const int64_t word : known->second.left) id.add_ack_set(word);
    id.set_batch_size(static_cast<int32_t>(known->second.batch_size));
    sent.push_back(position);
  }
  return !sent.empty();
}

void Consumer::confirmed(const std::vector<Position>& sent, const std::optional<Position>& until) {
  const auto forget_if_acked = [this](HeldMap::iterator at) {
    return at->second.state == State::acked ? held_.erase(at) : std::next(at);
  };
  if (until) {
    for (auto at = held_.begin(); at != held_.end() && at->first <= *until;)
      at = forget_if_acked(at);
  }
  for (const auto& position : sent) {
    const auto known = held_.find(position);
    if (known != held_.end() && !acks_.contains(position)) forget_if_acked(known);
  }
}

aio::Task<void> Consumer::send_acks() {
  const auto self = shared_from_this();
  for (;;) {
    while (closing_ || !connection_ || (acks_.empty() && partial_acks_.empty() && !ack_until_)) {
      const bool woken = co_await acks_changed_.wait();
      if (!woken) co_return;
    }
    // One command at a time: while it is on its way, the next one gathers.
    const uint64_t request_id = client_.next_id();
    pb::BaseCommand command;
    command.set_type(pb::BaseCommand::ACK);
    command.mutable_ack()->set_consumer_id(id_);
    command.mutable_ack()->set_request_id(request_id);
    std::vector<Position> sent;
    std::optional<Position> until;
    if (!fill_in(*command.mutable_ack(), sent, until)) {
      acks_changed_.notify();  // nothing is left to be sent: flush_acks() waits for that
      continue;
    }
    acks_in_flight_ = 1;
    const uint64_t life = life_;
    const auto connection = connection_;
    const auto answer =
        co_await connection->request(command, request_id, client_.options().operation_timeout);
    acks_in_flight_ = 0;
    if (life_ != life) {
      // Of before a seek: said again it would take back the seek.
      if (!answer && answer.error().cancelled()) co_return;
    } else if (answer) {
      confirmed(sent, until);
    } else {
      for (const auto& position : sent) {
        const auto known = held_.find(position);
        if (known == held_.end()) continue;
        (known->second.state == State::acked ? acks_ : partial_acks_).insert(position);
      }
      if (until && (!ack_until_ || *ack_until_ < *until)) ack_until_ = until;
      if (answer.error().cancelled()) co_return;
      if (closing_) continue;
      log::warn(kPart, "acknowledging on {}: {}; trying again", topic_, answer.error().text());
      const bool slept = co_await aio::sleep(kAckPause);
      if (!slept) co_return;
    }
    acks_changed_.notify();
  }
}

aio::Task<Result<void>> Consumer::flush_acks() {
  const auto self = shared_from_this();
  while (!acks_.empty() || !partial_acks_.empty() || ack_until_ || acks_in_flight_ > 0) {
    if (failed_) co_return *failed_;
    const bool woken = co_await acks_changed_.wait();
    if (!woken) co_return Error(Code::cancelled, "stopped");
  }
  co_return Result<void>();
}

// ---- redeliveries

void Consumer::redeliver(const MessageId& entry, aio::Duration delay) {
  redeliveries_.emplace(aio::Clock::now() + delay, position_of(entry));
  redeliveries_changed_.notify();
}

aio::Task<void> Consumer::send_redeliveries() {
  const auto self = shared_from_this();
  for (;;) {
    while (!connection_ || redeliveries_.empty() ||
           redeliveries_.begin()->first > aio::Clock::now()) {
      const auto at = connection_ && !redeliveries_.empty() ? redeliveries_.begin()->first
                                                            : aio::TimePoint::max();
      const bool woken = co_await redeliveries_changed_.wait_until(at);
      const bool stopped = co_await aio::cancelled();
      if (!woken && stopped) co_return;
    }
    const auto end = redeliveries_.upper_bound(aio::Clock::now());
    std::vector<Position> due;
    for (auto at = redeliveries_.begin(); at != end; ++at) due.push_back(at->second);
    redeliveries_.erase(redeliveries_.begin(), end);
    redeliver_now(std::move(due));
  }
}

void Consumer::redeliver_now(std::vector<Position> due) {
  std::vector<Position> entries;
  for (const auto& position : due) {
    const auto known = held_.find(position);
    if (known == held_.end() || known->second.state != State::taken) continue;
    entries.push_back(position);
    entries.insert(entries.end(), known->second.parts.begin(), known->second.parts.end());
    if (!known->second.parts.empty()) --in_chunks_;
  }
  if (entries.empty()) return;
  if (ordered()) {
    // In order means all of them; what is on its way has the old epoch and is dropped.
    ++epoch_;
    uint32_t waiting = 0;
    for (const auto& received : queue_) {
      const auto metadata = wire::parse_metadata(received.entry.view());
      waiting += permits_of(
          received,
          static_cast<uint32_t>(metadata ? std::max(1, metadata->num_messages_in_batch()) : 1));
    }
    queue_.clear();
    ready_.clear();
    chunks_.clear();
    in_chunks_ = 0;
    std::erase_if(held_, [](const auto& entry) { return entry.second.state != State::acked; });
    partial_acks_.clear();
    pb::BaseCommand command;
    command.set_type(pb::BaseCommand::REDELIVER_UNACKNOWLEDGED_MESSAGES);
    command.mutable_redeliverunacknowledgedmessages()->set_consumer_id(id_);
    command.mutable_redeliverunacknowledgedmessages()->set_consumer_epoch(epoch_);
    connection_->send(command);
    give_permits(waiting);
    return;
  }
  for (const auto& position : entries) held_.erase(position);
  for (size_t at = 0; at < entries.size(); at += kIdsInOne) {
    pb::BaseCommand command;
    command.set_type(pb::BaseCommand::REDELIVER_UNACKNOWLEDGED_MESSAGES);
    auto* redeliver = command.mutable_redeliverunacknowledgedmessages();
    redeliver->set_consumer_id(id_);
    for (size_t i = at; i < std::min(entries.size(), at + kIdsInOne); ++i) {
      redeliver->add_message_ids()->set_ledgerid(entries[i].first);
      redeliver->mutable_message_ids(redeliver->message_ids_size() - 1)
          ->set_entryid(entries[i].second);
    }
    connection_->send(command);
  }
}

}  // namespace hulse::client

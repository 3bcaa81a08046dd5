#include "client/consumer.h"

#include <algorithm>
#include <bit>

#include "aio/backoff.h"
#include "base/log.h"
#include "client/client.h"

namespace hulse::client {
namespace {

constexpr std::string_view kPart = "client";
constexpr aio::BackoffPolicy kBackoff{std::chrono::milliseconds(100), std::chrono::seconds(10)};
constexpr size_t kAcksInOne = 1000;

}  // namespace

Consumer::Consumer(Client& client, ConsumerOptions options)
    : client_(client),
      options_(std::move(options)),
      id_(client.next_id()),
      gate_(client.executor()),
      changed_(client.executor()),
      acks_changed_(client.executor()) {}

Consumer::~Consumer() = default;

aio::Task<Result<void>> Consumer::open() {
  aio::Backoff backoff(kBackoff);
  const auto deadline = aio::Clock::now() + client_.options().operation_timeout;
  for (;;) {
    const auto connected = co_await connect();
    if (connected) break;
    if (!can_pass(connected.error()) || aio::Clock::now() >= deadline) co_return connected.error();
    const auto wait = backoff.next();
    const bool slept = co_await aio::sleep(wait);
    if (!slept) co_return Error(Code::cancelled, "stopped");
  }
  gate_.spawn("consumer of " + options_.topic, run());
  gate_.spawn("acknowledgements of " + options_.topic, send_acks());
  co_return Result<void>();
}

aio::Task<Result<void>> Consumer::connect() {
  const std::string what =
      fmt::format("subscribing {} to {}", options_.subscription, options_.topic);
  auto connection = co_await client_.connection_for(options_.topic);
  if (!connection) co_return connection.error().with(what);
  const uint64_t request_id = client_.next_id();
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::SUBSCRIBE);
  auto* subscribe = command.mutable_subscribe();
  subscribe->set_topic(options_.topic);
  subscribe->set_subscription(options_.subscription);
  subscribe->set_subtype(options_.type);
  subscribe->set_consumer_id(id_);
  subscribe->set_request_id(request_id);
  subscribe->set_consumer_name(options_.name);
  subscribe->set_durable(options_.durable);
  subscribe->set_initialposition(options_.initial_position);
  const auto start = options_.durable ? std::nullopt : last_taken_ ? last_taken_ : options_.start;
  if (start) {
    subscribe->mutable_start_message_id()->set_ledgerid(static_cast<uint64_t>(start->ledger));
    subscribe->mutable_start_message_id()->set_entryid(static_cast<uint64_t>(start->entry));
  }
  for (const auto& [key, value] : options_.properties) {
    auto* property = subscribe->add_metadata();
    property->set_key(key);
    property->set_value(value);
  }
  // Attached first: a failover's notice may come before the answer is looked at.
  closed_while_opening_ = false;
  (*connection)->attach_consumer(id_, this);
  const auto answer =
      co_await (*connection)->request(command, request_id, client_.options().operation_timeout);
  if (!answer) {
    (*connection)->detach_consumer(id_);
    co_return answer.error().with(what);
  }
  if ((*connection)->closed()) {
    co_return Error(Code::unavailable, "the connection was lost").with(what);
  }
  if (closed_while_opening_) {
    (*connection)->detach_consumer(id_);
    co_return Error(Code::unavailable, "the broker closed the consumer at once").with(what);
  }
  // The broker sends again what it has not seen acknowledged.
  queue_.clear();
  std::erase_if(held_, [](const auto& entry) { return entry.second == State::queued; });
  connection_ = std::move(*connection);
  // Until the size of what comes is known, it may be the largest there is.
  window_ = std::clamp<size_t>(options_.bytes_max / connection_->message_bytes_max(), 1,
                               options_.messages_max);
  to_give_ = 0;
  flow(static_cast<uint32_t>(window_));
  acks_changed_.notify();
  co_return Result<void>();
}

aio::Task<void> Consumer::run() {
  const auto self = shared_from_this();
  aio::Backoff backoff(kBackoff);
  for (;;) {
    while (connection_) {
      const bool woken = co_await changed_.wait();
      if (!woken) co_return;
      backoff.reset();
    }
    const auto connected = co_await connect();
    if (connected) {
      log::info(kPart, "consuming {} again", options_.topic);
      continue;
    }
    if (connected.error().cancelled()) co_return;
    if (!can_pass(connected.error()) && connected.error().code() != Code::busy) {
      failed_ = connected.error();
      changed_.notify();
      acks_changed_.notify();
      co_return;
    }
    log::warn(kPart, "{}; trying again", connected.error().text());
    const auto wait = backoff.next();
    const bool slept = co_await aio::sleep(wait);
    if (!slept) co_return;
  }
}

// ---- permits

void Consumer::flow(uint32_t permits) {
  if (!connection_ || permits == 0) return;
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::FLOW);
  command.mutable_flow()->set_consumer_id(id_);
  command.mutable_flow()->set_messagepermits(permits);
  connection_->send(command);
}

void Consumer::give_permits(uint32_t taken) {
  to_give_ += taken;
  const size_t average =
      seen_messages_ == 0 ? options_.bytes_max : std::max<size_t>(1, seen_bytes_ / seen_messages_);
  const size_t wanted = std::clamp<size_t>(options_.bytes_max / average, 1, options_.messages_max);
  if (to_give_ < std::min(window_, wanted) / 2 && wanted <= window_) return;
  // Growing gives more than was taken, shrinking less.
  const size_t give = wanted >= window_ ? to_give_ + (wanted - window_)
                                        : to_give_ - std::min(to_give_, window_ - wanted);
  window_ = wanted >= window_ ? wanted : window_ - (to_give_ - give);
  to_give_ = 0;
  flow(static_cast<uint32_t>(give));
}

// ---- receiving

void Consumer::on_frame(const wire::Frame& frame) {
  const auto& command = frame.command;
  switch (command.type()) {
    case pb::BaseCommand::MESSAGE: break;
    case pb::BaseCommand::CLOSE_CONSUMER:
      closed_while_opening_ = true;
      if (connection_) connection_->detach_consumer(id_);
      connection_.reset();
      changed_.notify();
      return;
    case pb::BaseCommand::ACTIVE_CONSUMER_CHANGE:
      active_ = command.active_consumer_change().is_active();
      return;
    case pb::BaseCommand::REACHED_END_OF_TOPIC:
      ended_ = true;
      changed_.notify();
      return;
    default: return;
  }
  const auto& message = command.message();
  const Position position{message.message_id().ledgerid(), message.message_id().entryid()};
  Received received;
  received.id = {static_cast<int64_t>(position.first), static_cast<int64_t>(position.second),
                 message.message_id().partition(), -1};
  received.ack_set.assign(message.ack_set().begin(), message.ack_set().end());
  received.redelivery_count = message.redelivery_count();
  received.entry = frame.entry;
  const bool fresh = held_.emplace(position, State::queued).second;
  if (!fresh) {
    // Still in somebody's hands, or acknowledged without the broker knowing it yet.
    const auto metadata = wire::parse_metadata(frame.entry.view());
    const int batch = metadata ? metadata->num_messages_in_batch() : 1;
    give_permits(permits_of(received, static_cast<uint32_t>(std::max(1, batch))));
    return;
  }
  queue_.push_back(std::move(received));
  changed_.notify();
}

aio::Task<Result<std::shared_ptr<wire::Messages>>> Consumer::receive() {
  const auto self = shared_from_this();
  for (;;) {
    while (queue_.empty()) {
      if (failed_) co_return *failed_;
      if (ended_) co_return Error(Code::closed, options_.topic + " has ended");
      const bool woken = co_await changed_.wait();
      if (!woken && queue_.empty()) co_return Error(Code::cancelled, "stopped");
    }
    Received received = std::move(queue_.front());
    queue_.pop_front();
    const Position position{static_cast<uint64_t>(received.id.ledger),
                            static_cast<uint64_t>(received.id.entry)};
    auto messages = wire::decode_messages(received.entry, received.id, received.ack_set,
                                          received.redelivery_count, wire::kMessageBytesMax * 4);
    if (!messages) {
      const Error why = messages.error();
      messages = wire::undecodable(received.entry, received.id);
      (*messages)->damage = why;
    }
    held_[position] = State::taken;
    last_taken_ = received.id;
    const uint32_t count = permits_of(received, (*messages)->batch_size);
    seen_messages_ += count;
    seen_bytes_ += received.entry.size();
    give_permits(count);
    co_return std::move(*messages);
  }
}

// What the broker counted against the permits: the messages of the entry that it still had to
// deliver.
uint32_t Consumer::permits_of(const Received& received, uint32_t batch_size) {
  if (received.ack_set.empty()) return batch_size;
  uint32_t count = 0;
  for (const int64_t word : received.ack_set)
    count += static_cast<uint32_t>(std::popcount(static_cast<uint64_t>(word)));
  return std::min(count, batch_size);
}

size_t Consumer::queued_bytes() const {
  size_t bytes = 0;
  for (const auto& received : queue_) bytes += received.entry.size();
  return bytes;
}

// ---- acknowledgements

void Consumer::ack(const MessageId& entry) {
  const Position position{static_cast<uint64_t>(entry.ledger), static_cast<uint64_t>(entry.entry)};
  const auto known = held_.find(position);
  if (known == held_.end() || known->second != State::taken) return;
  known->second = State::acked;
  acks_.push_back(position);
  acks_changed_.notify();
}

void Consumer::ack_until(const MessageId& entry) {
  const Position position{static_cast<uint64_t>(entry.ledger), static_cast<uint64_t>(entry.entry)};
  for (auto at = held_.begin(); at != held_.end() && at->first <= position; ++at)
    at->second = State::acked;
  if (!ack_until_ || *ack_until_ < position) ack_until_ = position;
  acks_changed_.notify();
}

aio::Task<void> Consumer::send_acks() {
  const auto self = shared_from_this();
  for (;;) {
    while (closing_ || !connection_ || (acks_.empty() && !ack_until_)) {
      const bool woken = co_await acks_changed_.wait();
      if (!woken) co_return;
    }
    // One command at a time: while it is on its way, the next one gathers.
    const uint64_t request_id = client_.next_id();
    pb::BaseCommand command;
    command.set_type(pb::BaseCommand::ACK);
    auto* ack = command.mutable_ack();
    ack->set_consumer_id(id_);
    ack->set_request_id(request_id);
    const auto add = [&](const Position& position) {
      ack->add_message_id()->set_ledgerid(position.first);
      ack->mutable_message_id(ack->message_id_size() - 1)->set_entryid(position.second);
    };
    std::vector<Position> sent;
    const auto until = std::exchange(ack_until_, std::nullopt);
    if (until) {
      ack->set_ack_type(pb::CommandAck::Cumulative);
      add(*until);
    } else {
      ack->set_ack_type(pb::CommandAck::Individual);
      const size_t count = std::min(acks_.size(), kAcksInOne);
      sent.assign(acks_.begin(), acks_.begin() + static_cast<ptrdiff_t>(count));
      acks_.erase(acks_.begin(), acks_.begin() + static_cast<ptrdiff_t>(count));
      for (const auto& position : sent) add(position);
    }
    acks_in_flight_ = 1;
    const auto connection = connection_;
    const auto answer =
        co_await connection->request(command, request_id, client_.options().operation_timeout);
    acks_in_flight_ = 0;
    if (answer) {
      if (until) held_.erase(held_.begin(), held_.upper_bound(*until));
      for (const auto& position : sent) held_.erase(position);
    } else {
      acks_.insert(acks_.begin(), sent.begin(), sent.end());
      if (until && (!ack_until_ || *ack_until_ < *until)) ack_until_ = until;
      if (answer.error().cancelled()) co_return;
      if (closing_) continue;
      log::warn(kPart, "acknowledging on {}: {}; trying again", options_.topic,
                answer.error().text());
      const bool slept = co_await aio::sleep(kBackoff.initial);
      if (!slept) co_return;
    }
    acks_changed_.notify();
  }
}

aio::Task<Result<void>> Consumer::flush_acks() {
  const auto self = shared_from_this();
  while (!acks_.empty() || ack_until_ || acks_in_flight_ > 0) {
    if (failed_) co_return *failed_;
    const bool woken = co_await acks_changed_.wait();
    if (!woken) co_return Error(Code::cancelled, "stopped");
  }
  co_return Result<void>();
}

// ---- the rest

aio::Task<Result<MessageId>> Consumer::last_message_id() {
  const auto self = shared_from_this();
  while (!connection_) {
    if (failed_) co_return *failed_;
    const bool woken = co_await changed_.wait();
    if (!woken) co_return Error(Code::cancelled, "stopped");
  }
  const uint64_t request_id = client_.next_id();
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::GET_LAST_MESSAGE_ID);
  command.mutable_getlastmessageid()->set_consumer_id(id_);
  command.mutable_getlastmessageid()->set_request_id(request_id);
  const auto connection = connection_;
  const auto answer =
      co_await connection->request(command, request_id, client_.options().operation_timeout);
  if (!answer) co_return answer.error().with("asking for the last message of " + options_.topic);
  const auto& id = answer->getlastmessageidresponse().last_message_id();
  co_return MessageId{static_cast<int64_t>(id.ledgerid()), static_cast<int64_t>(id.entryid()),
                      id.partition(), id.batch_index()};
}

aio::Task<Result<void>> Consumer::unsubscribe() {
  const auto self = shared_from_this();
  if (!connection_) co_return Error(Code::unavailable, "not connected");
  const uint64_t request_id = client_.next_id();
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::UNSUBSCRIBE);
  command.mutable_unsubscribe()->set_consumer_id(id_);
  command.mutable_unsubscribe()->set_request_id(request_id);
  const auto connection = connection_;
  const auto answer =
      co_await connection->request(command, request_id, client_.options().operation_timeout);
  if (!answer) co_return answer.error().with("unsubscribing " + options_.subscription);
  co_return Result<void>();
}

void Consumer::on_closed(const Error&) {
  connection_.reset();
  changed_.notify();
}

aio::Task<void> Consumer::close() {
  const auto self = shared_from_this();
  closing_ = true;
  if (connection_ && !connection_->closed()) {
    connection_->detach_consumer(id_);
    const uint64_t request_id = client_.next_id();
    pb::BaseCommand command;
    command.set_type(pb::BaseCommand::CLOSE_CONSUMER);
    command.mutable_close_consumer()->set_consumer_id(id_);
    command.mutable_close_consumer()->set_request_id(request_id);
    const auto connection = connection_;
    // The answer tells that the broker has taken what came before; one that does not come is no
    // harm.
    const auto answer = co_await connection->request(command, request_id, std::chrono::seconds(2));
    if (!answer)
      log::debug(kPart, "closing a consumer of {}: {}", options_.topic, answer.error().text());
  }
  connection_.reset();
  failed_ = Error(Code::cancelled, "the consumer was closed");
  changed_.notify();
  acks_changed_.notify();
  co_await gate_.close();
}

}  // namespace hulse::client

#include "client/consumer.h"

#include <algorithm>
#include <bit>

#include "base/log.h"
#include "client/client.h"

namespace hulse::client {
namespace {

constexpr std::string_view kPart = "client";
constexpr aio::Duration kCloseMax = std::chrono::seconds(2);

Position position_of(const MessageId& id) {
  return {static_cast<uint64_t>(id.ledger), static_cast<uint64_t>(id.entry)};
}
MessageId id_of(const Position& position) {
  return {static_cast<int64_t>(position.first), static_cast<int64_t>(position.second), -1, -1};
}
bool is_place(const MessageId& id) { return id.ledger >= 0 && id.ledger != INT64_MAX; }

void fill(pb::MessageIdData& data, const MessageId& id) {
  data.set_ledgerid(static_cast<uint64_t>(id.ledger));
  data.set_entryid(static_cast<uint64_t>(id.entry));
  if (id.batch_index >= 0) data.set_batch_index(id.batch_index);
}

}  // namespace

Consumer::Consumer(Client& client, ConsumerOptions options)
    : Handler(client, Kind::consumer, options.topic),
      options_(std::move(options)),
      acks_changed_(client.executor()),
      redeliveries_changed_(client.executor()),
      chunks_(options_.chunks),
      start_(options_.durable ? std::nullopt : options_.start),
      start_inclusive_(options_.start_inclusive) {}

Consumer::~Consumer() = default;

aio::Task<Result<void>> Consumer::open() {
  const auto begun = co_await begin("consumer of " + topic_);
  if (!begun) co_return begun.error();
  gate_.spawn("acknowledgements of " + topic_, send_acks());
  gate_.spawn("redeliveries of " + topic_, send_redeliveries());
  gate_.spawn("chunks of " + topic_, expire_chunks());
  co_return Result<void>();
}

aio::Task<Result<void>> Consumer::connect() {
  // The broker closes the consumer before it answers SEEK: until then the old place would count.
  while (seeking_) {
    const bool woken = co_await changed_.wait();
    if (!woken) co_return Error(Code::cancelled, "stopped");
  }
  const uint64_t request_id = client_.next_id();
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::SUBSCRIBE);
  auto* subscribe = command.mutable_subscribe();
  subscribe->set_topic(topic_);
  subscribe->set_subscription(options_.subscription);
  subscribe->set_subtype(options_.type);
  subscribe->set_consumer_id(id_);
  subscribe->set_request_id(request_id);
  subscribe->set_consumer_name(options_.name);
  subscribe->set_priority_level(options_.priority);
  subscribe->set_durable(options_.durable);
  subscribe->set_initialposition(options_.initial_position);
  if (options_.read_compacted) subscribe->set_read_compacted(true);
  if (options_.key_shared) *subscribe->mutable_keysharedmeta() = *options_.key_shared;
  if (options_.schema) *subscribe->mutable_schema() = *options_.schema;
  if (ordered()) subscribe->set_consumer_epoch(epoch_);
  if (!options_.durable) {
    auto start = last_taken_ ? *last_taken_ : start_.value_or(kEarliest);
    // A batch index makes the broker begin at the entry instead of behind it.
    if (!last_taken_ && start_inclusive_ && is_place(start)) start.batch_index = 0;
    fill(*subscribe->mutable_start_message_id(), start);
  }
  for (const auto& [key, value] : options_.properties) {
    auto* property = subscribe->add_metadata();
    property->set_key(key);
    property->set_value(value);
  }
  const auto answer = co_await introduce(std::move(command), request_id);
  if (!answer) {
    co_return answer.error().with(
        fmt::format("subscribing {} to {}", options_.subscription, topic_));
  }
  queue_.clear();
  if (options_.durable) {
    // The broker sends again what it has not seen acknowledged.
    chunks_.clear();
    ready_.clear();
    std::erase_if(held_, [](const auto& entry) {
      return entry.second.state == State::queued || entry.second.state == State::part;
    });
  }
  // Until the size of what comes is known, it may be the largest there is.
  window_ = std::clamp<size_t>(options_.bytes_max / connection_->message_bytes_max(), 1,
                               options_.messages_max);
  to_give_ = 0;
  flow(static_cast<uint32_t>(window_));
  changed_.notify();
  acks_changed_.notify();
  redeliveries_changed_.notify();
  co_return Result<void>();
}

void Consumer::give_up(const Error& why) {
  if (!failed_) failed_ = why;
  lose();
  acks_changed_.notify();
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

// What the broker counted against the permits: the messages of the entry that it still had to
// deliver.
uint32_t Consumer::permits_of(const Received& received, uint32_t batch_size) {
  if (received.ack_set.empty()) return batch_size;
  uint32_t count = 0;
  for (const int64_t word : received.ack_set)
    count += static_cast<uint32_t>(std::popcount(static_cast<uint64_t>(word)));
  return std::min(count, batch_size);
}

// ---- receiving

void Consumer::on_frame(const wire::Frame& frame) {
  const auto& command = frame.command;
  switch (command.type()) {
    case pb::BaseCommand::MESSAGE: on_message(frame); return;
    case pb::BaseCommand::CLOSE_CONSUMER: closed_by_broker(); return;
    case pb::BaseCommand::ACTIVE_CONSUMER_CHANGE:
      active_ = command.active_consumer_change().is_active();
      return;
    case pb::BaseCommand::REACHED_END_OF_TOPIC:
      ended_ = true;
      changed_.notify();
      return;
    default: return;
  }
}

void Consumer::on_message(const wire::Frame& frame) {
  const auto& message = frame.command.message();
  const Position position{message.message_id().ledgerid(), message.message_id().entryid()};
  Received received;
  received.id = id_of(position);
  received.id.partition = message.message_id().partition();
  received.ack_set.assign(message.ack_set().begin(), message.ack_set().end());
  received.redelivery_count = message.redelivery_count();
  received.entry = frame.entry;
  bool wanted = !seeking_ && (!message.has_consumer_epoch() || message.consumer_epoch() >= epoch_);
  if (wanted && options_.durable) {
    // Otherwise still in somebody's hands, or acknowledged without the broker knowing it yet.
    const auto [at, fresh] = held_.try_emplace(position);
    if (fresh) at->second.left = received.ack_set;
    wanted = fresh;
  } else if (wanted) {
    wanted = !last_taken_ || position > position_of(*last_taken_);
  }
  if (!wanted) {
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
    while (queue_.empty() && ready_.empty()) {
      if (failed_) co_return *failed_;
      if (ended_) co_return Error(Code::closed, topic_ + " has ended");
      const bool woken = co_await changed_.wait();
      if (!woken && queue_.empty() && ready_.empty()) co_return Error(Code::cancelled, "stopped");
    }
    if (ready_.empty()) {
      Received received = std::move(queue_.front());
      queue_.pop_front();
      auto messages = take(std::move(received));
      if (messages) ready_.push_back(std::move(messages));
    }
    if (ready_.empty()) continue;
    auto messages = std::move(ready_.front());
    ready_.pop_front();
    co_return messages;
  }
}

// Nothing for a part of a message that is not complete.
std::shared_ptr<wire::Messages> Consumer::take(Received received) {
  auto decoded = wire::decode_messages(received.entry, received.id, received.ack_set,
                                       received.redelivery_count, wire::kMessageBytesMax * 4);
  std::shared_ptr<wire::Messages> messages;
  if (decoded) {
    messages = std::move(*decoded);
  } else {
    messages = wire::undecodable(received.entry, received.id);
    messages->damage = decoded.error();
  }
  last_taken_ = received.id;
  const uint32_t count = permits_of(received, messages->batch_size);
  seen_messages_ += count;
  seen_bytes_ += received.entry.size();
  give_permits(count);
  if (messages->chunk) return take_chunk(received, *messages);
  hold(position_of(received.id), {}, messages->batch_size);
  skip_before_start(*messages);
  return messages;
}

void Consumer::hold(Position position, std::vector<Position> parts, uint32_t batch_size) {
  if (!options_.durable) return;
  for (const auto& part : parts) held_[part].state = State::taken;
  auto& held = held_[position];
  held.state = State::taken;
  held.batch_size = batch_size;
  held.parts = std::move(parts);
  if (!held.parts.empty()) ++in_chunks_;
}

std::shared_ptr<wire::Messages> Consumer::take_chunk(const Received& received,
                                                     const wire::Messages& part) {
  const Position position = position_of(received.id);
  if (options_.durable) held_[position].state = State::part;
  auto outcome = chunks_.add(part.metadata, part.chunk->view(), position);
  for (auto& dropped : outcome.dropped) hand_out(std::move(dropped));
  if (outcome.duplicate && options_.durable) {
    hold(position, {}, 1);
    ack(received.id);
  }
  if (!outcome.complete) return nullptr;
  hold(position, std::move(outcome.complete->parts), 1);
  auto joined =
      wire::decode_joined(received.entry, std::move(outcome.complete->joined), received.id,
                          received.redelivery_count, options_.chunks.bytes_max * 4);
  if (joined) {
    skip_before_start(**joined);
    return *joined;
  }
  auto messages = wire::undecodable(received.entry, received.id);
  messages->damage = joined.error();
  return messages;
}

// What will never be complete is not acknowledged unseen.
void Consumer::hand_out(DroppedChunks dropped) {
  const Position last = dropped.parts.back();
  dropped.parts.pop_back();
  hold(last, std::move(dropped.parts), 1);
  auto messages = std::make_shared<wire::Messages>();
  messages->id = id_of(last);
  messages->joined = std::move(dropped.bytes);
  messages->damage = std::move(dropped.why);
  Message message;
  message.value = messages->joined;
  message.id = messages->id;
  messages->list.push_back(message);
  ready_.push_back(std::move(messages));
  changed_.notify();
}

aio::Task<void> Consumer::expire_chunks() {
  const auto self = shared_from_this();
  for (;;) {
    const bool slept = co_await aio::sleep(options_.chunks.age_max / 4);
    if (!slept) co_return;
    for (auto& dropped : chunks_.expire()) hand_out(std::move(dropped));
  }
}

// The broker begins at an entry; a batch may have messages before the one that was asked for.
void Consumer::skip_before_start(wire::Messages& messages) const {
  if (!start_ || !is_place(*start_)) return;
  const Position start = position_of(*start_);
  std::erase_if(messages.list, [&](const Message& message) {
    const Position position = position_of(message.id);
    if (position != start) return position < start;
    if (start_->batch_index < 0) return !start_inclusive_;
    return start_inclusive_ ? message.id.batch_index < start_->batch_index
                            : message.id.batch_index <= start_->batch_index;
  });
}

size_t Consumer::queued_bytes() const {
  size_t bytes = 0;
  for (const auto& received : queue_) bytes += received.entry.size();
  return bytes;
}

// ---- positions

void Consumer::forget() {
  ++life_;
  queue_.clear();
  ready_.clear();
  held_.clear();
  in_chunks_ = 0;
  chunks_.clear();
  acks_.clear();
  partial_acks_.clear();
  ack_until_.reset();
  redeliveries_.clear();
  ended_ = false;
}

aio::Task<Result<void>> Consumer::seek(MessageId message) {
  const uint64_t request_id = client_.next_id();
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::SEEK);
  command.mutable_seek()->set_consumer_id(id_);
  command.mutable_seek()->set_request_id(request_id);
  auto* id = command.mutable_seek()->mutable_message_id();
  id->set_ledgerid(static_cast<uint64_t>(message.ledger));
  id->set_entryid(static_cast<uint64_t>(message.entry));
  co_return co_await seek_to(std::move(command), request_id, message);
}

aio::Task<Result<void>> Consumer::seek(int64_t publish_time) {
  const uint64_t request_id = client_.next_id();
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::SEEK);
  command.mutable_seek()->set_consumer_id(id_);
  command.mutable_seek()->set_request_id(request_id);
  command.mutable_seek()->set_message_publish_time(static_cast<uint64_t>(publish_time));
  co_return co_await seek_to(std::move(command), request_id, std::nullopt);
}

aio::Task<Result<void>> Consumer::seek_to(pb::BaseCommand command, uint64_t request_id,
                                          std::optional<MessageId> target) {
  const auto self = shared_from_this();
  const auto start = std::exchange(start_, target);
  const auto inclusive = std::exchange(start_inclusive_, true);
  const auto taken = std::exchange(last_taken_, std::nullopt);
  seeking_ = true;  // what comes now lies at the old place
  const auto answer = co_await ask(std::move(command), request_id);
  seeking_ = false;
  changed_.notify();
  if (!answer) {
    start_ = start;
    start_inclusive_ = inclusive;
    last_taken_ = taken;
    co_return answer.error().with("moving subscription " + options_.subscription);
  }
  forget();
  if (connection_) {
    connection_->send(close_command(client_.next_id()));
    lose();
  }
  while (!connection_) {
    if (failed_) co_return *failed_;
    const bool woken = co_await changed_.wait();
    if (!woken) co_return Error(Code::cancelled, "stopped");
  }
  co_return Result<void>();
}

aio::Task<Result<MessageId>> Consumer::last_message_id() {
  const uint64_t request_id = client_.next_id();
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::GET_LAST_MESSAGE_ID);
  command.mutable_getlastmessageid()->set_consumer_id(id_);
  command.mutable_getlastmessageid()->set_request_id(request_id);
  const auto answer = co_await ask(std::move(command), request_id);
  if (!answer) co_return answer.error().with("asking for the last message of " + topic_);
  const auto& id = answer->getlastmessageidresponse().last_message_id();
  co_return MessageId{static_cast<int64_t>(id.ledgerid()), static_cast<int64_t>(id.entryid()),
                      id.partition(), id.batch_index()};
}

aio::Task<Result<uint64_t>> Consumer::backlog() {
  const uint64_t request_id = client_.next_id();
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::CONSUMER_STATS);
  command.mutable_consumerstats()->set_consumer_id(id_);
  command.mutable_consumerstats()->set_request_id(request_id);
  const auto answer = co_await ask(std::move(command), request_id);
  if (!answer) co_return answer.error().with("asking for the backlog of " + topic_);
  const auto& stats = answer->consumerstatsresponse();
  if (stats.has_error_code())
    co_return Error(Code::unavailable, "the backlog of " + topic_ + ": " + stats.error_message());
  co_return stats.msgbacklog();
}

aio::Task<Result<void>> Consumer::unsubscribe() {
  const uint64_t request_id = client_.next_id();
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::UNSUBSCRIBE);
  command.mutable_unsubscribe()->set_consumer_id(id_);
  command.mutable_unsubscribe()->set_request_id(request_id);
  const auto answer = co_await ask(std::move(command), request_id);
  if (!answer) co_return answer.error().with("unsubscribing " + options_.subscription);
  co_return Result<void>();
}

aio::Task<void> Consumer::close() {
  const auto self = shared_from_this();
  closing_ = true;
  const auto connection = connection_;
  if (!failed_) failed_ = Error(Code::cancelled, "the consumer was closed");
  lose();
  if (connection && !connection->closed()) {
    const uint64_t request_id = client_.next_id();
    // The answer tells that the broker has taken what came before; one that does not come is no
    // harm.
    const auto answer =
        co_await connection->request(close_command(request_id), request_id, kCloseMax);
    if (!answer) log::debug(kPart, "closing a consumer of {}: {}", topic_, answer.error().text());
  }
  acks_changed_.notify();
  redeliveries_changed_.notify();
  co_await gate_.close();
}

}  // namespace hulse::client

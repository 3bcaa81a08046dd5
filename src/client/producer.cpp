#include "client/producer.h"

#include "aio/backoff.h"
#include "base/log.h"
#include "client/client.h"

namespace hulse::client {
namespace {

constexpr std::string_view kPart = "client";
constexpr aio::BackoffPolicy kBackoff{std::chrono::milliseconds(100), std::chrono::seconds(10)};

// What is left of a frame's overhead for an entry's metadata beside the SEND command.
constexpr size_t kMetadataBytesMax = wire::kFrameOverheadMax - 256;

}  // namespace

Producer::Producer(Client& client, ProducerOptions options)
    : client_(client),
      options_(std::move(options)),
      id_(client.next_id()),
      gate_(client.executor()),
      changed_(client.executor()),
      linger_(client.executor()),
      name_(options_.name) {}

Producer::~Producer() = default;

aio::Task<Result<void>> Producer::open() {
  aio::Backoff backoff(kBackoff);
  const auto deadline = aio::Clock::now() + client_.options().operation_timeout;
  for (;;) {
    const auto connected = co_await connect();
    if (connected) break;
    // A name that is taken may be our own of a life before, which the broker has not noticed to be
    // gone.
    const bool passes = can_pass(connected.error()) ||
                        (connected.error().code() == Code::busy && !options_.name.empty());
    if (!passes || aio::Clock::now() >= deadline) co_return connected.error();
    const auto wait = backoff.next();
    const bool slept = co_await aio::sleep(wait);
    if (!slept) co_return Error(Code::cancelled, "stopped");
  }
  gate_.spawn("producer on " + options_.topic, run());
  gate_.spawn("batches for " + options_.topic, flush_late());
  co_return Result<void>();
}

aio::Task<Result<void>> Producer::connect() {
  auto connection = co_await client_.connection_for(options_.topic);
  if (!connection) co_return connection.error().with("producing to " + options_.topic);
  const uint64_t request_id = client_.next_id();
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::PRODUCER);
  auto* producer = command.mutable_producer();
  producer->set_topic(options_.topic);
  producer->set_producer_id(id_);
  producer->set_request_id(request_id);
  if (!name_.empty()) producer->set_producer_name(name_);
  producer->set_user_provided_producer_name(!options_.name.empty());
  producer->set_epoch(epoch_++);
  if (!options_.initial_subscription.empty()) {
    producer->set_initial_subscription_name(options_.initial_subscription);
  }
  // Attached first: what the broker says right after its answer must not be missed.
  closed_while_opening_ = false;
  (*connection)->attach_producer(id_, this);
  const auto answer =
      co_await (*connection)->request(command, request_id, client_.options().operation_timeout);
  if (!answer || closed_while_opening_) {
    (*connection)->detach_producer(id_);
    const Error why = answer ? Error(Code::unavailable, "the broker closed the producer at once")
                             : answer.error();
    co_return why.with("producing to " + options_.topic);
  }
  if ((*connection)->closed()) co_return Error(Code::unavailable, "the connection was lost");
  name_ = answer->producer_success().producer_name();
  message_bytes_max_ = (*connection)->message_bytes_max();
  connection_ = std::move(*connection);
  for (const auto& pending : pending_) transmit(pending);
  co_return Result<void>();
}

aio::Task<void> Producer::run() {
  const auto self = shared_from_this();
  aio::Backoff backoff(kBackoff);
  for (;;) {
    while (connection_) {
      const bool woken = co_await changed_.wait();
      if (!woken) co_return;
      if (std::exchange(receipted_, false)) backoff.reset();
    }
    if (std::exchange(refused_, false)) {
      const auto pause = backoff.next();
      const bool paused = co_await aio::sleep(pause);
      if (!paused) co_return;
    }
    const auto connected = co_await connect();
    if (connected) {
      log::info(kPart, "producing to {} again; {} entries are sent once more", options_.topic,
                pending_.size());
      continue;
    }
    if (connected.error().cancelled()) co_return;
    if (!can_pass(connected.error()) && connected.error().code() != Code::busy) {
      fail_all(connected.error());
      co_return;
    }
    log::warn(kPart, "{}; trying again", connected.error().text());
    const auto wait = backoff.next();
    const bool slept = co_await aio::sleep(wait);
    if (!slept) co_return;
  }
}

// ---- sending

void Producer::send(std::span<const wire::Outgoing> messages, Done done) {
  const auto ticket = std::make_shared<Ticket>();
  ticket->done = std::move(done);
  if (failed_) {
    ticket->done(*failed_);
    return;
  }
  ticket->open = 1;  // this call itself, so that it is not done before its end
  for (const auto& message : messages) {
    if (message.value.size() > message_bytes_max_) {
      ++ticket->open;
      settle(ticket,
             Error(Code::too_large, fmt::format("a message of {} bytes; the broker takes {}",
                                                message.value.size(), message_bytes_max_)));
      continue;
    }
    const bool full = batch_.count() >= options_.batch_messages_max ||
                      batch_.size() + message.value.size() > options_.batch_bytes_max;
    if (batch_.count() > 0 && full) seal();
    if (batch_.count() == 0) {
      batch_first_ = next_sequence_id_;
      single_.Clear();
      wire::describe(message, single_);
    }
    batch_.append(message, next_sequence_id_++);
    if (batch_.count() == 1) single_offset_ = batch_.size() - message.value.size();
    if (batch_tickets_.empty() || batch_tickets_.back() != ticket) {
      ++ticket->open;
      batch_tickets_.push_back(ticket);
    }
  }
  if (batch_.count() > 0) {
    if (pending_.empty()) {
      seal();
    } else {
      linger_.notify();
    }
  }
  if (ticket->open == 1 && !ticket->error) ticket->last = kEarliest;  // no message at all
  if (--ticket->open == 0 && ticket->done) {
    ticket->done(ticket->error ? Result<MessageId>(*ticket->error)
                               : Result<MessageId>(ticket->last));
  }
}

void Producer::seal() {
  Pending pending;
  pending.sequence_id = batch_first_;
  pending.highest_sequence_id = next_sequence_id_ - 1;
  pending.messages = batch_.count();
  pending.tickets = std::move(batch_tickets_);
  batch_tickets_.clear();

  // One message alone travels without the batch's frame.
  const bool alone = batch_.count() == 1;
  pb::MessageMetadata batch;
  auto& metadata = alone ? single_ : batch;
  metadata.set_producer_name(name_);
  metadata.set_sequence_id(pending.sequence_id);
  metadata.set_publish_time(static_cast<uint64_t>(aio::wall_ms()));
  std::string_view payload = batch_.payload();
  if (alone) {
    payload.remove_prefix(single_offset_);
  } else {
    metadata.set_num_messages_in_batch(static_cast<int32_t>(batch_.count()));
    metadata.set_highest_sequence_id(pending.highest_sequence_id);
  }
  const size_t payload_bytes = payload.size();
  auto entry = wire::encode_entry(metadata, payload, options_.compression);
  batch_.clear();
  // The broker's limit is the payload's; metadata has its own room in the frame.
  const auto described =
      entry ? wire::metadata_bytes(*entry) : Result<std::string_view>(entry.error());
  const size_t packed_bytes = described
                                  ? static_cast<size_t>(entry->data() + entry->size() -
                                                        (described->data() + described->size()))
                                  : 0;
  const bool fits = described && packed_bytes <= message_bytes_max_ &&
                    entry->size() - packed_bytes <= kMetadataBytesMax;
  if (!fits) {
    const Error why = described ? Error(Code::too_large,
                                        fmt::format("a message of {} bytes and {} of metadata; the "
                                                    "broker takes {} and {}",
                                                    packed_bytes, entry->size() - packed_bytes,
                                                    message_bytes_max_, kMetadataBytesMax))
                                : described.error();
    settle(pending, why);
    return;
  }
  // Packing reserves for the worst case; what is kept until the receipt must not hold that.
  if (entry->capacity() > 2 * entry->size()) entry->shrink_to_fit();
  pending.bytes = std::max(payload_bytes, entry->size());
  pending.entry = Bytes::from(std::move(*entry));
  pending_bytes_ += pending.bytes;
  pending_.push_back(std::move(pending));
  transmit(pending_.back());
}

void Producer::transmit(const Pending& pending) {
  if (!connection_) return;
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::SEND);
  auto* send = command.mutable_send();
  send->set_producer_id(id_);
  send->set_sequence_id(pending.sequence_id);
  send->set_num_messages(static_cast<int32_t>(pending.messages));
  if (pending.messages > 1) send->set_highest_sequence_id(pending.highest_sequence_id);
  connection_->send(command, pending.entry);
}

// A batch that nothing else pushes out leaves after the linger.
aio::Task<void> Producer::flush_late() {
  const auto self = shared_from_this();
  for (;;) {
    while (batch_.count() == 0) {
      const bool woken = co_await linger_.wait();
      if (!woken) co_return;
    }
    const uint64_t first = batch_first_;
    const bool slept = co_await aio::sleep(options_.linger);
    if (!slept) co_return;
    if (batch_.count() > 0 && batch_first_ == first) seal();
  }
}

aio::Task<bool> Producer::wait_for_room() {
  const auto self = shared_from_this();
  while (!has_room() && !failed_) {
    const bool woken = co_await changed_.wait();
    if (!woken) co_return false;
  }
  co_return !failed_;
}

aio::Task<Result<void>> Producer::flush() {
  const auto self = shared_from_this();
  if (batch_.count() > 0) seal();
  while (!pending_.empty() && !failed_) {
    const bool woken = co_await changed_.wait();
    if (!woken) co_return Error(Code::cancelled, "stopped");
  }
  if (failed_) co_return *failed_;
  co_return Result<void>();
}

// ---- answers

void Producer::settle(const std::shared_ptr<Ticket>& ticket, const Result<MessageId>& result) {
  if (result) {
    ticket->last = *result;
  } else if (!ticket->error) {
    ticket->error = result.error();
  }
  if (--ticket->open > 0 || !ticket->done) return;
  const auto done = std::move(ticket->done);
  done(ticket->error ? Result<MessageId>(*ticket->error) : Result<MessageId>(ticket->last));
}

void Producer::settle(Pending& pending, const Result<MessageId>& result) {
  for (const auto& ticket : pending.tickets) settle(ticket, result);
}

void Producer::on_frame(const wire::Frame& frame) {
  const auto self = shared_from_this();
  const auto& command = frame.command;
  if (command.type() == pb::BaseCommand::CLOSE_PRODUCER) {
    closed_while_opening_ = true;
    if (connection_) connection_->detach_producer(id_);
    connection_.reset();
    changed_.notify();
    return;
  }
  const bool receipt = command.type() == pb::BaseCommand::SEND_RECEIPT;
  const uint64_t sequence_id =
      receipt ? command.send_receipt().sequence_id() : command.send_error().sequence_id();
  if (pending_.empty() || sequence_id < pending_.front().sequence_id) return;
  if (sequence_id > pending_.front().sequence_id) {
    // A receipt is missing: only a new start brings both sides together again.
    log::error(kPart, "{}: receipt for {} while {} is the next; connecting again", options_.topic,
               sequence_id, pending_.front().sequence_id);
    if (connection_) connection_->detach_producer(id_);
    connection_.reset();
    changed_.notify();
    return;
  }
  if (!receipt) {
    const auto error = to_error(command.send_error().error(), command.send_error().message());
    const bool head_only = command.send_error().error() == pb::NotAllowedError;
    if (command.send_error().error() == pb::TopicTerminatedError) {
      fail_all(error.with(options_.topic));
      return;
    }
    if (!head_only) {
      log::warn(kPart, "{}: {}; sending again", options_.topic, error.text());
      if (connection_) {
        connection_->detach_producer(id_);
        pb::BaseCommand close;
        close.set_type(pb::BaseCommand::CLOSE_PRODUCER);
        close.mutable_close_producer()->set_producer_id(id_);
        close.mutable_close_producer()->set_request_id(client_.next_id());
        connection_->send(close);
      }
      refused_ = true;
      connection_.reset();
      changed_.notify();
      return;
    }
    Pending head = std::move(pending_.front());
    pending_.pop_front();
    pending_bytes_ -= head.bytes;
    settle(head, error.with(options_.topic));
    changed_.notify();
    return;
  }
  receipted_ = true;
  Pending head = std::move(pending_.front());
  pending_.pop_front();
  pending_bytes_ -= head.bytes;
  const auto& id = command.send_receipt().message_id();
  settle(head, MessageId{static_cast<int64_t>(id.ledgerid()), static_cast<int64_t>(id.entryid()),
                         id.partition(),
                         head.messages > 1 ? static_cast<int32_t>(head.messages) - 1 : -1});
  if (pending_.empty() && batch_.count() > 0) seal();
  changed_.notify();
}

void Producer::on_closed(const Error&) {
  connection_.reset();
  changed_.notify();
}

void Producer::fail_all(const Error& why) {
  failed_ = why;
  if (connection_) connection_->detach_producer(id_);
  connection_.reset();
  if (batch_.count() > 0) {
    Pending last;
    last.tickets = std::move(batch_tickets_);
    batch_tickets_.clear();
    batch_.clear();
    pending_.push_back(std::move(last));
  }
  const auto pending = std::move(pending_);
  pending_.clear();
  pending_bytes_ = 0;
  for (auto entry : pending) settle(entry, why);
  changed_.notify();
}

aio::Task<void> Producer::close() {
  const auto self = shared_from_this();
  if (!failed_) {
    if (connection_ && !connection_->closed()) {
      connection_->detach_producer(id_);
      pb::BaseCommand command;
      command.set_type(pb::BaseCommand::CLOSE_PRODUCER);
      command.mutable_close_producer()->set_producer_id(id_);
      command.mutable_close_producer()->set_request_id(client_.next_id());
      connection_->send(command);
    }
    fail_all(Error(Code::cancelled, "the producer was closed"));
  }
  co_await gate_.close();
}

}  // namespace hulse::client

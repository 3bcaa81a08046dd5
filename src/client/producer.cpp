#include "client/producer.h"

#include "base/log.h"
#include "client/client.h"

namespace hulse::client {
namespace {

constexpr std::string_view kPart = "client";
constexpr aio::Duration kCloseMax = std::chrono::seconds(2);

}  // namespace

Producer::Producer(Client& client, ProducerOptions options)
    : Handler(client, Kind::producer, options.topic),
      options_(std::move(options)),
      linger_(client.executor()),
      name_(options_.name),
      topic_epoch_(options_.topic_epoch) {}

Producer::~Producer() = default;

aio::Task<Result<void>> Producer::open() {
  const auto begun = co_await begin("producer on " + topic_);
  if (!begun) co_return begun.error();
  gate_.spawn("batches for " + topic_, flush_late());
  if (options_.send_timeout > aio::Duration::zero())
    gate_.spawn("send timeouts of " + topic_, expire());
  co_return Result<void>();
}

bool Producer::passes(const Error& why, bool first) const {
  // A name that is taken may be our own of a life before, which the broker has not noticed to be
  // gone.
  return Handler::passes(why, first) || (why.code() == Code::busy && !options_.name.empty());
}

aio::Task<Result<void>> Producer::connect() {
  if (opened_ && !options_.resend) {
    co_return Error(Code::fenced,
                    fmt::format("the connection to the broker of {} was lost with {} entries on "
                                "their way",
                                topic_, pending_.size()));
  }
  const uint64_t request_id = client_.next_id();
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::PRODUCER);
  auto* producer = command.mutable_producer();
  producer->set_topic(topic_);
  producer->set_producer_id(id_);
  producer->set_request_id(request_id);
  if (!name_.empty()) producer->set_producer_name(name_);
  producer->set_user_provided_producer_name(!options_.name.empty());
  producer->set_epoch(epoch_++);
  producer->set_producer_access_mode(options_.access);
  if (options_.access != pb::Shared && topic_epoch_) producer->set_topic_epoch(*topic_epoch_);
  if (options_.schema) *producer->mutable_schema() = *options_.schema;
  for (const auto& [key, value] : options_.properties) {
    auto* property = producer->add_metadata();
    property->set_key(key);
    property->set_value(value);
  }
  if (!options_.initial_subscription.empty()) {
    producer->set_initial_subscription_name(options_.initial_subscription);
  }
  const auto answer = co_await introduce(std::move(command), request_id);
  if (!answer) co_return answer.error().with("producing to " + topic_);
  const auto& success = answer->producer_success();
  name_ = success.producer_name();
  schema_version_ = success.schema_version();
  if (success.has_topic_epoch()) topic_epoch_ = success.topic_epoch();
  message_bytes_max_ = connection_->message_bytes_max();
  if (!std::exchange(opened_, true)) {
    last_sequence_id_ = success.last_sequence_id();
    next_sequence_id_ =
        options_.first_sequence_id.value_or(static_cast<uint64_t>(last_sequence_id_ + 1));
  }
  for (const auto& pending : pending_) transmit(pending);
  co_return Result<void>();
}

bool Producer::has_room() const {
  return pending_bytes_ + gathered_bytes() < options_.pending_bytes_max && client_.has_memory();
}

aio::Task<bool> Producer::wait_for_room() {
  const auto self = shared_from_this();
  while (!has_room() && !failed_) {
    // Without anything of our own on its way, it is the others' receipts that make room.
    auto& event = pending_.empty() ? client_.memory_given() : changed_;
    const bool woken = co_await event.wait();
    if (!woken) co_return false;
  }
  co_return !failed_;
}

aio::Task<Result<void>> Producer::flush() {
  const auto self = shared_from_this();
  seal();
  while (!pending_.empty() && !failed_) {
    const bool woken = co_await changed_.wait();
    if (!woken) co_return Error(Code::cancelled, "stopped");
  }
  if (failed_) co_return *failed_;
  co_return Result<void>();
}

// A batch that nothing else pushes out leaves after the linger.
aio::Task<void> Producer::flush_late() {
  const auto self = shared_from_this();
  for (;;) {
    while (open_ == 0) {
      const bool woken = co_await linger_.wait();
      if (!woken) co_return;
    }
    const uint64_t before = seals_;
    const bool slept = co_await aio::sleep(options_.linger);
    if (!slept) co_return;
    if (seals_ == before) seal();
  }
}

aio::Task<void> Producer::expire() {
  const auto self = shared_from_this();
  for (;;) {
    const auto limit = options_.send_timeout;
    const auto at = pending_.empty() ? aio::Clock::now() + limit : pending_.front().since + limit;
    const bool slept = co_await aio::sleep_until(at);
    if (!slept) co_return;
    while (!pending_.empty() && pending_.front().since + limit <= aio::Clock::now()) {
      fail_head(
          Error(Code::timeout,
                fmt::format("no receipt within {} ms",
                            std::chrono::duration_cast<std::chrono::milliseconds>(limit).count()))
              .with(topic_));
    }
  }
}

// ---- answers

void Producer::on_frame(const wire::Frame& frame) {
  const auto self = shared_from_this();
  const auto& command = frame.command;
  switch (command.type()) {
    case pb::BaseCommand::CLOSE_PRODUCER: closed_by_broker(); return;
    case pb::BaseCommand::SEND_RECEIPT: on_receipt(command.send_receipt()); return;
    case pb::BaseCommand::SEND_ERROR: on_send_error(command.send_error()); return;
    default: return;
  }
}

void Producer::on_receipt(const pb::CommandSendReceipt& receipt) {
  // Of one that timed out before.
  if (pending_.empty() || receipt.sequence_id() < pending_.front().sequence_id) return;
  if (receipt.sequence_id() > pending_.front().sequence_id) {
    // A receipt is missing: only a new start brings both sides together again.
    log::error(kPart, "{}: receipt for {} while {} is the next; connecting again", topic_,
               receipt.sequence_id(), pending_.front().sequence_id);
    lose();
    return;
  }
  receipted_ = true;
  const Pending head = take_head();
  const auto& id = receipt.message_id();
  const MessageId stored{static_cast<int64_t>(id.ledgerid()), static_cast<int64_t>(id.entryid()),
                         id.partition(),
                         head.messages > 1 ? static_cast<int32_t>(head.messages) - 1 : -1};
  for (const auto& ticket : head.tickets) ticket->settle(stored);
  if (pending_.empty()) seal();
  changed_.notify();
}

void Producer::on_send_error(const pb::CommandSendError& refused) {
  if (pending_.empty() || refused.sequence_id() < pending_.front().sequence_id) return;
  const auto error = to_error(refused.error(), refused.message()).with(topic_);
  const bool head = refused.sequence_id() == pending_.front().sequence_id;
  if (refused.error() == pb::TopicTerminatedError) return give_up(error);
  if (refused.error() == pb::NotAllowedError && head) return fail_head(error);
  if (refused.error() == pb::ChecksumError && head) {
    // Damaged on the way, it is sent again; damaged here, it never was what the sender meant.
    const auto intact = wire::verify_checksum(pending_.front().entry.view());
    if (!intact) return fail_head(intact.error().with("a message in memory was damaged"));
  }
  log::warn(kPart, "{}; sending again", error.text());
  if (connection_) connection_->send(close_command(client_.next_id()));
  lose(true);
}

Producer::Pending Producer::take_head() {
  Pending head = std::move(pending_.front());
  pending_.pop_front();
  pending_bytes_ -= head.bytes;
  client_.give_memory(head.bytes);
  return head;
}

void Producer::fail_head(const Error& why) {
  const uint64_t sequence_id = pending_.front().sequence_id;
  // The other chunks of a message are of no use without one of them.
  while (!pending_.empty() && pending_.front().sequence_id == sequence_id) {
    const Pending head = take_head();
    for (const auto& ticket : head.tickets) ticket->settle(why);
  }
  changed_.notify();
}

void Producer::give_up(const Error& why) {
  if (!failed_) failed_ = why;
  lose();
  Tickets tickets;
  const auto pending = std::move(pending_);
  pending_.clear();
  for (const auto& entry : pending) {
    client_.give_memory(entry.bytes);
    tickets.insert(tickets.end(), entry.tickets.begin(), entry.tickets.end());
  }
  pending_bytes_ = 0;
  for (size_t i = 0; i < open_; ++i) {
    const auto waiting = batches_[i].take_tickets();
    tickets.insert(tickets.end(), waiting.begin(), waiting.end());
    batches_[i].clear();
  }
  open_ = 0;
  batch_of_key_.clear();
  for (const auto& ticket : tickets) ticket->settle(why);
  changed_.notify();
  client_.memory_given().notify();  // whoever waits there for this one is told as well
}

aio::Task<void> Producer::close() {
  const auto self = shared_from_this();
  const auto connection = connection_;
  if (!failed_) {
    give_up(Error(Code::cancelled, "the producer was closed"));
    if (connection && !connection->closed()) {
      // The answer tells that its name is free again; one that does not come is no harm.
      const uint64_t request_id = client_.next_id();
      const auto answer =
          co_await connection->request(close_command(request_id), request_id, kCloseMax);
      if (!answer) log::debug(kPart, "closing a producer of {}: {}", topic_, answer.error().text());
    }
  }
  co_await gate_.close();
}

}  // namespace hulse::client

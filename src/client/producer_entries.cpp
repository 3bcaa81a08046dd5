// Producer's way from messages to entries: gathering, sealing, cutting, sending.
#include "aio/clock.h"
#include "client/client.h"
#include "client/producer.h"
#include "wire/compression.h"

namespace hulse::client {
namespace {

// What is left of a frame's overhead for an entry's metadata beside the SEND command.
constexpr size_t kMetadataBytesMax = wire::kFrameOverheadMax - 256;
// What the fields of a chunk add to a message's metadata, checksum and sizes included.
constexpr size_t kChunkFieldsMax = 256;

}  // namespace

void Producer::send(std::span<const wire::Outgoing> messages, Done done) {
  const auto ticket = std::make_shared<Ticket>();
  ticket->done = std::move(done);
  ticket->last = kEarliest;  // of no message at all
  ticket->open = 1;          // this call itself, so that it is not done before its end
  if (failed_) return ticket->settle(*failed_);
  for (const auto& message : messages) {
    if (message.value.size() <= message_bytes_max_) {
      add(message, ticket);
    } else if (options_.chunking) {
      send_large(message, ticket);
    } else {
      ++ticket->open;
      ticket->settle(
          Error(Code::too_large, fmt::format("a message of {} bytes; the broker takes {}",
                                             message.value.size(), message_bytes_max_)));
    }
  }
  if (open_ > 0) pending_.empty() ? seal() : linger_.notify();
  ticket->close();
}

size_t Producer::gathered() const {
  size_t count = 0;
  for (size_t i = 0; i < open_; ++i) count += batches_[i].count();
  return count;
}
size_t Producer::gathered_bytes() const {
  size_t bytes = 0;
  for (size_t i = 0; i < open_; ++i) bytes += batches_[i].bytes();
  return bytes;
}

Batch& Producer::batch_for(const wire::Outgoing& message) {
  size_t at = 0;
  if (options_.batching == Batching::by_key) {
    // Messages without a key have no order to keep among keys: they share one.
    const auto key = order_of(message);
    at = batch_of_key_.try_emplace(key ? "k" + std::string(*key) : std::string(), open_)
             .first->second;
  }
  if (at == open_) ++open_;
  if (batches_.size() < open_) batches_.emplace_back();
  return batches_[at];
}

void Producer::add(const wire::Outgoing& message, const std::shared_ptr<Ticket>& ticket) {
  const bool alone = options_.batching == Batching::off || message.deliver_at > 0;
  const auto key = order_of(message);
  const bool cut =
      options_.batching == Batching::cut_at_key && open_ > 0 && batches_.front().key() != key;
  if (open_ > 0 && (alone || cut || gathered() >= options_.batch_messages_max ||
                    gathered_bytes() + message.value.size() > options_.batch_bytes_max)) {
    seal();
  }
  // Batches by key get their sequence ids when they are made: within one the ids must be dense.
  std::optional<uint64_t> sequence_id;
  if (options_.batching != Batching::by_key) sequence_id = next_sequence_id_++;
  batch_for(message).add(message, sequence_id, ticket);
  if (alone) seal();
}

void Producer::seal() {
  const size_t count = std::exchange(open_, 0);
  if (count == 0) return;
  ++seals_;
  batch_of_key_.clear();
  // Ids were given in order of arrival; by_key gives them now, in order of the first message.
  uint64_t behind = 0;
  if (options_.batching != Batching::by_key) {
    for (size_t i = 0; i < count; ++i) behind += batches_[i].count();
    next_sequence_id_ -= behind;
  }
  std::vector<std::pair<Tickets, Error>> refused;
  for (size_t i = 0; i < count; ++i) {
    Tickets tickets = batches_[i].take_tickets();
    auto sealed = seal(batches_[i], tickets);
    if (!sealed) refused.emplace_back(std::move(tickets), sealed.error());
  }
  // At the end: whoever is told may send again.
  for (const auto& [tickets, why] : refused)
    for (const auto& ticket : tickets) ticket->settle(why);
}

void Producer::fill_in(pb::MessageMetadata& metadata, uint64_t sequence_id) const {
  metadata.set_producer_name(name_);
  metadata.set_sequence_id(sequence_id);
  metadata.set_publish_time(static_cast<uint64_t>(aio::wall_ms()));
  if (!schema_version_.empty()) metadata.set_schema_version(schema_version_);
}

Result<void> Producer::seal(Batch& batch, const Tickets& tickets) {
  Pending pending;
  pending.sequence_id = next_sequence_id_;
  pending.messages = batch.count();
  next_sequence_id_ += batch.count();
  pending.highest_sequence_id = next_sequence_id_ - 1;
  pending.tickets = tickets;

  // One message alone travels without the batch's frame.
  const bool plain =
      batch.count() == 1 && (!options_.always_batch || options_.batching == Batching::off ||
                             batch.described().deliver_at_time());
  pb::MessageMetadata of_batch;
  auto& metadata = plain ? batch.described() : of_batch;
  fill_in(metadata, pending.sequence_id);
  if (!plain) {
    metadata.set_num_messages_in_batch(static_cast<int32_t>(batch.count()));
    metadata.set_highest_sequence_id(pending.highest_sequence_id);
    if (options_.batching != Batching::together) {
      // All have it: brokers choose the consumer by it.
      const auto& first = batch.described();
      if (first.has_partition_key()) metadata.set_partition_key(first.partition_key());
      if (first.partition_key_b64_encoded()) metadata.set_partition_key_b64_encoded(true);
      if (first.has_ordering_key()) metadata.set_ordering_key(first.ordering_key());
    }
  }
  if (options_.mark_entry) options_.mark_entry(batch.tokens(), metadata);
  const std::string_view payload = plain ? batch.value_of_first() : batch.payload();
  pending.bytes = payload.size();
  auto entry = wire::encode_entry(metadata, payload, options_.compression);
  batch.clear();
  // The broker's limit is the payload's; metadata has its own room in the frame.
  const auto described =
      entry ? wire::metadata_bytes(*entry) : Result<std::string_view>(entry.error());
  if (!described) return described.error();
  const size_t packed_bytes =
      static_cast<size_t>(entry->data() + entry->size() - (described->data() + described->size()));
  const size_t metadata_bytes = entry->size() - packed_bytes;
  if (packed_bytes > message_bytes_max_ || metadata_bytes > kMetadataBytesMax) {
    return Error(Code::too_large,
                 fmt::format("a message of {} bytes and {} of metadata; the broker takes {} and {}",
                             packed_bytes, metadata_bytes, message_bytes_max_, kMetadataBytesMax));
  }
  enqueue(std::move(pending), std::move(*entry));
  return {};
}

void Producer::send_large(const wire::Outgoing& message, const std::shared_ptr<Ticket>& ticket) {
  seal();
  pb::MessageMetadata metadata;
  wire::describe(message, metadata);
  const uint64_t sequence_id = next_sequence_id_++;
  fill_in(metadata, sequence_id);
  if (options_.compression != pb::NONE) metadata.set_compression(options_.compression);
  metadata.set_uncompressed_size(static_cast<uint32_t>(message.value.size()));
  const auto refuse = [&](Error why) {
    ++ticket->open;
    ticket->settle(std::move(why));
  };
  std::string packed;
  const auto compressed = wire::compress(options_.compression, message.value, packed);
  if (!compressed) return refuse(compressed.error());
  const size_t room =
      message_bytes_max_ - std::min(message_bytes_max_, metadata.ByteSizeLong() + kChunkFieldsMax);
  if (message.value.size() > INT32_MAX || packed.size() > INT32_MAX || room == 0 ||
      metadata.ByteSizeLong() + kChunkFieldsMax > kMetadataBytesMax) {
    return refuse(
        Error(Code::too_large, fmt::format("a message of {} bytes and {} of metadata",
                                           message.value.size(), metadata.ByteSizeLong())));
  }
  const size_t chunks = std::max<size_t>(1, (packed.size() + room - 1) / room);
  const uint64_t token = message.token;
  for (size_t i = 0; i < chunks; ++i) {
    if (chunks > 1) {
      metadata.set_uuid(fmt::format("{}-{}", name_, sequence_id));
      metadata.set_num_chunks_from_msg(static_cast<int32_t>(chunks));
      metadata.set_total_chunk_msg_size(static_cast<int32_t>(packed.size()));
      metadata.set_chunk_id(static_cast<int32_t>(i));
    }
    if (options_.mark_entry && i + 1 == chunks) options_.mark_entry({&token, 1}, metadata);
    const auto piece = std::string_view(packed).substr(i * room, room);
    Pending pending;
    pending.sequence_id = sequence_id;
    pending.highest_sequence_id = sequence_id;
    pending.chunk = chunks > 1;
    pending.bytes = piece.size();
    ++ticket->open;
    pending.tickets = {ticket};
    enqueue(std::move(pending), wire::assemble_entry(metadata, piece));
  }
}

void Producer::enqueue(Pending pending, std::string entry) {
  // Packing reserves for the worst case; what is kept until the receipt must not hold that.
  if (entry.capacity() > 2 * entry.size()) entry.shrink_to_fit();
  pending.bytes = std::max(pending.bytes, entry.size());
  pending.entry = Bytes::from(std::move(entry));
  pending.since = aio::Clock::now();
  pending_bytes_ += pending.bytes;
  client_.take_memory(pending.bytes);
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
  if (pending.chunk) send->set_is_chunk(true);
  connection_->send(command, pending.entry);
}

}  // namespace hulse::client

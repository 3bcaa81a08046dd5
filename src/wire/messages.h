// Entries and the messages in them. Writing: gather messages into a batch and make an entry of it.
// Reading: an entry's messages as views.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/message.h"
#include "base/result.h"
#include "wire/frame.h"

namespace hulse::wire {

// What a producer says of one message.
struct Outgoing {
  std::string_view value;
  std::optional<std::string_view> key;  // any bytes; those that are no text travel as Base64
  std::span<const Property> properties;
  int64_t event_time = 0;
  bool null_value = false;
  std::optional<std::string_view> ordering_key;  // instead of `key` where order is decided
  int64_t deliver_at = 0;  // milliseconds since 1970: not before; never batched
  uint64_t token = 0;      // the sender's own, handed back when its entry is made; not sent
};

// The payload of a batch entry: each message's SingleMessageMetadata before its value.
class BatchWriter {
 public:
  // Without a sequence id readers count on from the entry's.
  void append(const Outgoing& message, std::optional<uint64_t> sequence_id);
  uint32_t count() const { return count_; }
  size_t size() const { return payload_.size(); }
  const std::string& payload() const { return payload_; }
  void clear() {
    payload_.clear();
    count_ = 0;
  }

 private:
  std::string payload_;
  uint32_t count_ = 0;
};

// An entry as SEND carries it, checksum included. Fills the metadata's compression and
// uncompressed_size; the payload of a single message or a batch is compressed here.
Result<std::string> encode_entry(pb::MessageMetadata& metadata, std::string_view payload,
                                 pb::CompressionType codec);

// An entry of a payload that is compressed (or a piece of one) already, as `metadata` says.
std::string assemble_entry(const pb::MessageMetadata& metadata, std::string_view packed);

// The metadata fields of a message that is not in a batch.
void describe(const Outgoing& message, pb::MessageMetadata& metadata);

// The messages of one received entry; views point into it or into the decompressed payload.
struct Messages {
  std::vector<Message> list;  // without those compacted out, acknowledged already, or markers
  MessageId id;               // of the entry
  std::optional<Error>
      damage;                  // why it could not be read; `list` then has the entry as one message
  uint32_t batch_size = 1;     // messages in the entry as it was sent: what permits are counted in
  std::optional<Bytes> chunk;  // the entry is a part of a large message: that part; `list` is empty
  pb::MessageMetadata metadata;

  Bytes entry;
  std::string joined;            // the payload of all chunks, if it came in chunks
  std::string plain;             // the decompressed payload, if it was compressed
  std::deque<std::string> keys;  // keys that had to be decoded from Base64
  std::vector<std::vector<Property>> properties;
};

// The message whose chunks' payloads, in order, are `joined`; `last` is the last chunk's entry.
Result<std::shared_ptr<Messages>> decode_joined(Bytes last, std::string joined, MessageId id,
                                                uint32_t redelivery_count, size_t size_max);

// An entry that cannot be read: one message whose value is what the entry holds.
std::shared_ptr<Messages> undecodable(Bytes entry, MessageId id);

// `id` is the entry's id; `ack_set` as in CommandMessage: bit i set = message i is still to be
// delivered, empty = all. `size_max` bounds the decompressed payload.
Result<std::shared_ptr<Messages>> decode_messages(Bytes entry, MessageId id,
                                                  std::span<const int64_t> ack_set,
                                                  uint32_t redelivery_count, size_t size_max);

}  // namespace hulse::wire

#include "wire/messages.h"

#include "base/base64.h"
#include "base/crc32c.h"
#include "base/text.h"
#include "wire/compression.h"
#include "wire/proto_scan.h"

namespace hulse::wire {
namespace {

Error corrupt(std::string what) { return Error(Code::corrupt, std::move(what)); }

// Protobuf by hand for SingleMessageMetadata (PulsarApi): it stands before every message of a
// batch, so it is most of a batch's coding time, and nearly always has payload_size alone.
enum Tag : uint8_t {
  kProperties = 1 << 3 | 2,
  kPartitionKey = 2 << 3 | 2,
  kPayloadSize = 3 << 3,
  kCompactedOut = 4 << 3,
  kEventTime = 5 << 3,
  kKeyIsBase64 = 6 << 3,
  kOrderingKey = 7 << 3 | 2,
  kSequenceId = 8 << 3,
  kNullValue = 9 << 3,
};

size_t varint_size(uint64_t value) {
  size_t size = 1;
  for (; value >= 0x80; value >>= 7) ++size;
  return size;
}

void put_text(std::string& out, uint8_t tag, std::string_view text) {
  out += static_cast<char>(tag);
  put_varint(out, text.size());
  out += text;
}

struct Single {
  std::optional<std::string_view> key;
  bool key_is_base64 = false;
  bool compacted_out = false;
  bool null_value = false;
  int64_t event_time = 0;
  uint64_t sequence_id = 0;
  bool has_sequence_id = false;
  uint64_t payload_size = 0;
  std::vector<Property> properties;
};

bool parse_property(std::string_view in, Property& property) {
  while (!in.empty()) {
    uint64_t tag = 0;
    if (!get_varint(in, tag)) return false;
    const bool known = tag == (1 << 3 | 2) || tag == (2 << 3 | 2);
    if (!known) {
      if (!skip_field(in, tag)) return false;
    } else if (!take_text(in, tag == (1 << 3 | 2) ? property.first : property.second)) {
      return false;
    }
  }
  return true;
}

bool parse_single(std::string_view in, Single& single) {
  bool has_size = false;
  while (!in.empty()) {
    uint64_t tag = 0;
    uint64_t number = 0;
    std::string_view text;
    if (!get_varint(in, tag)) return false;
    switch (tag) {
      case kPayloadSize:
        if (!get_varint(in, single.payload_size)) return false;
        has_size = true;
        break;
      case kProperties: {
        Property property;
        if (!take_text(in, text) || !parse_property(text, property)) return false;
        single.properties.push_back(property);
        break;
      }
      case kPartitionKey:
        if (!take_text(in, text)) return false;
        single.key = text;
        break;
      case kEventTime:
        if (!get_varint(in, number)) return false;
        single.event_time = static_cast<int64_t>(number);
        break;
      case kSequenceId:
        if (!get_varint(in, single.sequence_id)) return false;
        single.has_sequence_id = true;
        break;
      case kCompactedOut:
      case kKeyIsBase64:
      case kNullValue:
        if (!get_varint(in, number)) return false;
        (tag == kCompactedOut ? single.compacted_out
         : tag == kNullValue  ? single.null_value
                              : single.key_is_base64) = number != 0;
        break;
      default:
        if (!skip_field(in, tag)) return false;
    }
  }
  return has_size;
}

bool to_be_delivered(std::span<const int64_t> ack_set, size_t index) {
  if (ack_set.empty()) return true;
  const size_t word = index / 64;
  return word < ack_set.size() && (static_cast<uint64_t>(ack_set[word]) >> (index % 64) & 1) != 0;
}

Result<std::string_view> decode_key(Messages& out, std::string_view text) {
  auto key = base64_decode(text);
  if (!key) return corrupt("partition key is not the Base64 it says it is");
  out.keys.push_back(std::move(*key));
  return std::string_view(out.keys.back());
}

Result<void> read_single(Messages& out, std::string_view payload, MessageId id,
                         uint32_t redelivered) {
  const auto& metadata = out.metadata;
  Message message;
  message.value = payload;
  if (metadata.has_partition_key()) {
    message.key = metadata.partition_key();
    if (metadata.partition_key_b64_encoded()) {
      const auto key = decode_key(out, *message.key);
      if (!key) return key.error();
      message.key = *key;
    }
  }
  auto& properties = out.properties.emplace_back();
  for (const auto& property : metadata.properties()) {
    properties.emplace_back(property.key(), property.value());
  }
  message.properties = properties;
  message.event_time = static_cast<int64_t>(metadata.event_time());
  message.publish_time = static_cast<int64_t>(metadata.publish_time());
  message.sequence_id = metadata.sequence_id();
  message.id = id;
  message.redelivery_count = redelivered;
  message.null_value = metadata.null_value();
  out.list.push_back(message);
  return {};
}

Result<void> read_batch(Messages& out, std::string_view payload, MessageId id,
                        std::span<const int64_t> ack_set, uint32_t redelivered) {
  const auto& metadata = out.metadata;
  // A message has at least 4 bytes of size before it: a count above that is a lie, not an
  // allocation.
  out.list.reserve(std::min<size_t>(out.batch_size, payload.size() / 4 + 1));
  // Compaction may have taken members out and noted the indexes of those that are left.
  const auto& kept = metadata.compacted_batch_indexes();
  const uint32_t members = kept.empty() ? out.batch_size : static_cast<uint32_t>(kept.size());
  for (uint32_t member = 0; member < members; ++member) {
    const uint32_t index =
        kept.empty() ? member : static_cast<uint32_t>(kept.Get(static_cast<int>(member)));
    if (payload.size() < 4) return corrupt(fmt::format("batch ends before message {}", index));
    const size_t size = get_u32(payload.data());
    payload.remove_prefix(4);
    Single single;
    if (size > payload.size() || !parse_single(payload.substr(0, size), single) ||
        single.payload_size > payload.size() - size) {
      return corrupt(fmt::format("metadata of message {} in the batch is damaged", index));
    }
    payload.remove_prefix(size);
    Message message;
    message.value = payload.substr(0, single.payload_size);
    payload.remove_prefix(single.payload_size);
    if (single.compacted_out || !to_be_delivered(ack_set, index)) continue;
    message.key = single.key;
    if (single.key && single.key_is_base64) {
      const auto key = decode_key(out, *single.key);
      if (!key) return key.error();
      message.key = *key;
    }
    if (!single.properties.empty()) {
      // The inner vector's elements stay where they are when the outer one grows.
      out.properties.push_back(std::move(single.properties));
      message.properties = out.properties.back();
    }
    message.event_time = single.event_time;
    message.publish_time = static_cast<int64_t>(metadata.publish_time());
    message.sequence_id =
        single.has_sequence_id ? single.sequence_id : metadata.sequence_id() + index;
    message.id = id;
    message.id.batch_index = static_cast<int32_t>(index);
    message.redelivery_count = redelivered;
    message.null_value = single.null_value;
    out.list.push_back(message);
  }
  return {};
}

}  // namespace

void BatchWriter::append(const Outgoing& message, std::optional<uint64_t> sequence_id) {
  const size_t at = payload_.size();
  payload_.resize(at + 4);
  for (const auto& [key, value] : message.properties) {
    payload_ += static_cast<char>(kProperties);
    put_varint(payload_,
               2 + varint_size(key.size()) + key.size() + varint_size(value.size()) + value.size());
    put_text(payload_, 1 << 3 | 2, key);
    put_text(payload_, 2 << 3 | 2, value);
  }
  const bool key_is_text = !message.key || is_utf8(*message.key);
  if (message.key && key_is_text) put_text(payload_, kPartitionKey, *message.key);
  if (!key_is_text) put_text(payload_, kPartitionKey, base64_encode(*message.key));
  payload_ += static_cast<char>(kPayloadSize);
  put_varint(payload_, message.value.size());
  if (message.event_time != 0) {
    payload_ += static_cast<char>(kEventTime);
    put_varint(payload_, static_cast<uint64_t>(message.event_time));
  }
  if (!key_is_text) {
    payload_ += static_cast<char>(kKeyIsBase64);
    payload_ += '\1';
  }
  if (message.ordering_key) put_text(payload_, kOrderingKey, *message.ordering_key);
  if (sequence_id) {
    payload_ += static_cast<char>(kSequenceId);
    put_varint(payload_, *sequence_id);
  }
  if (message.null_value) {
    payload_ += static_cast<char>(kNullValue);
    payload_ += '\1';
  }
  put_u32(payload_.data() + at, static_cast<uint32_t>(payload_.size() - at - 4));
  payload_ += message.value;
  ++count_;
}

void describe(const Outgoing& message, pb::MessageMetadata& metadata) {
  for (const auto& [key, value] : message.properties) {
    auto* property = metadata.add_properties();
    property->set_key(std::string(key));
    property->set_value(std::string(value));
  }
  if (message.key && is_utf8(*message.key)) {
    metadata.set_partition_key(std::string(*message.key));
  } else if (message.key) {
    metadata.set_partition_key(base64_encode(*message.key));
    metadata.set_partition_key_b64_encoded(true);
  }
  if (message.ordering_key) metadata.set_ordering_key(std::string(*message.ordering_key));
  if (message.deliver_at > 0) metadata.set_deliver_at_time(message.deliver_at);
  if (message.event_time != 0) metadata.set_event_time(static_cast<uint64_t>(message.event_time));
  if (message.null_value) metadata.set_null_value(true);
}

namespace {

// All of an entry but its payload and its checksum, with room for `payload_bytes`.
std::string begin_entry(const pb::MessageMetadata& metadata, size_t payload_bytes) {
  const size_t metadata_size = metadata.ByteSizeLong();
  std::string entry;
  entry.reserve(10 + metadata_size + payload_bytes);
  entry.resize(10 + metadata_size);
  put_u16(entry.data(), 0x0e01);
  put_u32(entry.data() + 6, static_cast<uint32_t>(metadata_size));
  metadata.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(entry.data() + 10));
  return entry;
}

void finish_entry(std::string& entry) {
  put_u32(entry.data() + 2, crc32c(0, std::string_view(entry).substr(6)));
}

}  // namespace

Result<std::string> encode_entry(pb::MessageMetadata& metadata, std::string_view payload,
                                 pb::CompressionType codec) {
  if (codec != pb::NONE) metadata.set_compression(codec);
  metadata.set_uncompressed_size(static_cast<uint32_t>(payload.size()));
  std::string entry = begin_entry(metadata, payload.size() + payload.size() / 255 + 64);
  const auto compressed = compress(codec, payload, entry);
  if (!compressed) return compressed.error();
  finish_entry(entry);
  return entry;
}

std::string assemble_entry(const pb::MessageMetadata& metadata, std::string_view packed) {
  std::string entry = begin_entry(metadata, packed.size());
  entry += packed;
  finish_entry(entry);
  return entry;
}

std::shared_ptr<Messages> undecodable(Bytes entry, MessageId id) {
  auto out = std::make_shared<Messages>();
  out->id = id;
  Message message;
  auto parsed = parse_entry(entry);
  if (parsed) {
    out->metadata = std::move(parsed->metadata);
    out->batch_size = static_cast<uint32_t>(std::max(1, out->metadata.num_messages_in_batch()));
    message.publish_time = static_cast<int64_t>(out->metadata.publish_time());
    message.sequence_id = out->metadata.sequence_id();
  }
  message.value = parsed ? parsed->payload.view() : entry.view();
  message.id = id;
  out->entry = std::move(entry);
  out->list.push_back(message);
  return out;
}

namespace {

bool is_chunk(const pb::MessageMetadata& metadata) { return metadata.num_chunks_from_msg() > 1; }

// What follows the metadata: decompressed, taken apart.
Result<std::shared_ptr<Messages>> decode_payload(std::shared_ptr<Messages> out,
                                                 std::string_view payload,
                                                 std::span<const int64_t> ack_set,
                                                 uint32_t redelivery_count, size_t size_max) {
  const auto& metadata = out->metadata;
  if (metadata.encryption_keys_size() > 0) {
    return Error(Code::invalid, "the message is encrypted and this consumer has no key");
  }
  if (metadata.compression() != pb::NONE) {
    auto plain =
        decompress(metadata.compression(), payload, metadata.uncompressed_size(), size_max);
    if (!plain) return plain.error();
    out->plain = std::move(*plain);
    payload = out->plain;
  }
  if (!metadata.has_num_messages_in_batch() || is_chunk(metadata)) {
    const auto read = read_single(*out, payload, out->id, redelivery_count);
    if (!read) return read.error();
    return out;
  }
  if (metadata.num_messages_in_batch() < 0) return corrupt("a batch of fewer than no messages");
  out->batch_size = static_cast<uint32_t>(metadata.num_messages_in_batch());
  const auto read = read_batch(*out, payload, out->id, ack_set, redelivery_count);
  if (!read) return read.error();
  return out;
}

}  // namespace

Result<std::shared_ptr<Messages>> decode_messages(Bytes entry, MessageId id,
                                                  std::span<const int64_t> ack_set,
                                                  uint32_t redelivery_count, size_t size_max) {
  auto parsed = parse_entry(entry);
  if (!parsed) return parsed.error();
  auto out = std::make_shared<Messages>();
  out->entry = std::move(entry);
  out->id = id;
  out->metadata = std::move(parsed->metadata);
  if (out->metadata.has_marker_type()) return out;
  if (is_chunk(out->metadata)) {
    out->chunk = std::move(parsed->payload);
    return out;
  }
  return decode_payload(std::move(out), parsed->payload.view(), ack_set, redelivery_count,
                        size_max);
}

Result<std::shared_ptr<Messages>> decode_joined(Bytes last, std::string joined, MessageId id,
                                                uint32_t redelivery_count, size_t size_max) {
  auto metadata = parse_metadata(last.view());
  if (!metadata) return metadata.error();
  auto out = std::make_shared<Messages>();
  out->entry = std::move(last);
  out->id = id;
  out->metadata = std::move(*metadata);
  out->joined = std::move(joined);
  const std::string_view payload = out->joined;
  return decode_payload(std::move(out), payload, {}, redelivery_count, size_max);
}

}  // namespace hulse::wire

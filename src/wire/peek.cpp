#include "wire/peek.h"

#include <fmt/format.h>

#include "base/base64.h"
#include "wire/frame.h"
#include "wire/proto_scan.h"

namespace hulse::wire {
namespace {

// Fields of MessageMetadata.
constexpr uint64_t kProducerName = tag_of(1, 2);
constexpr uint64_t kSequenceId = tag_of(2, 0);
constexpr uint64_t kPublishTime = tag_of(3, 0);
constexpr uint64_t kPartitionKey = tag_of(6, 2);
constexpr uint64_t kMessages = tag_of(11, 0);
constexpr uint64_t kEncryptionKeys = tag_of(13, 2);
constexpr uint64_t kKeyIsBase64 = tag_of(17, 0);
constexpr uint64_t kOrderingKey = tag_of(18, 2);
constexpr uint64_t kDeliverAt = tag_of(19, 0);
constexpr uint64_t kMarkerType = tag_of(20, 0);
constexpr uint64_t kNullValue = tag_of(25, 0);

bool take_field(std::string_view& in, uint64_t tag, Peek& out) {
  uint64_t number = 0;
  std::string_view text;
  switch (tag) {
    case kProducerName: return take_text(in, out.producer_name);
    case kSequenceId: return get_varint(in, out.sequence_id);
    case kPublishTime: return get_varint(in, out.publish_time);
    case kPartitionKey: out.has_partition_key = true; return take_text(in, out.partition_key);
    case kMessages:
      if (!get_varint(in, number)) return false;
      out.is_batch = true;
      out.messages = static_cast<uint32_t>(std::max<uint64_t>(1, number & UINT32_MAX));
      return true;
    case kEncryptionKeys: out.is_encrypted = true; return take_text(in, text);
    case kKeyIsBase64:
      if (!get_varint(in, number)) return false;
      out.partition_key_is_base64 = number != 0;
      return true;
    case kOrderingKey: out.has_ordering_key = true; return take_text(in, out.ordering_key);
    case kDeliverAt:
      if (!get_varint(in, number)) return false;
      out.deliver_at = static_cast<int64_t>(number);
      return true;
    case kMarkerType: out.is_marker = true; return get_varint(in, number);
    case kNullValue:
      if (!get_varint(in, number)) return false;
      out.null_value = number != 0;
      return true;
    default: return skip_field(in, tag);
  }
}

}  // namespace

Result<Peek> peek(std::string_view entry) {
  const auto metadata = metadata_bytes(entry);
  if (!metadata) return metadata.error();
  std::string_view in = *metadata;
  Peek out;
  while (!in.empty()) {
    uint64_t tag = 0;
    if (!get_varint(in, tag) || !take_field(in, tag, out)) {
      return Error(Code::corrupt, "message metadata is damaged");
    }
  }
  return out;
}

uint32_t murmur3(std::string_view bytes) {
  const auto rotate = [](uint32_t x, int r) { return (x << r) | (x >> (32 - r)); };
  const auto mix = [&](uint32_t k) { return rotate(k * 0xcc9e2d51u, 15) * 0x1b873593u; };
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(bytes[i])); };
  uint32_t hash = 0;
  size_t at = 0;
  for (; at + 4 <= bytes.size(); at += 4) {
    hash ^= mix(byte(at) | byte(at + 1) << 8 | byte(at + 2) << 16 | byte(at + 3) << 24);
    hash = rotate(hash, 13) * 5 + 0xe6546b64u;
  }
  uint32_t last = 0;
  for (size_t i = bytes.size(); i > at; --i) last = last << 8 | byte(i - 1);
  if (at < bytes.size()) hash ^= mix(last);
  hash ^= static_cast<uint32_t>(bytes.size());
  hash = (hash ^ hash >> 16) * 0x85ebca6bu;
  hash = (hash ^ hash >> 13) * 0xc2b2ae35u;
  return (hash ^ hash >> 16) & 0x7fffffffu;
}

uint32_t sticky_hash(const Peek& peek) {
  if (peek.has_ordering_key) return murmur3(peek.ordering_key);
  if (peek.has_partition_key) {
    if (!peek.partition_key_is_base64) return murmur3(peek.partition_key);
    const auto decoded = base64_decode(peek.partition_key);
    return murmur3(decoded ? std::string_view(*decoded) : peek.partition_key);
  }
  return murmur3(fmt::format("{}-{}", peek.producer_name, peek.sequence_id));
}

}  // namespace hulse::wire

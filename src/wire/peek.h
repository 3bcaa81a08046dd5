// What a broker needs of a stored entry's MessageMetadata, without building the message.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"

namespace hulse::wire {

// Views point into the entry.
struct Peek {
  std::string_view producer_name;
  uint64_t sequence_id = 0;
  uint64_t publish_time = 0;  // milliseconds since 1970
  uint32_t messages = 1;
  bool is_batch = false;
  std::string_view partition_key;
  bool has_partition_key = false;
  bool partition_key_is_base64 = false;
  std::string_view ordering_key;
  bool has_ordering_key = false;
  int64_t deliver_at = 0;  // milliseconds since 1970; 0: at once
  bool is_marker = false;
  bool is_encrypted = false;
  bool null_value = false;
};

// Does not verify the checksum. Code::corrupt when the parts do not fit.
Result<Peek> peek(std::string_view entry);

// The hash Key_Shared goes by: of the ordering key, else the partition key, else what tells the
// message from others (producer and sequence id). Murmur3, 31 bits.
uint32_t sticky_hash(const Peek& peek);

// Murmur3 x86 32 bit, seed 0, without its sign bit: Pulsar's Murmur3_32Hash.
uint32_t murmur3(std::string_view bytes);

}  // namespace hulse::wire

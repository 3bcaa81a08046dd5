// Identities that cross layers.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

namespace hulse {

// Where a message lies: PulsarApi MessageIdData. Orders by place in one topic partition.
struct MessageId {
  int64_t ledger = -1;
  int64_t entry = -1;
  int32_t partition = -1;
  int32_t batch_index = -1;  // -1: the entry is one message, not a batch

  auto operator<=>(const MessageId&) const = default;

  // "12:3:-1" or "12:3:-1:5", as Pulsar prints it.
  std::string text() const;
};

inline constexpr MessageId kEarliest{-1, -1, -1, -1};
inline constexpr MessageId kLatest{INT64_MAX, INT64_MAX, -1, -1};

// `bytes` random bytes as lower-case hex, from the kernel.
std::string random_hex(unsigned bytes);

}  // namespace hulse

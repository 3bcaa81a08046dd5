// What compaction of a topic needs of its entries: their keys, and the entry without those messages
// of it that a newer one replaces. Pure functions, used by the broker.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace hulse::wire {

struct KeyedMessage {
  std::optional<std::string> key;  // as sent: keys of bytes are in Base64
  bool is_empty = false;           // an empty or null value: the key is deleted
  bool is_gone = false;            // compacted out already
  // Of a part of a chunked message: what all parts share, and whether the message ends with it.
  std::string chunked;
  bool ends = true;
};

// The messages of an entry, one for each index of a batch. An encrypted batch counts as one message
// with the key of its metadata. Batches of more than 64 MiB are refused.
Result<std::vector<KeyedMessage>> keyed_messages(const Bytes& entry);

// The entry with only those messages of its batch that `keep` has; the others stay as marks
// (compacted_out), so that indexes do not move. At least one is kept, and not all of them.
Result<std::string> without_messages(const Bytes& entry, const std::vector<bool>& keep);

// Bit i set = message i of the batch is still there; empty when all of them are, or when the entry
// cannot be taken apart.
std::vector<int64_t> present_messages(const Bytes& entry);

}  // namespace hulse::wire

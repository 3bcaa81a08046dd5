// Where the entries of a segment lie: in memory while it is written, in the tables when it is
// sealed. Pure functions over bytes and plain structs. Internal.
//
//   'M' key               the caller's
//   'I' topic, index      where entries from that index on lie in a sealed segment
//   'S' segment           its size and what stretches of which topics it holds
//   'T' topic             the first index that is not trimmed
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "storage/tables.h"

namespace hulse::storage {

inline std::string key_of(char prefix, uint64_t a) {
  std::string key(9, prefix);
  put_u64(key.data() + 1, a);
  return key;
}
inline std::string key_of(char prefix, uint64_t a, uint64_t b) {
  std::string key(17, prefix);
  put_u64(key.data() + 1, a);
  put_u64(key.data() + 9, b);
  return key;
}
inline std::string user_key(std::string_view key) { return "M" + std::string(key); }

// One entry. A segment is smaller than 4 GiB.
struct Place {
  uint64_t index = 0;
  uint32_t offset = 0;  // of the record's header
  uint32_t size = 0;    // of the payload
};

struct SegmentIndex {
  uint64_t segment = 0;
  std::unordered_map<uint64_t, std::vector<Place>> topics;  // in order of their indexes
};

// A stretch of one topic's entries in one segment; no entry of the topic between its ends lies
// anywhere else.
struct Stretch {
  uint64_t topic = 0;
  uint64_t segment = 0;
  uint64_t first = 0;
  uint64_t last = 0;
  uint64_t bytes = 0;  // of its records
};

// What 'S' says of a sealed segment.
struct SegmentRecord {
  uint64_t bytes = 0;
  bool gathered = false;  // the entries of each topic lie together
  std::vector<Stretch> stretches;

  std::string encode() const;
  static Result<SegmentRecord> decode(uint64_t segment, std::string_view value);
};

// The stretch of a topic's places; they are not empty.
Stretch stretch_of(uint64_t topic, uint64_t segment, const std::vector<Place>& places);

// Puts the places into the change set of the tables.
void put_places(Tables& tables, uint64_t topic, uint64_t segment, const std::vector<Place>& places);

// Hands out what one 'I' value holds.
void each_place(std::string_view key, std::string_view value,
                const std::function<void(uint64_t segment, const Place&)>& found);

}  // namespace hulse::storage

// The log on disk: segments of groups of records. Pure functions over bytes.
//
//   segment   header · group · group · … · (zeros, while it is the last one)
//   header    "HULSELOG" · u32 version · u64 segment id · u32 crc
//   group     u32 magic · u32 crc · u64 number · u32 size of the records · u32 count · records
//   record    u32 crc · u32 payload size · u8 kind · u64 topic · u64 index · payload
//
// A group is what one sync made durable: it counts as a whole or not at all. Checksums are CRC32C
// seeded with the segment's id, so that bytes of another segment never pass. Integers are
// big-endian.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hulse::storage {

inline constexpr size_t kSegmentHeaderSize = 24;
inline constexpr size_t kGroupHeaderSize = 24;
inline constexpr size_t kRecordHeaderSize = 25;

enum class RecordKind : uint8_t {
  entry = 1,    // topic, index, payload as the producer sent it
  changes = 2,  // payload: changes of keys that count together
  trim = 3,     // topic, index: entries before it are gone
  lost = 4,     // topic, index, or 0: `hulse storage check --salvage` gave up what lay here
};

struct Record {
  RecordKind kind = RecordKind::entry;
  uint64_t topic = 0;
  uint64_t index = 0;
  std::string_view payload;
  uint64_t offset = 0;  // of its header in the segment
};

// A change of a key: its new value, or nothing when it is erased.
struct Change {
  std::string key;
  std::optional<std::string> value;
};
//   change   u8 (1: put, 0: erase) · u32 key size · key · [u32 value size · value]
std::string encode_changes(const std::vector<Change>& changes);
Result<std::vector<Change>> parse_changes(std::string_view payload);

std::string segment_name(uint64_t id);  // "000000000000002a.log"
bool parse_segment_name(std::string_view name, uint64_t& id);
uint32_t segment_seed(uint64_t id);

std::string encode_segment_header(uint64_t id);
Result<void> check_segment_header(std::string_view header, uint64_t id);

// `out` has room for kGroupHeaderSize bytes.
void encode_group_header(char* out, uint32_t seed, uint64_t number, size_t size, size_t count);
// `out` has room for kRecordHeaderSize bytes.
void encode_record_header(char* out, uint32_t seed, RecordKind kind, uint64_t topic, uint64_t index,
                          std::string_view payload);

// One record with its header, as read back. Fails with Code::corrupt.
Result<Record> parse_record(std::string_view bytes, uint32_t seed);

// A stretch that holds no whole record though it was synced. What its first bytes would say, if
// they are a record's header, helps to name what is lost; it is not to be relied upon.
struct Damage {
  uint64_t begin = 0;
  uint64_t end = 0;
  RecordKind kind = RecordKind::entry;
  uint64_t topic = 0;
  uint64_t index = 0;
  bool one_record = false;   // it was a single one
  bool header_only = false;  // only the header of a group: no record is lost
  bool sure = false;         // what it was is certain: one bit of its header was flipped
};

// What a scan found. `end` is where the next group goes.
struct Scan {
  uint64_t end = 0;
  uint64_t next_group = 0;
  uint64_t cut = 0;  // bytes of a torn last group after `end`
};

// Walks the groups of a segment from its start and hands out every record. A last group that is
// torn (a crash during its write: nobody was told that it is durable) ends the walk. Damage before
// the last group is handed to `damaged`, and the walk goes on with the next whole record after it;
// without `damaged` it is Code::corrupt, naming segment and offset. So is a damaged header.
// `last_may_be_torn` is false for a segment that was written to its end and sealed.
Result<Scan> scan_segment(std::string_view segment, uint64_t id,
                          const std::function<void(const Record&)>& found,
                          const std::function<void(const Damage&)>& damaged = nullptr,
                          bool last_may_be_torn = true);

// The segment with its damage put in order: each damaged stretch becomes records of the kind `lost`
// of the same size, so that nothing else moves. A torn end is left out. `name` says what a stretch
// held.
struct Named {
  uint64_t topic = 0;
  uint64_t index = 0;
};
Result<std::string> mend_segment(std::string_view segment, uint64_t id, bool last_may_be_torn,
                                 const std::function<Named(const Damage&)>& name);

}  // namespace hulse::storage

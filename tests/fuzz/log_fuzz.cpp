// What recovery may find on disk: a segment whose checksums are right but whose content is
// anything, and one that is damaged.
#include <cstddef>
#include <cstdint>

#include "broker/cursor.h"
#include "broker/topic.h"
#include "storage/log_format.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hulse;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  (void)storage::parse_changes(input);
  (void)broker::Cursor::decode(input);
  (void)broker::TopicRecord::decode(input);
  std::string segment = storage::encode_segment_header(7);
  const uint32_t seed = storage::segment_seed(7);
  std::string group(storage::kGroupHeaderSize + storage::kRecordHeaderSize, '\0');
  storage::encode_group_header(group.data(), seed, 1, storage::kRecordHeaderSize + size, 1);
  storage::encode_record_header(group.data() + storage::kGroupHeaderSize, seed,
                                storage::RecordKind::changes, 1, 1, input);
  segment += group;
  segment += input;
  size_t records = 0;
  const auto whole = storage::scan_segment(segment, 7, [&](const storage::Record&) { ++records; });
  if (!whole || records != 1) __builtin_trap();
  // The input once more as what follows the last whole group.
  segment += input;
  records = 0;
  const auto torn = storage::scan_segment(segment, 7, [&](const storage::Record&) { ++records; });
  if (torn && records < 1) __builtin_trap();
  return 0;
}

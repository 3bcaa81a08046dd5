// What the files of the store share: its tables' keys and the structures behind it. Internal.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "storage/store.h"

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
// 'M' key: the caller's. 'I' topic, first index: where entries lie in a sealed segment. 'S'
// segment: its topics with their last index. 'T' topic: first index that is not trimmed.
inline std::string user_key(std::string_view key) { return "M" + std::string(key); }

struct Store::Request {
  RecordKind kind = RecordKind::entry;
  TopicId topic = 0;
  uint64_t index = 0;
  Bytes payload;
  std::vector<Change> changes;
  Bytes changes_payload;  // of an entry that carries changes: a record of its own after it
  std::shared_ptr<Fence> fence;
  std::optional<aio::Executor> executor;
  Done done;

  size_t record_bytes() const {
    const size_t own = kRecordHeaderSize + payload.size();
    return changes_payload.empty() ? own : own + kRecordHeaderSize + changes_payload.size();
  }
  uint64_t offset = 0;  // of the record in its segment, once written
};

struct Store::Location {
  uint64_t index = 0;
  uint64_t segment = 0;
  uint64_t offset = 0;  // of the record's header
  uint32_t size = 0;    // of the payload
};

struct Store::Segment {
  uint64_t bytes = 0;
  std::map<TopicId, uint64_t> last_index;  // of each topic that has entries in it
};

}  // namespace hulse::storage

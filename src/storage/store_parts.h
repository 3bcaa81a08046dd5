// What the files of the store share: the structures behind it. Internal.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "storage/store.h"

namespace hulse::storage {

struct Store::Request {
  RecordKind kind = RecordKind::entry;
  TopicId topic = 0;
  uint64_t index = 0;
  Bytes payload;
  std::vector<Change> changes;
  Bytes changes_payload;  // of an entry that carries changes: a record of its own after it
  std::shared_ptr<Fence> fence;
  std::function<void()> act;  // instead of a record: called on the writer thread, in its turn
  std::optional<aio::Executor> executor;
  Done done;

  size_t record_bytes() const {
    const size_t own = kRecordHeaderSize + payload.size();
    return changes_payload.empty() ? own : own + kRecordHeaderSize + changes_payload.size();
  }
  uint64_t offset = 0;  // of the record in its segment, once written
};

struct Store::Location {
  uint64_t segment = 0;
  Place place;
};

struct Store::Segment {
  uint64_t bytes = 0;
  bool sealed = false;
  bool gathered = false;
  // Of what topics still need. Counted from when it is sealed.
  uint64_t live_bytes = 0;
  uint64_t live_stretches = 0;
};

struct Store::TopicState {
  Extent extent;
  std::deque<Stretch> stretches;  // in sealed segments, in order, not trimmed
};

}  // namespace hulse::storage

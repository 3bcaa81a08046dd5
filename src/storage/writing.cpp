// Store's writing side: groups into the active segment. The writer thread.
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <climits>

#include "storage/store.h"
#include "storage/store_parts.h"

namespace hulse::storage {
namespace {

constexpr size_t kWriteBytesMax = 1 << 20;     // of one pwritev
constexpr size_t kSegmentBytesMin = 4 << 20;   // smaller ones are not begun: the disk is full
constexpr size_t kFullSegmentBytes = 1 << 20;  // of what is written in spite of it

}  // namespace

std::string Store::segment_path(uint64_t id) const {
  return directory_.log_path() + "/" + segment_name(id);
}

Result<void> Store::start_segment() {
  uint64_t id = 0;
  {
    const std::lock_guard lock(index_mutex_);
    id = next_segment_++;
  }
  const std::string path = segment_path(id);
  auto file = File::open(path, O_RDWR | O_CREAT | O_EXCL);
  if (!file) return file.error();
  // One that could not be begun does not stay: the next open would take it for a damaged one.
  const auto give_up = [&](Error why) {
    const auto removed = remove_file(path);
    if (!removed && !broken_) break_down(removed.error().with("giving up a segment"));
    return why;
  };
  // Space and size now, so that a sync later has no more to write than the data. A disk without
  // that much room gets smaller ones.
  uint64_t bytes =
      full_ ? std::min(options_.segment_bytes, kFullSegmentBytes) : options_.segment_bytes;
  auto allocated = file->allocate(bytes);
  while (!allocated && allocated.error().code() == Code::full && bytes > kSegmentBytesMin) {
    bytes = std::max<uint64_t>(bytes / 2, kSegmentBytesMin);
    allocated = file->allocate(bytes);
  }
  // With the ballast given up the last bytes are used as they come.
  if (!allocated && !(full_ && allocated.error().code() == Code::full)) {
    return give_up(allocated.error());
  }
  const auto written = file->write(encode_segment_header(id), 0);
  if (!written) return give_up(written.error());
  auto synced = file->sync();
  if (synced) synced = sync_directory(directory_.log_path());
  if (!synced) {
    break_down(synced.error().with("beginning a segment"));
    return give_up(*broken_);
  }
  active_file_ = std::move(*file);
  active_limit_ = bytes;
  write_offset_ = kSegmentHeaderSize;
  const std::lock_guard lock(index_mutex_);
  active_id_ = id;
  segments_[id].bytes = write_offset_;
  indexes_.push_back(std::make_shared<SegmentIndex>(SegmentIndex{id, {}}));
  return {};
}

// Puts a segment's index into the change set of the tables. The caller applies it.
void Store::put_index(const SegmentIndex& index, uint64_t bytes) {
  SegmentRecord record{.bytes = bytes};
  for (const auto& [topic, places] : index.topics) {
    // Nobody would take out again what is trimmed already.
    const auto known = topics_.find(topic);
    const bool trimmed = known != topics_.end() && places.back().index < known->second.extent.first;
    if (!trimmed) put_places(*tables_, topic, index.segment, places);
    record.stretches.push_back(stretch_of(topic, index.segment, places));
  }
  tables_->put(key_of('S', index.segment), record.encode());
}

// From now on the segment is sealed. Under index_mutex_.
void Store::adopt(uint64_t id, const std::vector<Stretch>& stretches) {
  auto& segment = segments_[id];
  segment.sealed = true;
  for (auto stretch : stretches) {
    auto& state = topics_[stretch.topic];
    state.extent.end = std::max(state.extent.end, stretch.last + 1);
    if (stretch.last < state.extent.first) continue;
    if (stretch.first < state.extent.first) {
      stretch.bytes = stretch.bytes / (stretch.last - stretch.first + 1) *
                      (stretch.last - state.extent.first + 1);
      stretch.first = state.extent.first;
    }
    segment.live_bytes += stretch.bytes;
    ++segment.live_stretches;
    // In order: a segment of a higher id may hold earlier entries.
    auto at = state.stretches.end();
    while (at != state.stretches.begin() && std::prev(at)->first > stretch.first) --at;
    state.stretches.insert(at, stretch);
  }
  if (segment.live_stretches == 0) trimmed_ = true;
}

// Ends the active segment and begins the next.
Result<void> Store::roll_segment() {
  const uint64_t id = active_id_;
  auto ended = active_file_.truncate(write_offset_);
  if (ended) ended = active_file_.sync();
  if (!ended) {
    break_down(ended.error().with("ending a segment"));
    return *broken_;
  }
  const uint64_t bytes = write_offset_;
  const auto started = start_segment();
  if (!started) return started;  // the present one stays the last: tried again with each group
  // Readers find its entries in memory until the tables have them. Nobody changes it any more.
  const auto index = indexes_.front();
  put_index(*index, bytes);
  const auto applied = apply_tables();
  if (!applied) return applied;
  std::vector<Stretch> stretches;
  for (const auto& [topic, places] : index->topics)
    stretches.push_back(stretch_of(topic, id, places));
  const std::lock_guard lock(index_mutex_);
  adopt(id, stretches);
  indexes_.erase(indexes_.begin());
  ++generation_;
  return {};
}

Result<void> Store::write_group(std::vector<Request>& group) {
  size_t size = 0;
  size_t records = 0;
  for (const auto& request : group) {
    size += request.record_bytes();
    records += request.changes_payload.empty() ? 1 : 2;
  }
  if (write_offset_ + kGroupHeaderSize + size > active_limit_ &&
      write_offset_ > kSegmentHeaderSize) {
    const auto rolled = roll_segment();
    if (!rolled) return rolled;
  }

  const uint32_t seed = segment_seed(active_id_);
  std::string headers(kGroupHeaderSize + kRecordHeaderSize * records, '\0');
  encode_group_header(headers.data(), seed, next_group_, size, records);
  std::vector<iovec> parts;
  parts.reserve(2 * records + 1);
  parts.push_back({headers.data(), kGroupHeaderSize});
  uint64_t offset = write_offset_ + kGroupHeaderSize;
  char* header = headers.data() + kGroupHeaderSize;
  const auto add = [&](RecordKind kind, TopicId topic, uint64_t index, const Bytes& payload) {
    encode_record_header(header, seed, kind, topic, index, payload.view());
    parts.push_back({header, kRecordHeaderSize});
    if (!payload.empty()) parts.push_back({const_cast<char*>(payload.data()), payload.size()});
    offset += kRecordHeaderSize + payload.size();
    header += kRecordHeaderSize;
  };
  for (auto& request : group) {
    request.offset = offset;
    add(request.kind, request.topic, request.index, request.payload);
    if (!request.changes_payload.empty()) add(RecordKind::changes, 0, 0, request.changes_payload);
  }

  uint64_t at = write_offset_;
  for (size_t next = 0; next < parts.size();) {
    size_t count = 0;
    size_t bytes = 0;
    while (next + count < parts.size() && count < IOV_MAX && bytes < kWriteBytesMax) {
      bytes += parts[next + count++].iov_len;
    }
    const auto written = active_file_.write_some({&parts[next], count}, at);
    if (!written) return written.error();
    at += *written;
    for (size_t left = *written; left > 0;) {
      auto& part = parts[next];
      const size_t taken = std::min(part.iov_len, left);
      part.iov_base = static_cast<char*>(part.iov_base) + taken;
      part.iov_len -= taken;
      left -= taken;
      if (part.iov_len == 0) ++next;
    }
  }
  const auto synced = active_file_.sync();
  if (!synced) {
    // The kernel may have dropped what it could not write: trying again would only look like
    // success.
    break_down(synced.error().with("syncing the log"));
    return *broken_;
  }
  write_offset_ = at;
  ++next_group_;
  const std::lock_guard lock(index_mutex_);
  segments_[active_id_].bytes = at;
  ++stats_.syncs;
  stats_.records += records;
  stats_.bytes += kGroupHeaderSize + size;
  return {};
}

}  // namespace hulse::storage

// Store's reading side; any thread.
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>

#include "storage/store.h"
#include "storage/store_parts.h"

namespace hulse::storage {
namespace {

constexpr size_t kOpenFilesMax = 64;
constexpr size_t kReadGapMax = 64 << 10;   // read over, rather than read twice
constexpr size_t kReadBytesMax = 1 << 20;  // of one pread

}  // namespace

Result<std::shared_ptr<File>> Store::segment_file(uint64_t id) const {
  const std::lock_guard lock(files_mutex_);
  const auto known = files_.find(id);
  if (known != files_.end()) return known->second;
  auto file = File::open(directory_.log_path() + "/" + segment_name(id), O_RDONLY);
  if (!file) return file.error();
  if (files_.size() >= kOpenFilesMax) files_.erase(files_.begin());
  auto shared = std::make_shared<File>(std::move(*file));
  files_[id] = shared;
  return shared;
}

Result<std::vector<Store::Location>> Store::locate_sealed(TopicId topic, uint64_t from,
                                                          size_t entries_max) const {
  const std::string prefix = key_of('I', topic);
  std::vector<Location> found;
  const auto decode = [&](std::string_view key, std::string_view value) {
    Location at;
    at.index = get_u64(key.data() + 9);
    at.segment = get_u64(value.data());
    std::string_view rest = value.substr(8);
    while (!rest.empty() && found.size() < entries_max) {
      uint64_t index = 0;
      uint64_t offset = 0;
      uint64_t size = 0;
      if (!get_varint(rest, index) || !get_varint(rest, offset) || !get_varint(rest, size)) break;
      at.index += index;
      at.offset += offset;
      at.size = static_cast<uint32_t>(size);
      if (at.index >= from) found.push_back(at);
    }
  };
  const auto block = tables_->at_or_before(key_of('I', topic, from), prefix);
  if (!block) return block.error();
  if (*block) decode((*block)->first, (*block)->second);
  if (found.empty()) {
    const auto next = tables_->scan(prefix, key_of('I', topic, from),
                                    [&](std::string_view key, std::string_view value) {
                                      decode(key, value);
                                      return found.empty();
                                    });
    if (!next) return next.error();
  }
  return found;
}

Result<std::vector<Stored>> Store::read(TopicId topic, uint64_t from, size_t entries_max,
                                        size_t bytes_max) const {
  std::vector<Location> locations;
  const auto in_active = [&](bool any_start) {
    const std::lock_guard lock(index_mutex_);
    const auto known = active_index_.find(topic);
    if (known == active_index_.end()) return;
    const auto& all = known->second;
    if (!any_start && all.front().index > from) return;
    auto at = std::lower_bound(all.begin(), all.end(), from,
                               [](const Location& l, uint64_t index) { return l.index < index; });
    for (; at != all.end() && locations.size() < entries_max; ++at) locations.push_back(*at);
  };
  in_active(false);
  // A segment may be sealed between the two looks; then the second look at the tables finds it.
  for (int tries = 0; locations.empty() && tries < 2; ++tries) {
    auto sealed = locate_sealed(topic, from, entries_max);
    if (!sealed) return sealed.error();
    locations = std::move(*sealed);
    if (locations.empty()) in_active(true);
  }

  std::vector<Stored> out;
  size_t total = 0;
  for (size_t i = 0; i < locations.size() && (out.empty() || total < bytes_max);) {
    // As many as lie close together, in one read.
    size_t end = i + 1;
    const uint64_t begin_offset = locations[i].offset;
    uint64_t end_offset = begin_offset + kRecordHeaderSize + locations[i].size;
    size_t wanted = total + locations[i].size;
    while (end < locations.size() && locations[end].segment == locations[i].segment &&
           locations[end].offset <= end_offset + kReadGapMax && wanted < bytes_max &&
           locations[end].offset + kRecordHeaderSize + locations[end].size - begin_offset <=
               kReadBytesMax) {
      end_offset = locations[end].offset + kRecordHeaderSize + locations[end].size;
      wanted += locations[end++].size;
    }
    const auto file = segment_file(locations[i].segment);
    if (!file) return file.error();
    auto bytes = read_at(**file, begin_offset, end_offset - begin_offset);
    if (!bytes) return bytes.error().with(segment_name(locations[i].segment));
    const Bytes chunk = Bytes::from(std::move(*bytes));
    const uint32_t seed = segment_seed(locations[i].segment);
    for (; i < end; ++i) {
      const auto& at = locations[i];
      const size_t start = at.offset - begin_offset;
      const auto record = start < chunk.size()
                              ? parse_record(chunk.view().substr(start), seed)
                              : Result<Record>(Error(Code::corrupt, "the segment is too short"));
      if (!record || record->topic != topic || record->index != at.index) {
        const Error why =
            record ? Error(Code::corrupt, "another record lies there") : record.error();
        return why.with(fmt::format("entry {} of topic id {} at byte {} of {}", at.index, topic,
                                    at.offset, segment_name(at.segment)));
      }
      out.push_back({at.index, Bytes(chunk.owner(), record->payload)});
      total += record->payload.size();
    }
  }
  return out;
}

Result<std::optional<std::string>> Store::get(std::string_view key) const {
  return tables_->get(user_key(key));
}

Result<std::vector<std::pair<std::string, std::string>>> Store::scan(
    std::string_view prefix) const {
  std::vector<std::pair<std::string, std::string>> out;
  const std::string full = user_key(prefix);
  const auto scanned = tables_->scan(full, full, [&](std::string_view key, std::string_view value) {
    out.emplace_back(key.substr(1), value);
    return true;
  });
  if (!scanned) return scanned.error();
  return out;
}

Extent Store::extent(TopicId topic) const {
  const std::lock_guard lock(index_mutex_);
  const auto known = extents_.find(topic);
  return known == extents_.end() ? Extent{} : known->second;
}

StoreStats Store::stats() const {
  const std::lock_guard lock(index_mutex_);
  StoreStats stats = stats_;
  for (const auto& [id, segment] : segments_) stats.disk_bytes += segment.bytes;
  return stats;
}

}  // namespace hulse::storage

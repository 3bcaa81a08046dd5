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
  auto file = File::open(segment_path(id), O_RDONLY);
  if (!file) return file.error();
  if (files_.size() >= kOpenFilesMax) files_.erase(files_.begin());
  auto shared = std::make_shared<File>(std::move(*file));
  files_[id] = shared;
  return shared;
}

// `around`: only if the first entry in memory is not after `from`. Says which generation it saw.
std::vector<Store::Location> Store::locate_in_memory(TopicId topic, uint64_t from,
                                                     size_t entries_max, Look look,
                                                     uint64_t& generation) const {
  std::vector<Location> found;
  const std::lock_guard lock(index_mutex_);
  generation = generation_;
  bool first = true;
  for (const auto& index : indexes_) {
    const auto known = index->topics.find(topic);
    if (known == index->topics.end()) continue;
    const auto& all = known->second;
    if (first && look == Look::around && all.front().index > from) break;
    first = false;
    auto at = std::lower_bound(all.begin(), all.end(), from,
                               [](const Place& place, uint64_t i) { return place.index < i; });
    for (; at != all.end() && found.size() < entries_max; ++at) {
      found.push_back({index->segment, *at});
    }
  }
  return found;
}

Result<std::vector<Store::Location>> Store::locate_sealed(TopicId topic, uint64_t from,
                                                          size_t entries_max) const {
  const std::string prefix = key_of('I', topic);
  std::vector<Location> found;
  const auto decode = [&](std::string_view key, std::string_view value) {
    each_place(key, value, [&](uint64_t segment, const Place& place) {
      if (place.index >= from && found.size() < entries_max) found.push_back({segment, place});
    });
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

Result<std::vector<Store::Location>> Store::locate(TopicId topic, uint64_t from,
                                                   size_t entries_max) const {
  for (;;) {
    uint64_t began = 0;
    auto found = locate_in_memory(topic, from, entries_max, Look::around, began);
    if (!found.empty()) return found;
    auto sealed = locate_sealed(topic, from, entries_max);
    if (!sealed) return sealed.error();
    if (!sealed->empty()) return sealed;
    // A segment that was sealed between the two looks would be passed over: then all is looked at
    // again.
    uint64_t ended = 0;
    found = locate_in_memory(topic, from, entries_max, Look::after, ended);
    if (began == ended) return found;
  }
}

Result<std::vector<Stored>> Store::read(TopicId topic, uint64_t from, size_t entries_max,
                                        size_t bytes_max) const {
  for (;;) {
    uint64_t began = 0;
    locate_in_memory(topic, from, 0, Look::around, began);
    // The index may still name segments that only held what was trimmed.
    from = std::max(from, extent(topic).first);
    const auto locations = locate(topic, from, entries_max);
    if (!locations) return locations.error();
    auto out = read_places(topic, *locations, bytes_max);
    if (out || out.error().code() == Code::corrupt) return out;
    // A segment goes when its entries have moved or nobody needs them: then they are looked for
    // anew.
    uint64_t ended = 0;
    locate_in_memory(topic, from, 0, Look::around, ended);
    if (began == ended && extent(topic).first <= from) return out;
  }
}

// Entries before a damaged one are returned without it.
Result<std::vector<Stored>> Store::read_places(TopicId topic,
                                               const std::vector<Location>& locations,
                                               size_t bytes_max) const {
  std::vector<Stored> out;
  size_t total = 0;
  for (size_t i = 0; i < locations.size() && (out.empty() || total < bytes_max);) {
    // As many as lie close together, in one read.
    size_t end = i + 1;
    const uint64_t segment = locations[i].segment;
    const uint64_t begin_offset = locations[i].place.offset;
    uint64_t end_offset = begin_offset + kRecordHeaderSize + locations[i].place.size;
    size_t wanted = total + locations[i].place.size;
    while (end < locations.size() && locations[end].segment == segment &&
           locations[end].place.offset >= end_offset &&
           locations[end].place.offset <= end_offset + kReadGapMax && wanted < bytes_max &&
           locations[end].place.offset + kRecordHeaderSize + locations[end].place.size -
                   begin_offset <=
               kReadBytesMax) {
      end_offset = locations[end].place.offset + kRecordHeaderSize + locations[end].place.size;
      wanted += locations[end++].place.size;
    }
    const auto file = segment_file(segment);
    if (!file && !out.empty()) return out;
    if (!file) return file.error();
    auto bytes = read_at(**file, begin_offset, end_offset - begin_offset);
    if (!bytes && !out.empty()) return out;
    if (!bytes) return bytes.error();
    const Bytes chunk = Bytes::from(std::move(*bytes));
    const uint32_t seed = segment_seed(segment);
    for (; i < end; ++i) {
      const auto& place = locations[i].place;
      const size_t start = place.offset - begin_offset;
      const auto record = start < chunk.size()
                              ? parse_record(chunk.view().substr(start), seed)
                              : Result<Record>(Error(Code::corrupt, "the segment is too short"));
      if (!record || record->kind != RecordKind::entry || record->topic != topic ||
          record->index != place.index) {
        if (!out.empty()) return out;
        const Error why =
            record ? Error(Code::corrupt, "another record lies there") : record.error();
        return why.with(fmt::format("entry {} of topic id {} at byte {} of {}", place.index, topic,
                                    place.offset, segment_name(segment)));
      }
      out.push_back({place.index, Bytes(chunk.owner(), record->payload)});
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
  const auto known = topics_.find(topic);
  return known == topics_.end() ? Extent{} : known->second.extent;
}

uint64_t Store::bytes_from(TopicId topic, uint64_t index) const {
  const std::lock_guard lock(index_mutex_);
  uint64_t bytes = 0;
  const auto add = [&](const Stretch& stretch) {
    if (stretch.last < index) return;
    const uint64_t entries = stretch.last - stretch.first + 1;
    const uint64_t counted = stretch.last - std::max(index, stretch.first) + 1;
    bytes += counted == entries ? stretch.bytes : stretch.bytes / entries * counted;
  };
  const auto known = topics_.find(topic);
  if (known != topics_.end()) {
    const auto& all = known->second.stretches;
    for (auto at = all.rbegin(); at != all.rend() && at->last >= index; ++at) add(*at);
  }
  for (const auto& active : indexes_) {
    const auto places = active->topics.find(topic);
    if (places != active->topics.end()) add(stretch_of(topic, active->segment, places->second));
  }
  return bytes;
}

StoreStats Store::stats() const {
  const std::lock_guard lock(index_mutex_);
  StoreStats stats = stats_;
  stats.segments = segments_.size();
  for (const auto& [id, segment] : segments_) {
    stats.disk_bytes += segment.bytes;
    stats.live_bytes += segment.live_bytes;
  }
  return stats;
}

}  // namespace hulse::storage

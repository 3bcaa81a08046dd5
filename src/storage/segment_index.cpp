#include "storage/segment_index.h"

#include <algorithm>

#include "storage/log_format.h"

namespace hulse::storage {
namespace {

constexpr size_t kBlockEntries = 512;  // in one 'I' value
constexpr size_t kTagAt = 8;
// Where the tag stands, the first shape of the record had the highest byte of a topic id: 0.
constexpr char kScattered = 2;
constexpr char kGathered = 3;

}  // namespace

std::string SegmentRecord::encode() const {
  std::string out(8, '\0');
  put_u64(out.data(), bytes);
  out += gathered ? kGathered : kScattered;
  for (const auto& stretch : stretches) {
    put_varint(out, stretch.topic);
    put_varint(out, stretch.first);
    put_varint(out, stretch.last - stretch.first);
    put_varint(out, stretch.bytes);
  }
  return out;
}

Result<SegmentRecord> SegmentRecord::decode(uint64_t segment, std::string_view value) {
  const Error damaged(Code::corrupt,
                      "tables: the record of segment " + segment_name(segment) + " is damaged");
  if (value.size() < kTagAt) return damaged;
  SegmentRecord out;
  out.bytes = get_u64(value.data());
  std::string_view rest = value.substr(kTagAt);
  if (!rest.empty() && (rest.front() == kScattered || rest.front() == kGathered)) {
    out.gathered = rest.front() == kGathered;
    rest.remove_prefix(1);
    while (!rest.empty()) {
      Stretch stretch{.segment = segment};
      uint64_t more = 0;
      if (!get_varint(rest, stretch.topic) || !get_varint(rest, stretch.first) ||
          !get_varint(rest, more) || !get_varint(rest, stretch.bytes)) {
        return damaged;
      }
      stretch.last = stretch.first + more;
      out.stretches.push_back(stretch);
    }
    return out;
  }
  // The first shape: topics with their last index. The bytes are shared out evenly.
  if (rest.size() % 16 != 0) return damaged;
  for (; !rest.empty(); rest.remove_prefix(16)) {
    const uint64_t last = get_u64(rest.data() + 8);
    out.stretches.push_back({get_u64(rest.data()), segment, last, last, 0});
  }
  for (auto& stretch : out.stretches) stretch.bytes = out.bytes / out.stretches.size();
  return out;
}

Stretch stretch_of(uint64_t topic, uint64_t segment, const std::vector<Place>& places) {
  Stretch out{topic, segment, places.front().index, places.back().index, 0};
  for (const auto& place : places) out.bytes += kRecordHeaderSize + place.size;
  return out;
}

void put_places(Tables& tables, uint64_t topic, uint64_t segment,
                const std::vector<Place>& places) {
  for (size_t begin = 0; begin < places.size(); begin += kBlockEntries) {
    const size_t end = std::min(places.size(), begin + kBlockEntries);
    std::string value(8, '\0');
    put_u64(value.data(), segment);
    uint64_t index = places[begin].index;
    uint64_t offset = 0;
    for (size_t i = begin; i < end; ++i) {
      put_varint(value, places[i].index - index);
      put_varint(value, places[i].offset - offset);
      put_varint(value, places[i].size);
      index = places[i].index;
      offset = places[i].offset;
    }
    tables.put(key_of('I', topic, places[begin].index), value);
  }
}

void each_place(std::string_view key, std::string_view value,
                const std::function<void(uint64_t segment, const Place&)>& found) {
  const uint64_t segment = get_u64(value.data());
  Place at{.index = get_u64(key.data() + 9)};
  std::string_view rest = value.substr(8);
  while (!rest.empty()) {
    uint64_t index = 0;
    uint64_t offset = 0;
    uint64_t size = 0;
    if (!get_varint(rest, index) || !get_varint(rest, offset) || !get_varint(rest, size)) return;
    at.index += index;
    at.offset += static_cast<uint32_t>(offset);
    at.size = static_cast<uint32_t>(size);
    found(segment, at);
  }
}

}  // namespace hulse::storage

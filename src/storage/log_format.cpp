#include "storage/log_format.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>
#include <utility>

#include "base/bytes.h"
#include "base/crc32c.h"

namespace hulse::storage {
namespace {

constexpr std::string_view kMagic = "HULSELOG";
constexpr uint32_t kVersion = 1;
constexpr size_t kUndoBytesMax = 8 << 20;
constexpr uint32_t kGroupMagic = 0x48475250;  // "HGRP"

struct Group {
  uint64_t number = 0;
  size_t size = 0;
  size_t count = 0;
};

bool parse_group_header(std::string_view bytes, uint32_t seed, Group& group) {
  if (bytes.size() < kGroupHeaderSize || get_u32(bytes.data()) != kGroupMagic) return false;
  if (crc32c(seed, bytes.substr(8, kGroupHeaderSize - 8)) != get_u32(bytes.data() + 4))
    return false;
  group.number = get_u64(bytes.data() + 8);
  group.size = get_u32(bytes.data() + 16);
  group.count = get_u32(bytes.data() + 20);
  return true;
}

bool parse_group(std::string_view bytes, const Group& group, uint32_t seed, uint64_t offset,
                 std::vector<Record>& records) {
  if (bytes.size() < kGroupHeaderSize + group.size) return false;
  std::string_view rest = bytes.substr(kGroupHeaderSize, group.size);
  offset += kGroupHeaderSize;
  for (size_t i = 0; i < group.count; ++i) {
    auto record = parse_record(rest, seed);
    if (!record) return false;
    record->offset = offset;
    const size_t size = kRecordHeaderSize + record->payload.size();
    records.push_back(*record);
    rest.remove_prefix(size);
    offset += size;
  }
  return rest.empty();
}

// Where after `from` a whole group with a higher number begins: it was written after the one before
// it had been synced, so what lies between is damage, not a torn end.
bool later_group(std::string_view segment, size_t from, uint32_t seed, uint64_t number,
                 size_t& at) {
  char magic[4];
  put_u32(magic, kGroupMagic);
  for (size_t i = segment.find(std::string_view(magic, 4), from); i != std::string_view::npos;
       i = segment.find(std::string_view(magic, 4), i + 1)) {
    Group group;
    if (parse_group_header(segment.substr(i), seed, group) && group.number > number) {
      at = i;
      return true;
    }
  }
  return false;
}

bool known_kind(char kind) {
  return kind >= static_cast<char>(RecordKind::entry) &&
         kind <= static_cast<char>(RecordKind::lost);
}

// What can be told apart in a region that is not whole, in order.
struct Item {
  enum class Kind { group, record, gap } kind = Kind::gap;
  uint64_t begin = 0;
  uint64_t end = 0;
  Group group;
  Record record;
};

// The region begins where a group should.
std::vector<Item> items_of(std::string_view segment, uint64_t begin, uint64_t end, uint32_t seed) {
  std::vector<Item> items;
  const auto look = [&](uint64_t at, Item& item) {
    const auto rest = segment.substr(at, end - at);
    item.begin = at;
    if (parse_group_header(rest, seed, item.group)) {
      item.kind = Item::Kind::group;
      item.end = at + kGroupHeaderSize;
      return true;
    }
    // Cheap looks first: this is asked for every byte of a gap.
    if (rest.size() < kRecordHeaderSize || !known_kind(rest[8]) ||
        get_u32(rest.data() + 4) > rest.size() - kRecordHeaderSize) {
      return false;
    }
    const auto record = parse_record(rest, seed);
    if (!record) return false;
    item.kind = Item::Kind::record;
    item.record = *record;
    item.record.offset = at;
    item.end = at + kRecordHeaderSize + record->payload.size();
    return true;
  };
  for (uint64_t at = begin; at < end;) {
    Item item;
    if (!look(at, item)) {
      item = Item{.begin = at};
      for (item.end = at + 1; item.end < end; ++item.end) {
        Item next;
        if (look(item.end, next)) break;
      }
    }
    at = item.end;
    items.push_back(item);
  }
  return items;
}

// The header of a record in which one bit is flipped, as it was: the checksum says which bit.
std::optional<Record> undo_flip(std::string_view bytes, uint32_t seed) {
  if (bytes.size() > kUndoBytesMax) return std::nullopt;
  std::string copy(bytes);
  for (size_t bit = 0; bit < 8 * kRecordHeaderSize; ++bit) {
    char& byte = copy[bit / 8];
    const char flipped = static_cast<char>(byte ^ (1 << bit % 8));
    const char before = std::exchange(byte, flipped);
    const auto record = parse_record(copy, seed);
    if (record && record->payload.size() == bytes.size() - kRecordHeaderSize) {
      return Record{.kind = record->kind, .topic = record->topic, .index = record->index};
    }
    byte = before;
  }
  return std::nullopt;
}

Damage damage_of(std::string_view segment, uint64_t begin, uint64_t end, uint32_t seed) {
  Damage damage{.begin = begin, .end = end};
  const auto bytes = segment.substr(begin, end - begin);
  if (bytes.size() < kRecordHeaderSize) return damage;
  if (const auto known = undo_flip(bytes, seed)) {
    damage.kind = known->kind;
    damage.topic = known->topic;
    damage.index = known->index;
    damage.one_record = damage.sure = true;
    return damage;
  }
  damage.kind = static_cast<RecordKind>(bytes[8]);
  damage.topic = get_u64(bytes.data() + 9);
  damage.index = get_u64(bytes.data() + 17);
  damage.one_record = get_u32(bytes.data() + 4) == bytes.size() - kRecordHeaderSize;
  return damage;
}

// Hands out the records of a region that is not whole, and the gaps between them.
void report(std::string_view segment, const std::vector<Item>& items, uint32_t seed,
            const std::function<void(const Record&)>& found,
            const std::function<void(const Damage&)>& damaged) {
  for (size_t i = 0; i < items.size(); ++i) {
    const auto& item = items[i];
    if (item.kind == Item::Kind::record) found(item.record);
    if (item.kind != Item::Kind::gap) continue;
    if (item.end - item.begin == kGroupHeaderSize) {
      damaged({.begin = item.begin, .end = item.end, .header_only = true});
      continue;
    }
    auto damage =
        damage_of(segment, i == 0 ? item.begin + kGroupHeaderSize : item.begin, item.end, seed);
    // A group that says how many records it has: when one is missing, the gap is that one.
    size_t begin = i;
    while (begin > 0 && items[begin].kind != Item::Kind::group) --begin;
    if (items[begin].kind == Item::Kind::group) {
      const uint64_t end = items[begin].end + items[begin].group.size;
      size_t records = 0;
      size_t gaps = 0;
      for (size_t k = begin + 1; k < items.size() && items[k].begin < end; ++k) {
        records += items[k].kind == Item::Kind::record ? 1 : 0;
        gaps += items[k].kind == Item::Kind::gap ? 1 : 0;
      }
      damage.one_record |= gaps == 1 && item.end <= end && records + 1 == items[begin].group.count;
    }
    damaged(damage);
  }
}

bool take(std::string_view& in, std::string& out) {
  if (in.size() < 4) return false;
  const size_t size = get_u32(in.data());
  if (size > in.size() - 4) return false;
  out = in.substr(4, size);
  in.remove_prefix(4 + size);
  return true;
}

void add(std::string& out, std::string_view text) {
  const size_t at = out.size();
  out.resize(at + 4);
  put_u32(out.data() + at, static_cast<uint32_t>(text.size()));
  out += text;
}

}  // namespace

std::string encode_changes(const std::vector<Change>& changes) {
  std::string out;
  for (const auto& change : changes) {
    out += change.value ? '\1' : '\0';
    add(out, change.key);
    if (change.value) add(out, *change.value);
  }
  return out;
}

Result<std::vector<Change>> parse_changes(std::string_view payload) {
  std::vector<Change> changes;
  while (!payload.empty()) {
    const bool put = payload.front() == '\1';
    payload.remove_prefix(1);
    Change change;
    if (!take(payload, change.key)) return Error(Code::corrupt, "a change record is cut off");
    if (put && !take(payload, change.value.emplace())) {
      return Error(Code::corrupt, "a change record is cut off");
    }
    changes.push_back(std::move(change));
  }
  return changes;
}

std::string segment_name(uint64_t id) { return fmt::format("{:016x}.log", id); }

bool parse_segment_name(std::string_view name, uint64_t& id) {
  if (name.size() != 20 || !name.ends_with(".log")) return false;
  const auto [end, error] = std::from_chars(name.data(), name.data() + 16, id, 16);
  return error == std::errc() && end == name.data() + 16;
}

uint32_t segment_seed(uint64_t id) {
  char bytes[8];
  put_u64(bytes, id);
  return crc32c(0, std::string_view(bytes, 8));
}

std::string encode_segment_header(uint64_t id) {
  std::string out(kSegmentHeaderSize, '\0');
  std::memcpy(out.data(), kMagic.data(), kMagic.size());
  put_u32(out.data() + 8, kVersion);
  put_u64(out.data() + 12, id);
  put_u32(out.data() + 20, crc32c(0, std::string_view(out).substr(0, 20)));
  return out;
}

Result<void> check_segment_header(std::string_view header, uint64_t id) {
  const auto refuse = [&](std::string what) {
    return Error(Code::corrupt, fmt::format("segment {}: {}", segment_name(id), what));
  };
  if (header.size() < kSegmentHeaderSize || !header.starts_with(kMagic) ||
      crc32c(0, header.substr(0, 20)) != get_u32(header.data() + 20)) {
    return refuse("its header is damaged");
  }
  if (get_u32(header.data() + 8) != kVersion) {
    return refuse(fmt::format("format version {} is unknown", get_u32(header.data() + 8)));
  }
  if (get_u64(header.data() + 12) != id) return refuse("it holds another segment's header");
  return {};
}

void encode_group_header(char* out, uint32_t seed, uint64_t number, size_t size, size_t count) {
  put_u32(out, kGroupMagic);
  put_u64(out + 8, number);
  put_u32(out + 16, static_cast<uint32_t>(size));
  put_u32(out + 20, static_cast<uint32_t>(count));
  put_u32(out + 4, crc32c(seed, std::string_view(out + 8, kGroupHeaderSize - 8)));
}

void encode_record_header(char* out, uint32_t seed, RecordKind kind, uint64_t topic, uint64_t index,
                          std::string_view payload) {
  put_u32(out + 4, static_cast<uint32_t>(payload.size()));
  out[8] = static_cast<char>(kind);
  put_u64(out + 9, topic);
  put_u64(out + 17, index);
  const uint32_t head = crc32c(seed, std::string_view(out + 4, kRecordHeaderSize - 4));
  put_u32(out, crc32c(head, payload));
}

Result<Record> parse_record(std::string_view bytes, uint32_t seed) {
  if (bytes.size() < kRecordHeaderSize) return Error(Code::corrupt, "a record is cut off");
  const size_t size = get_u32(bytes.data() + 4);
  if (size > bytes.size() - kRecordHeaderSize) return Error(Code::corrupt, "a record is cut off");
  if (crc32c(seed, bytes.substr(4, kRecordHeaderSize - 4 + size)) != get_u32(bytes.data())) {
    return Error(Code::corrupt, "the checksum of a record is wrong");
  }
  Record record;
  record.kind = static_cast<RecordKind>(bytes[8]);
  record.topic = get_u64(bytes.data() + 9);
  record.index = get_u64(bytes.data() + 17);
  record.payload = bytes.substr(kRecordHeaderSize, size);
  return record;
}

Result<Scan> scan_segment(std::string_view segment, uint64_t id,
                          const std::function<void(const Record&)>& found,
                          const std::function<void(const Damage&)>& damaged,
                          bool last_may_be_torn) {
  const auto header = check_segment_header(segment, id);
  if (!header) return header.error();
  const uint32_t seed = segment_seed(id);
  Scan scan;
  scan.end = kSegmentHeaderSize;
  std::vector<Record> records;
  while (scan.end < segment.size()) {
    const auto rest = segment.substr(scan.end);
    Group group;
    records.clear();
    const bool first = scan.end == kSegmentHeaderSize;
    const bool whole = parse_group_header(rest, seed, group) &&
                       (first || group.number >= scan.next_group) &&
                       parse_group(rest, group, seed, scan.end, records);
    if (whole) {
      for (const auto& record : records) found(record);
      scan.end += kGroupHeaderSize + group.size;
      scan.next_group = group.number + 1;
      continue;
    }
    size_t at = segment.size();
    const bool followed = later_group(segment, scan.end + 1, seed, scan.next_group, at);
    const size_t last = rest.find_last_not_of('\0');
    if (!followed && (last_may_be_torn || last == std::string_view::npos)) {
      scan.cut = last == std::string_view::npos ? 0 : last + 1;
      return scan;
    }
    if (!damaged) {
      return Error(Code::corrupt,
                   fmt::format("segment {} is damaged between byte {} and byte {}: {}",
                               segment_name(id), scan.end, at,
                               followed ? "whole groups follow, so this is not the torn end of a "
                                          "crash"
                                        : "it was written to its end before"));
    }
    report(segment, items_of(segment, scan.end, at, seed), seed, found, damaged);
    scan.end = at;
    if (!followed) return scan;
    Group next;
    parse_group_header(segment.substr(at), seed, next);
    scan.next_group = next.number;
  }
  return scan;
}

Result<std::string> mend_segment(std::string_view segment, uint64_t id, bool last_may_be_torn,
                                 const std::function<Named(const Damage&)>& name) {
  const auto header = check_segment_header(segment, id);
  if (!header) return header.error();
  const uint32_t seed = segment_seed(id);
  std::string out(segment);
  uint64_t position = kSegmentHeaderSize;
  uint64_t next_group = 0;
  std::vector<Record> records;
  while (position < segment.size()) {
    Group group;
    records.clear();
    if (parse_group_header(segment.substr(position), seed, group) && group.number >= next_group &&
        parse_group(segment.substr(position), group, seed, position, records)) {
      position += kGroupHeaderSize + group.size;
      next_group = group.number + 1;
      continue;
    }
    size_t at = segment.size();
    const bool followed = later_group(segment, position + 1, seed, next_group, at);
    if (!followed && last_may_be_torn) {
      out.resize(position);
      return out;
    }
    // Headers where headers were, records where records were, and `lost` in between.
    uint64_t group_at = position;
    size_t count = 0;
    const auto end_group = [&](uint64_t end) {
      encode_group_header(out.data() + group_at, seed, next_group++,
                          end - group_at - kGroupHeaderSize, count);
    };
    bool first = true;
    for (const auto& item : items_of(segment, position, at, seed)) {
      const uint64_t size = item.end - item.begin;
      const bool is_header = item.kind == Item::Kind::group ||
                             (item.kind == Item::Kind::gap && size == kGroupHeaderSize);
      if (is_header && !first) {
        end_group(item.begin);
        group_at = item.begin;
        count = 0;
      } else if (item.kind == Item::Kind::record && !first) {
        ++count;
      } else if (item.kind == Item::Kind::gap && !is_header) {
        const uint64_t begin = first ? item.begin + kGroupHeaderSize : item.begin;
        if (item.end < begin + kRecordHeaderSize) {
          // Too small for a record: only at the end of a file that was cut off.
          if (!first) end_group(item.begin);
          out.resize(item.begin);
          return out;
        }
        const auto what = name(damage_of(segment, begin, item.end, seed));
        encode_record_header(out.data() + begin, seed, RecordKind::lost, what.topic, what.index,
                             std::string_view(out).substr(begin + kRecordHeaderSize,
                                                          item.end - begin - kRecordHeaderSize));
        ++count;
      }
      first = false;
    }
    end_group(at);
    position = at;
  }
  return out;
}

}  // namespace hulse::storage

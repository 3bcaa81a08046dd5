#include "storage/log_format.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>

#include "base/bytes.h"
#include "base/crc32c.h"

namespace hulse::storage {
namespace {

constexpr std::string_view kMagic = "HULSELOG";
constexpr uint32_t kVersion = 1;
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
                          const std::function<void(const Record&)>& found) {
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
                       (first || group.number == scan.next_group) &&
                       parse_group(rest, group, seed, scan.end, records);
    if (!whole) {
      size_t at = 0;
      if (later_group(segment, scan.end + 1, seed, scan.next_group, at)) {
        return Error(Code::corrupt,
                     fmt::format("segment {} is damaged between byte {} and byte {}: whole groups "
                                 "follow, so this is not the torn end of a crash",
                                 segment_name(id), scan.end, at));
      }
      const size_t last = rest.find_last_not_of('\0');
      scan.cut = last == std::string_view::npos ? 0 : last + 1;
      return scan;
    }
    for (const auto& record : records) found(record);
    scan.end += kGroupHeaderSize + group.size;
    scan.next_group = group.number + 1;
  }
  return scan;
}

}  // namespace hulse::storage

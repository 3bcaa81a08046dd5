// Store's beginning: what the segments and tables on disk say.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/log.h"
#include "storage/store.h"
#include "storage/store_parts.h"

namespace hulse::storage {
namespace {
constexpr std::string_view kPart = "storage";
}

Result<void> Store::recover() {
  std::vector<uint64_t> ids;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory_.log_path(), error)) {
    uint64_t id = 0;
    if (parse_segment_name(entry.path().filename().string(), id)) ids.push_back(id);
  }
  if (error) return Error(Code::io, fmt::format("{}: {}", directory_.log_path(), error.message()));
  std::sort(ids.begin(), ids.end());

  const auto trims = tables_->scan("T", "T", [&](std::string_view key, std::string_view value) {
    extents_[get_u64(key.data() + 1)].first = get_u64(value.data());
    return true;
  });
  if (!trims) return trims.error();
  const auto sealed = tables_->scan("S", "S", [&](std::string_view key, std::string_view value) {
    Segment& segment = segments_[get_u64(key.data() + 1)];
    segment.bytes = get_u64(value.data());
    for (size_t at = 8; at + 16 <= value.size(); at += 16) {
      const TopicId topic = get_u64(value.data() + at);
      const uint64_t last = get_u64(value.data() + at + 8);
      segment.last_index[topic] = last;
      extents_[topic].end = std::max(extents_[topic].end, last + 1);
    }
    return true;
  });
  if (!sealed) return sealed.error();
  const auto applied = tables_->position();
  if (!applied) return applied.error();

  for (const uint64_t id : ids) {
    next_segment_ = std::max(next_segment_, id + 1);
    if (segments_.contains(id)) continue;
    const auto recovered = recover_segment(id, id == ids.back(), *applied);
    if (!recovered) return recovered.error();
  }
  for (const auto& [id, segment] : segments_) {
    if (!std::binary_search(ids.begin(), ids.end(), id)) {
      return Error(Code::corrupt,
                   fmt::format("{}/{} is missing", directory_.log_path(), segment_name(id)));
    }
  }
  const auto flushed = tables_->flush();
  if (!flushed) return flushed.error();
  return start_segment();
}

// Reads a segment that was not sealed before the last stop, applies what the tables have not seen,
// and seals it.
Result<void> Store::recover_segment(uint64_t id, bool last, const LogPosition& applied) {
  const std::string path = directory_.log_path() + "/" + segment_name(id);
  auto file = File::open(path, O_RDWR);
  if (!file) return file.error();
  struct stat info{};
  if (::fstat(file->fd(), &info) != 0) return file_error(path, errno);
  auto bytes = read_at(*file, 0, static_cast<size_t>(info.st_size));
  if (!bytes) return bytes.error().with(path);
  const bool headless = bytes->find_first_not_of('\0') == std::string::npos;
  if (headless && last) {
    // Created, but the stop came before its header was written.
    if (::unlink(path.c_str()) != 0) return file_error(path, errno);
    return sync_directory(directory_.log_path());
  }
  Segment segment;
  std::optional<Error> failed;
  const auto scan = scan_segment(*bytes, id, [&](const Record& record) {
    const bool seen =
        id < applied.segment || (id == applied.segment && record.offset < applied.offset);
    if (record.kind == RecordKind::entry) {
      active_index_[record.topic].push_back(
          {record.index, id, record.offset, static_cast<uint32_t>(record.payload.size())});
      segment.last_index[record.topic] = record.index;
      auto& extent = extents_[record.topic];
      extent.end = std::max(extent.end, record.index + 1);
    } else if (record.kind == RecordKind::changes && !seen) {
      const auto changes = parse_changes(record.payload);
      if (!changes) {
        failed = changes.error();
        return;
      }
      for (const auto& change : *changes) apply(change);
    } else if (record.kind == RecordKind::trim && !seen) {
      apply_trim(record.topic, record.index);
    }
  });
  if (!scan) return scan.error();
  if (failed) return failed->with(segment_name(id));
  if (scan->cut > 0 && !last) {
    return Error(Code::corrupt,
                 fmt::format("segment {} ends in damage at byte {}, and it is not the "
                             "last one",
                             segment_name(id), scan->end));
  }
  if (scan->cut > 0) {
    log::warn(
        kPart,
        "cut {} bytes of an unfinished write off {} at byte {}; nothing in them was acknowledged",
        scan->cut, path, scan->end);
    cut_bytes_ += scan->cut;
  }
  if (::ftruncate(file->fd(), static_cast<off_t>(scan->end)) != 0 || ::fsync(file->fd()) != 0) {
    return file_error(path, errno);
  }
  next_group_ = std::max(next_group_, scan->next_group);
  segment.bytes = scan->end;
  segments_[id] = std::move(segment);
  seal_segment(id);
  // One below the position was let go of, and the stop came before it was unlinked.
  return tables_->apply(id < applied.segment ? applied : LogPosition{id + 1, 0});
}

}  // namespace hulse::storage

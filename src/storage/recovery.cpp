// Store's beginning: what the segments and tables on disk say.
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/log.h"
#include "storage/damage.h"
#include "storage/naming.h"
#include "storage/store.h"
#include "storage/store_parts.h"

namespace hulse::storage {
namespace {
constexpr std::string_view kPart = "storage";
}

Result<std::vector<uint64_t>> list_segments(const std::string& log_path) {
  std::vector<uint64_t> ids;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(log_path, error)) {
    uint64_t id = 0;
    if (parse_segment_name(entry.path().filename().string(), id)) ids.push_back(id);
  }
  if (error) return Error(Code::io, fmt::format("{}: {}", log_path, error.message()));
  std::sort(ids.begin(), ids.end());
  return ids;
}

Result<void> finish_interrupted(const std::string& log_path, const Tables& tables) {
  std::error_code error;
  std::vector<std::string> copies;
  for (const auto& entry : std::filesystem::directory_iterator(log_path, error)) {
    const auto name = entry.path().filename().string();
    if (name.ends_with(".log.new")) copies.push_back(name.substr(0, name.size() - 4));
  }
  if (error) return Error(Code::io, fmt::format("{}: {}", log_path, error.message()));
  bool changed = false;
  for (const auto& name : copies) {
    uint64_t id = 0;
    if (!parse_segment_name(name, id)) continue;
    const std::string path = log_path + "/" + name;
    const auto known = tables.get(key_of('S', id));
    if (!known) return known.error();
    const bool wanted = *known && !std::filesystem::exists(path, error);
    const auto done = wanted ? rename_file(path + ".new", path) : remove_file(path + ".new");
    if (!done) return done;
    changed = true;
  }
  // The position passes a segment together with its record, so one that lies before it and has
  // none was let go of: nothing in it is needed, or all of it is elsewhere.
  const auto position = tables.position();
  if (!position) return position.error();
  const auto ids = list_segments(log_path);
  if (!ids) return ids.error();
  for (const uint64_t id : *ids) {
    if (id >= position->segment) break;
    const auto known = tables.get(key_of('S', id));
    if (!known) return known.error();
    if (*known) continue;
    const auto removed = remove_file(log_path + "/" + segment_name(id));
    if (!removed) return removed;
    changed = true;
  }
  return changed ? sync_directory(log_path) : Result<void>();
}

Result<void> Store::load_tables(const std::vector<uint64_t>& ids) {
  const auto trims = tables_->scan("T", "T", [&](std::string_view key, std::string_view value) {
    auto& extent = topics_[get_u64(key.data() + 1)].extent;
    extent.first = extent.end = get_u64(value.data());
    return true;
  });
  if (!trims) return trims.error();
  std::optional<Error> failed;
  const auto sealed = tables_->scan("S", "S", [&](std::string_view key, std::string_view value) {
    const uint64_t id = get_u64(key.data() + 1);
    const auto record = SegmentRecord::decode(id, value);
    if (!record) {
      failed = record.error();
      return false;
    }
    if (!std::binary_search(ids.begin(), ids.end(), id)) {
      failed = Error(Code::corrupt,
                     fmt::format("{} is missing; `hulse storage check {}` says what was in it",
                                 segment_path(id), directory_.path()));
      return false;
    }
    segments_[id].bytes = record->bytes;
    segments_[id].gathered = record->gathered;
    adopt(id, record->stretches);
    return true;
  });
  if (!sealed) return sealed.error();
  if (failed) return *failed;
  return {};
}

Result<void> Store::recover() {
  const auto finished = finish_interrupted(directory_.log_path(), *tables_);
  if (!finished) return finished;
  const auto ids = list_segments(directory_.log_path());
  if (!ids) return ids.error();
  const auto loaded = load_tables(*ids);
  if (!loaded) return loaded.error();
  const auto applied = tables_->position();
  if (!applied) return applied.error();
  std::vector<uint64_t> unsealed;
  for (const uint64_t id : *ids) {
    next_segment_ = std::max(next_segment_, id + 1);
    if (!segments_.contains(id)) unsealed.push_back(id);
  }
  for (const uint64_t id : unsealed) {
    const auto recovered = recover_segment(id, id == unsealed.back(), *applied);
    if (!recovered) return recovered.error();
  }
  const auto flushed = tables_->flush();
  if (!flushed) return flushed.error();
  return start_segment();
}

// Reads a segment that was not sealed before the last stop, applies what the tables have not seen,
// and seals it.
Result<void> Store::recover_segment(uint64_t id, bool last, const LogPosition& applied) {
  const std::string path = segment_path(id);
  auto file = File::open(path, O_RDWR);
  if (!file) return file.error();
  const auto size = file->size();
  if (!size) return size.error();
  const auto bytes = read_at(*file, 0, static_cast<size_t>(*size));
  if (!bytes) return bytes.error();
  const bool headless = bytes->find_first_not_of('\0') == std::string::npos;
  if (headless && last) {
    // Created, but the stop came before its header was written.
    const auto removed = remove_file(path);
    if (!removed) return removed;
    return sync_directory(directory_.log_path());
  }
  SegmentIndex index{id, {}};
  LossFinder losses([&](uint64_t topic) {
    const auto known = topics_.find(topic);
    return known == topics_.end() ? 0 : known->second.extent.end;
  });
  std::optional<Error> failed;
  const auto seen = [&](uint64_t offset) {
    return id < applied.segment || (id == applied.segment && offset < applied.offset);
  };
  const auto scan = scan_segment(
      *bytes, id,
      [&](const Record& record) {
        losses.found(record);
        if (record.kind == RecordKind::entry) {
          index.topics[record.topic].push_back({record.index, static_cast<uint32_t>(record.offset),
                                                static_cast<uint32_t>(record.payload.size())});
        } else if (record.kind == RecordKind::changes && !seen(record.offset)) {
          const auto changes = parse_changes(record.payload);
          if (!changes) {
            failed = changes.error();
            return;
          }
          for (const auto& change : *changes) apply(change);
        } else if (record.kind == RecordKind::trim && !seen(record.offset)) {
          apply_trim(record.topic, record.index);
        }
      },
      [&](const Damage& damage) { losses.damaged(damage); }, last);
  if (!scan) return scan.error();
  if (failed) return failed->with(segment_name(id));
  if (scan->cut > 0) {
    log::warn(
        kPart,
        "cut {} bytes of an unfinished write off {} at byte {}; nothing in them was acknowledged",
        scan->cut, path, scan->end);
    cut_bytes_ += scan->cut;
  }
  const auto lost = losses.finish();
  if (!lost.empty()) {
    // Names of topics that only this segment knows. The position stays: it is all applied again.
    const auto named = tables_->apply(applied);
    if (!named) return named;
  }
  const auto kept = keep_losses(
      index, lost, [&](const Loss& loss) { return loss.changes && !seen(loss.where.begin); });
  if (!kept) return kept.error();
  auto cut = file->truncate(scan->end);
  if (cut) cut = file->sync();
  if (!cut) return cut;
  next_group_ = std::max(next_group_, scan->next_group);
  segments_[id].bytes = scan->end;
  put_index(index, scan->end);
  std::vector<Stretch> stretches;
  for (const auto& [topic, places] : index.topics) {
    stretches.push_back(stretch_of(topic, id, places));
  }
  adopt(id, stretches);
  return tables_->apply({id + 1, 0});
}

// Entries that are damaged stay in the index, so that whoever reads them is told. Without changes
// of keys that nobody else has, nothing can go on.
Result<void> Store::keep_losses(SegmentIndex& index, const std::vector<Loss>& losses,
                                const std::function<bool(const Loss&)>& changes_lost) {
  if (losses.empty()) return {};
  const auto naming = Naming::load(*tables_);
  if (!naming) return naming.error();
  const std::string path = segment_path(index.segment);
  std::optional<Error> refused;
  for (const auto& loss : losses) {
    const auto where = fmt::format("{} is damaged from byte {} to byte {}", path, loss.where.begin,
                                   loss.where.end);
    if (loss.where.header_only) {
      log::warn(kPart, "{}: the header of a group; nothing is lost", where);
      continue;
    }
    for (const auto& entry : loss.entries) {
      log::error(kPart, "{}: {} is lost; whoever reads it gets an error", where,
                 naming->text(entry.topic, entry.index));
      auto& places = index.topics[entry.topic];
      const Place place{
          entry.index, static_cast<uint32_t>(loss.where.begin),
          static_cast<uint32_t>(loss.where.end - loss.where.begin - kRecordHeaderSize)};
      places.insert(
          std::upper_bound(places.begin(), places.end(), entry.index,
                           [](uint64_t wanted, const Place& at) { return wanted < at.index; }),
          place);
    }
    if (!changes_lost(loss) || refused) continue;
    refused = Error(Code::corrupt,
                    fmt::format("{}: changes of topics or of subscriptions may be lost; restore a "
                                "backup, or go on without them: hulse storage check --salvage {}",
                                where, directory_.path()));
  }
  if (refused) return *refused;
  return {};
}

}  // namespace hulse::storage

#include "storage/inspect.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>

#include "storage/damage.h"
#include "storage/directory.h"
#include "storage/naming.h"
#include "storage/segment_index.h"
#include "storage/store.h"

namespace hulse::storage {
namespace {

class Inspection {
 public:
  Inspection(Directory directory, std::unique_ptr<Tables> tables)
      : directory_(std::move(directory)), tables_(std::move(tables)) {}

  Result<CheckReport> run(bool salvage);

 private:
  using Losses = std::vector<Loss>;
  Result<void> load();
  Result<void> check_segment(uint64_t id, bool salvage);
  Result<Losses> look(uint64_t id, std::string_view bytes);
  Result<void> name_by_index(uint64_t id, Losses& losses);
  Result<void> drop_places(uint64_t id, const Losses* losses);
  Result<void> mend(uint64_t id, std::string_view bytes, const Losses& losses);
  void report(uint64_t id, const Loss& loss);
  // Every 'I' block of a segment's stretches.
  Result<void> each_block(uint64_t id,
                          const std::function<void(std::string_view key, std::string_view value,
                                                   uint64_t topic)>& found);
  std::string path_of(uint64_t id) const { return directory_.log_path() + "/" + segment_name(id); }

  Directory directory_;
  std::unique_ptr<Tables> tables_;
  LogPosition applied_;
  Naming naming_;
  std::map<uint64_t, SegmentRecord> sealed_;
  std::map<uint64_t, uint64_t> ends_;  // of each topic
  uint64_t last_unsealed_ = 0;
  CheckReport report_;
};

Result<void> Inspection::load() {
  const auto position = tables_->position();
  if (!position) return position.error();
  applied_ = *position;
  auto naming = Naming::load(*tables_);
  if (!naming) return naming.error();
  naming_ = std::move(*naming);
  std::optional<Error> failed;
  const auto sealed = tables_->scan("S", "S", [&](std::string_view key, std::string_view value) {
    const uint64_t id = get_u64(key.data() + 1);
    auto record = SegmentRecord::decode(id, value);
    if (!record) {
      failed = record.error();
      return false;
    }
    for (const auto& stretch : record->stretches) {
      auto& end = ends_[stretch.topic];
      end = std::max(end, stretch.last + 1);
    }
    sealed_[id] = std::move(*record);
    return true;
  });
  if (!sealed) return sealed.error();
  if (failed) return *failed;
  return {};
}

Result<CheckReport> Inspection::run(bool salvage) {
  const auto whole = tables_->verify();
  if (!whole) {
    const auto why = whole.error().text();
    if (salvage) {
      return Error(Code::corrupt, why +
                                      "; the tables come back with a backup only: hulse storage "
                                      "restore");
    }
    report_.damage.push_back({directory_.tables_path(), {why}});
  }
  const auto loaded = load();
  if (!loaded) return loaded.error();
  const auto finished = finish_interrupted(directory_.log_path(), *tables_);
  if (!finished) return finished.error();
  const auto ids = list_segments(directory_.log_path());
  if (!ids) return ids.error();
  for (const uint64_t id : *ids) {
    if (!sealed_.contains(id)) last_unsealed_ = id;
  }
  for (const auto& [id, record] : sealed_) {
    if (std::binary_search(ids->begin(), ids->end(), id)) continue;
    Finding finding{path_of(id) + " is missing", {}};
    for (const auto& stretch : record.stretches) {
      finding.lost.push_back(
          fmt::format("{} to entry {}", naming_.text(stretch.topic, stretch.first), stretch.last));
    }
    report_.damage.push_back(std::move(finding));
    if (!salvage) continue;
    const auto dropped = drop_places(id, nullptr);
    if (!dropped) return dropped.error();
    tables_->erase(key_of('S', id));
  }
  for (const uint64_t id : *ids) {
    const auto checked = check_segment(id, salvage);
    if (!checked) return checked.error();
  }
  if (salvage) {
    auto saved = tables_->apply(applied_);
    if (saved) saved = tables_->flush();
    if (!saved) return saved.error();
  }
  return report_;
}

Result<void> Inspection::check_segment(uint64_t id, bool salvage) {
  auto bytes = read_file(path_of(id));
  if (!bytes) return bytes.error();
  const auto sealed = sealed_.find(id);
  const bool headless = bytes->find_first_not_of('\0') == std::string::npos;
  if (headless && sealed == sealed_.end()) return {};  // begun, and not yet written to
  ++report_.segments;
  report_.bytes += bytes->size();
  Losses losses;
  if (!check_segment_header(*bytes, id)) {
    // It can be told from the file's name, and the checksums of what follows depend on it.
    bytes->resize(std::max(bytes->size(), kSegmentHeaderSize));
    bytes->replace(0, kSegmentHeaderSize, encode_segment_header(id));
    losses.push_back({.where = {.begin = 0, .end = kSegmentHeaderSize, .header_only = true}});
  }
  auto found = look(id, *bytes);
  if (!found) return found.error();
  losses.insert(losses.end(), found->begin(), found->end());
  if (sealed != sealed_.end()) {
    if (bytes->size() < sealed->second.bytes) {
      losses.push_back({.where = {.begin = bytes->size(), .end = sealed->second.bytes}});
    }
    const auto named = name_by_index(id, losses);
    if (!named) return named;
  }
  for (const auto& loss : losses) report(id, loss);
  if (losses.empty() || !salvage) return {};
  return mend(id, *bytes, losses);
}

Result<Inspection::Losses> Inspection::look(uint64_t id, std::string_view bytes) {
  const bool sealed = sealed_.contains(id);
  LossFinder finder([&](uint64_t topic) {
    const auto known = ends_.find(topic);
    return known == ends_.end() ? 0 : known->second;
  });
  std::vector<std::pair<uint64_t, uint64_t>> seen;
  const auto scan = scan_segment(
      bytes, id,
      [&](const Record& record) {
        ++report_.records;
        finder.found(record);
        if (sealed) return;
        if (record.kind == RecordKind::entry) seen.emplace_back(record.topic, record.index + 1);
        if (record.kind != RecordKind::changes) return;
        const auto changes = parse_changes(record.payload);
        if (!changes) return;
        for (const auto& change : *changes) {
          naming_.note(change.key, change.value ? std::optional<std::string_view>(*change.value)
                                                : std::nullopt);
        }
      },
      [&](const Damage& damage) { finder.damaged(damage); }, id == last_unsealed_);
  if (!scan) return scan.error();
  for (const auto& [topic, end] : seen) {
    auto& known = ends_[topic];
    known = std::max(known, end);
  }
  if (scan->cut > 0) {
    report_.notes.push_back(
        fmt::format("{} ends in {} bytes of an unfinished write at byte {}; nothing in them was "
                    "acknowledged, and the next start cuts them off",
                    path_of(id), scan->cut, scan->end));
  }
  return finder.finish();
}

Result<void> Inspection::each_block(
    uint64_t id,
    const std::function<void(std::string_view key, std::string_view value, uint64_t topic)>&
        found) {
  for (const auto& stretch : sealed_.at(id).stretches) {
    const std::string prefix = key_of('I', stretch.topic);
    const auto first = tables_->at_or_before(key_of('I', stretch.topic, stretch.first), prefix);
    if (!first) return first.error();
    const std::string start = *first ? (*first)->first : key_of('I', stretch.topic, stretch.first);
    const auto scanned =
        tables_->scan(prefix, start, [&](std::string_view key, std::string_view value) {
          if (get_u64(key.data() + 9) > stretch.last) return false;
          if (get_u64(value.data()) == id) found(key, value, stretch.topic);
          return true;
        });
    if (!scanned) return scanned.error();
  }
  return {};
}

// The index of a sealed segment knows exactly what lay where; its changes are in the tables.
Result<void> Inspection::name_by_index(uint64_t id, Losses& losses) {
  if (losses.empty()) return {};
  for (auto& loss : losses) {
    loss.entries.clear();
    loss.changes = false;
  }
  return each_block(id, [&](std::string_view key, std::string_view value, uint64_t topic) {
    each_place(key, value, [&](uint64_t, const Place& place) {
      for (auto& loss : losses) {
        if (place.offset >= loss.where.begin && place.offset < loss.where.end) {
          loss.entries.push_back({topic, place.index});
        }
      }
    });
  });
}

// Takes what the losses cover out of the index; everything of the segment without them.
Result<void> Inspection::drop_places(uint64_t id, const Losses* losses) {
  return each_block(id, [&](std::string_view key, std::string_view value, uint64_t topic) {
    std::vector<Place> kept;
    size_t all = 0;
    each_place(key, value, [&](uint64_t, const Place& place) {
      ++all;
      const bool lost =
          losses == nullptr || std::any_of(losses->begin(), losses->end(), [&](const Loss& loss) {
            return place.offset >= loss.where.begin && place.offset < loss.where.end;
          });
      if (!lost) kept.push_back(place);
    });
    if (kept.size() == all) return;
    tables_->erase(key);
    put_places(*tables_, topic, id, kept);
  });
}

Result<void> Inspection::mend(uint64_t id, std::string_view bytes, const Losses& losses) {
  const auto mended = mend_segment(bytes, id, id == last_unsealed_, [&](const Damage& damage) {
    for (const auto& loss : losses) {
      if (loss.where.begin == damage.begin && !loss.entries.empty()) return loss.entries.front();
    }
    return Named{};
  });
  if (!mended) return mended.error();
  // The index first: then a stop in between leaves nothing that points into a mended place.
  if (sealed_.contains(id)) {
    const auto dropped = drop_places(id, &losses);
    if (!dropped) return dropped;
    auto& record = sealed_.at(id);
    record.bytes = mended->size();
    tables_->put(key_of('S', id), record.encode());
    auto saved = tables_->apply(applied_);
    if (saved) saved = tables_->flush();
    if (!saved) return saved;
  }
  report_.kept = directory_.path() + "/damaged";
  auto done = make_directory(report_.kept);
  // Of a second salvage: the first one's file is the original.
  const std::string original = report_.kept + "/" + segment_name(id);
  std::error_code error;
  if (done && !std::filesystem::exists(original, error)) done = link_file(path_of(id), original);
  if (done) done = write_file(path_of(id), *mended);
  if (done) done = sync_directory(directory_.log_path());
  return done;
}

void Inspection::report(uint64_t id, const Loss& loss) {
  Finding finding{
      fmt::format("{}, byte {} to byte {}", path_of(id), loss.where.begin, loss.where.end), {}};
  for (const auto& entry : loss.entries) {
    finding.lost.push_back(naming_.text(entry.topic, entry.index));
  }
  const bool applied =
      id < applied_.segment || (id == applied_.segment && loss.where.begin < applied_.offset);
  if (loss.where.header_only) {
    finding.lost.push_back("nothing: it was a header");
  } else if (loss.changes && !sealed_.contains(id) && !applied) {
    finding.lost.push_back(
        "maybe changes of topics or of subscriptions (an acknowledgement, a "
        "new ledger)");
  } else if (finding.lost.empty()) {
    finding.lost.push_back("nothing that is still kept");
  }
  report_.damage.push_back(std::move(finding));
}

Result<CheckReport> inspect(const std::string& path, bool salvage) {
  auto directory = Directory::open(path, Directory::Absent::refuse);
  if (!directory) return directory.error();
  auto tables = Tables::open(directory->tables_path());
  if (!tables) {
    return tables.error().with("the tables come back with a backup only: hulse storage restore");
  }
  Inspection inspection(std::move(*directory), std::move(*tables));
  return inspection.run(salvage);
}

}  // namespace

Result<CheckReport> check(const std::string& path) { return inspect(path, false); }
Result<CheckReport> salvage(const std::string& path) { return inspect(path, true); }

Result<StatReport> stat(const std::string& path) {
  {
    // A store would make a directory that is not there.
    const auto there = Directory::open(path, Directory::Absent::refuse);
    if (!there) return there.error();
  }
  auto store = Store::open({.path = path});
  if (!store) return store.error();
  const auto naming = (*store)->names();
  if (!naming) return naming.error();
  StatReport out;
  const auto stats = (*store)->stats();
  out.segments = stats.segments;
  out.bytes = stats.disk_bytes;
  for (const auto& [id, topic] : naming->topics()) {
    const auto extent = (*store)->extent(id);
    TopicStat stat{.name = topic.name,
                   .entries = extent.end - std::min(extent.end, extent.first),
                   .bytes = (*store)->bytes_from(id, extent.first)};
    out.live_bytes += stat.bytes;
    for (const auto& subscription : topic.subscriptions) {
      stat.subscriptions.push_back(
          {subscription.name, (*store)->bytes_from(id, subscription.acked_until)});
    }
    out.topics.push_back(std::move(stat));
  }
  const auto closed = (*store)->close();
  if (!closed) return closed.error();
  return out;
}

}  // namespace hulse::storage

// Store's snapshots: a data directory made of links, for backups while the store goes on.
#include <filesystem>
#include <future>

#include "storage/store.h"
#include "storage/store_parts.h"

namespace hulse::storage {

Result<std::string> Store::take_snapshot() {
  const std::string path = directory_.snapshot_path();
  std::promise<Result<void>> taken;
  const bool submitted = submit({.act = [&] { taken.set_value(link_snapshot(path)); }});
  if (!submitted) return Error(Code::closed, "the store is closed");
  const auto result = taken.get_future().get();
  if (!result) return result.error().with("taking a snapshot");
  return std::filesystem::absolute(path).string();
}

Result<void> Store::drop_snapshot() {
  std::error_code error;
  std::filesystem::remove_all(directory_.snapshot_path(), error);
  if (error) return Error(Code::io, directory_.snapshot_path() + ": " + error.message());
  return {};
}

// On the writer thread: between two groups.
Result<void> Store::link_snapshot(const std::string& path) {
  if (broken_) return *broken_;
  std::error_code error;
  if (std::filesystem::exists(path, error)) {
    return Error(Code::busy,
                 "a backup is under way; if it is one that died, drop its snapshot: DELETE "
                 "/admin/hulse/storage/snapshot");
  }
  // What is sealed does not change any more: a link is a copy.
  if (write_offset_ > kSegmentHeaderSize) {
    const auto rolled = roll_segment();
    if (!rolled) return rolled;
  }
  auto done = make_directory(path + "/log");
  if (done) done = tables_->checkpoint(path + "/tables");
  for (auto at = segments_.begin(); done && at != segments_.end(); ++at) {
    if (!at->second.sealed) continue;
    done = link_file(segment_path(at->first), path + "/log/" + segment_name(at->first));
  }
  if (done) done = write_file(path + "/format", format_text());
  if (!done) {
    const auto dropped = drop_snapshot();
    if (!dropped) return dropped;
  }
  return done;
}

}  // namespace hulse::storage

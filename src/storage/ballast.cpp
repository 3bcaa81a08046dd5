// Store on a full disk: room that was set aside keeps acknowledgements and trims going, which is
// what frees room. The writer thread.
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "storage/store.h"
#include "storage/store_parts.h"

namespace hulse::storage {
namespace {

constexpr std::string_view kPart = "storage";
constexpr uint64_t kBallastBytesMin = 1 << 20;
// On top of the ballast, before entries are stored again: else the next few fill it at once.
constexpr uint64_t kRoomAgain = 8 << 20;
constexpr auto kLookForRoom = std::chrono::seconds(1);

}  // namespace

// As much as is configured, and less on a small disk. `free`: without what is set aside already.
uint64_t Store::ballast_wanted(uint64_t free) const {
  return std::max(kBallastBytesMin, std::min<uint64_t>(options_.ballast_bytes, free / 4));
}

// At open. A disk that has no room for one does without, and is full from the start. One that was
// small because the disk was grows.
Result<void> Store::reserve_ballast() {
  const std::string path = directory_.ballast_path();
  auto file = File::open(path, O_RDWR | O_CREAT);
  if (!file) return file.error();
  const auto size = file->size();
  if (!size) return size.error();
  const auto free = free_bytes(directory_.path());
  if (!free) return free.error();
  ballast_ = ballast_wanted(*free);
  if (*size >= ballast_) {
    ballast_ = *size;
    return {};
  }
  auto reserved = file->allocate(ballast_);
  if (reserved) reserved = file->sync();
  if (reserved) return sync_directory(directory_.path());
  if (reserved.error().code() != Code::full) return reserved;
  become_full(reserved.error());
  return {};
}

void Store::become_full(const Error& why) {
  log::error(kPart,
             "the disk is full: entries are refused until there is room again; acknowledgements "
             "use the {} KiB that were set aside: {}",
             ballast_ >> 10, why.text());
  const auto removed = remove_file(directory_.ballast_path());
  if (!removed) log::error(kPart, "{}", removed.error().text());
  retry_ = aio::Clock::now() + kLookForRoom;
  // A segment goes as a whole, and never the active one: what is in it now has ended.
  active_limit_ = write_offset_;
  const std::lock_guard lock(index_mutex_);
  full_ = why;
}

// True when entries are stored again.
bool Store::regain_room() {
  if (broken_ || aio::Clock::now() < retry_) return false;
  retry_ = aio::Clock::now() + kLookForRoom;
  const auto free = free_bytes(directory_.path());
  if (free) ballast_ = std::max(ballast_, ballast_wanted(*free));
  if (!free || *free < ballast_ + std::min<uint64_t>(kRoomAgain, options_.segment_bytes)) {
    return false;
  }
  auto file = File::open(directory_.ballast_path(), O_RDWR | O_CREAT);
  auto reserved = file ? file->allocate(ballast_) : Result<void>(file.error());
  if (reserved) reserved = file->sync();
  if (reserved) reserved = sync_directory(directory_.path());
  if (reserved) reserved = tables_->resume();
  if (!reserved) return false;  // and again in a second
  log::info(kPart, "there is room again: entries are stored");
  const std::lock_guard lock(index_mutex_);
  full_.reset();
  return true;
}

void Store::refuse_entries(std::vector<Request>& group) {
  std::vector<Request> refused;
  std::vector<Request> kept;
  for (auto& request : group) {
    const bool entry = request.kind == RecordKind::entry;
    if (entry && request.fence) request.fence->closed = true;
    (entry ? refused : kept).push_back(std::move(request));
  }
  group = std::move(kept);
  if (!refused.empty()) complete(refused, *full_);
}

// What the tables are told the log has already: without them only a restart brings both together
// again. A full disk gives up the ballast, and then there is room for it.
Result<void> Store::with_room(const std::function<Result<void>()>& act) {
  auto done = act();
  if (!done && done.error().code() == Code::full) {
    if (!full_) become_full(done.error());
    done = tables_->resume();
    if (done) done = act();
  }
  if (!done) break_down(done.error());
  return done;
}

// Writes the change set of the tables.
Result<void> Store::apply_tables() {
  return with_room([this] { return tables_->apply({active_id_, write_offset_}); });
}

Result<void> Store::flush_tables() {
  return with_room([this] { return tables_->flush(); });
}

}  // namespace hulse::storage

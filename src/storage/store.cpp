#include "storage/store.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <boost/asio/post.hpp>

#include "base/log.h"
#include "storage/store_parts.h"

namespace hulse::storage {
namespace {

constexpr std::string_view kPart = "storage";
constexpr size_t kLingerBytesMax = 64 << 10;  // a group this large needs no company
constexpr auto kLookForRoom = std::chrono::seconds(1);

}  // namespace

Store::Store(Options options, Directory directory, std::unique_ptr<Tables> tables)
    : options_(std::move(options)), directory_(std::move(directory)), tables_(std::move(tables)) {}

Result<std::unique_ptr<Store>> Store::open(Options options) {
  auto store = open_once(options);
  if (store || store.error().code() != Code::full) return store;
  // To start, and to free room, takes a little room.
  const auto removed = remove_file(options.path + "/ballast");
  if (!removed) return store;
  log::warn(kPart, "the disk is full; what was set aside for this is used: {}",
            store.error().text());
  return open_once(std::move(options));
}

Result<std::unique_ptr<Store>> Store::open_once(Options options) {
  auto directory = Directory::open(options.path);
  if (!directory) return directory.error();
  auto tables = Tables::open(directory->tables_path(), options.tables_env);
  if (!tables) return tables.error();
  std::unique_ptr<Store> store(
      new Store(std::move(options), std::move(*directory), std::move(*tables)));
  const auto reserved = store->reserve_ballast();
  if (!reserved) return reserved.error();
  const auto recovered = store->recover();
  if (!recovered) return recovered.error().with("recovering " + store->directory_.path());
  const auto dropped = store->drop_snapshot();
  if (!dropped) return dropped.error();
  store->writer_ = std::thread([raw = store.get()] { raw->run(); });
  pthread_setname_np(store->writer_.native_handle(), "storage-log");
  if (store->options_.tidy_every > aio::Duration::zero()) {
    store->tidier_ = std::thread([raw = store.get()] { raw->tidy_now_and_then(); });
    pthread_setname_np(store->tidier_.native_handle(), "storage-tidy");
  }
  return store;
}

Store::~Store() {
  const auto closed = close();
  if (!closed) log::error(kPart, "closing: {}", closed.error().text());
}

Result<void> Store::close() {
  {
    const std::lock_guard lock(tidy_mutex_);
    tidy_ending_ = true;
  }
  tidy_changed_.notify_all();
  if (tidier_.joinable()) tidier_.join();
  {
    const std::lock_guard lock(queue_mutex_);
    closing_ = true;
  }
  queue_changed_.notify_all();
  if (!writer_.joinable()) return {};
  writer_.join();
  if (broken_) return *broken_;
  // The space set aside for the last segment is not needed while nobody writes.
  const auto truncated = active_file_.truncate(write_offset_);
  if (!truncated) return truncated.error();
  return tables_->flush();
}

// ---- requests

void Store::append(TopicId topic, uint64_t index, Bytes payload, aio::Executor executor, Done done,
                   std::vector<Change> changes, std::shared_ptr<Fence> fence) {
  Bytes encoded = changes.empty() ? Bytes() : Bytes::from(encode_changes(changes));
  submit({.kind = RecordKind::entry,
          .topic = topic,
          .index = index,
          .payload = std::move(payload),
          .changes = std::move(changes),
          .changes_payload = std::move(encoded),
          .fence = std::move(fence),
          .executor = executor,
          .done = std::move(done)});
}

void Store::change(std::vector<Change> changes, aio::Executor executor, Done done) {
  auto payload = Bytes::from(encode_changes(changes));
  submit({.kind = RecordKind::changes,
          .payload = std::move(payload),
          .changes = std::move(changes),
          .executor = executor,
          .done = std::move(done)});
}

void Store::trim(TopicId topic, uint64_t index) {
  submit({.kind = RecordKind::trim, .topic = topic, .index = index});
}

bool Store::submit(Request request) {
  bool refused = false;
  bool first = false;
  {
    const std::lock_guard lock(queue_mutex_);
    refused = closing_;
    first = queue_.empty();
    if (!refused) queue_.push_back(std::move(request));
  }
  if (!refused) {
    if (first) queue_changed_.notify_one();
  } else if (request.done) {
    aio::asio::post(*request.executor, [done = std::move(request.done)] {
      done(Error(Code::closed, "the store is closed"));
    });
  }
  return !refused;
}

// ---- the writer thread

void Store::run() {
  for (bool closing = false; !closing;) {
    auto group = take_group(closing);
    if (full_) regain_room();
    if (group.empty()) continue;
    if (group.front().act) {
      group.front().act();
      continue;
    }
    refuse_fenced(group);
    if (full_) refuse_entries(group);
    if (group.empty()) continue;
    auto written = store_group(group);
    if (!written && written.error().code() == Code::full && !full_ && !broken_) {
      become_full(written.error());
      refuse_entries(group);
      if (group.empty()) continue;
      written = store_group(group);
    }
    note(written);
    if (!written) {
      for (const auto& request : group) {
        if (request.fence) request.fence->closed = true;
      }
    }
    complete(group, written);
    remove_unneeded_segments();
  }
}

Result<void> Store::store_group(std::vector<Request>& group) {
  if (broken_) return *broken_;
  const auto written = write_group(group);
  return written ? apply_group(group) : written;
}

// One line when it begins and one when it is over, however many writes are refused in between.
void Store::note(const Result<void>& written) {
  const std::lock_guard lock(index_mutex_);
  if (!written && !last_failure_) log::error(kPart, "cannot store: {}", written.error().text());
  if (written && last_failure_) log::info(kPart, "storing again");
  last_failure_ = written ? std::nullopt : std::optional<Error>(written.error());
}

void Store::refuse_fenced(std::vector<Request>& group) {
  std::vector<Request> refused;
  std::vector<Request> kept;
  for (auto& request : group) {
    const bool closed = request.fence && request.fence->closed;
    (closed ? refused : kept).push_back(std::move(request));
  }
  group = std::move(kept);
  if (!refused.empty())
    complete(refused, Error(Code::io, "an entry before it could not be stored"));
}

// Nothing when it is time to look for room, or when the store closes.
std::vector<Store::Request> Store::take_group(bool& closing) {
  std::vector<Request> group;
  size_t bytes = 0;
  std::unique_lock lock(queue_mutex_);
  const auto woken = [&] { return !queue_.empty() || closing_; };
  if (full_) {
    queue_changed_.wait_for(lock, kLookForRoom, woken);
  } else {
    queue_changed_.wait(lock, woken);
  }
  closing = closing_ && queue_.empty();
  const auto gather = [&] {
    while (!queue_.empty() && (group.empty() || bytes < options_.group_bytes_max)) {
      // Alone: neither after what is not written yet, nor before what would be.
      if (!group.empty() && (queue_.front().act || group.front().act)) break;
      bytes += queue_.front().record_bytes();
      group.push_back(std::move(queue_.front()));
      queue_.pop_front();
    }
  };
  gather();
  // Many small writers: one moment's wait halves the number of syncs. A lone writer is not held up.
  if (group.size() > 1 && bytes < kLingerBytesMax && !closing_ && queue_.empty()) {
    queue_changed_.wait_for(lock, options_.linger / 2, [&] { return closing_; });
    gather();
  }
  return group;
}

Result<void> Store::apply_group(const std::vector<Request>& group) {
  bool changed = false;
  {
    const std::lock_guard lock(index_mutex_);
    auto& index = *indexes_.back();
    for (const auto& request : group) {
      if (request.kind == RecordKind::entry) {
        index.topics[request.topic].push_back({request.index, static_cast<uint32_t>(request.offset),
                                               static_cast<uint32_t>(request.payload.size())});
        auto& extent = topics_[request.topic].extent;
        extent.end = std::max(extent.end, request.index + 1);
        if (request.changes.empty()) continue;
      }
      changed = true;
      if (request.kind == RecordKind::trim) apply_trim(request.topic, request.index);
      for (const auto& change : request.changes) apply(change);
    }
  }
  if (!changed) return {};
  return apply_tables();
}

void Store::apply(const Change& change) {
  if (change.value) {
    tables_->put(user_key(change.key), *change.value);
  } else {
    tables_->erase(user_key(change.key));
  }
}

// Under index_mutex_.
void Store::apply_trim(TopicId topic, uint64_t index) {
  auto& state = topics_[topic];
  if (index <= state.extent.first) return;
  state.extent.first = index;
  char value[8];
  put_u64(value, index);
  tables_->put(key_of('T', topic), std::string_view(value, 8));
  std::optional<uint64_t> gone;
  while (!state.stretches.empty() && state.stretches.front().first < index) {
    auto& stretch = state.stretches.front();
    auto& segment = segments_.at(stretch.segment);
    if (stretch.last >= index) {
      // About as much as the indexes say: entries are counted as if they were all of one size.
      const uint64_t left =
          stretch.bytes / (stretch.last - stretch.first + 1) * (stretch.last - index + 1);
      segment.live_bytes -= stretch.bytes - left;
      stretch.bytes = left;
      stretch.first = index;
      break;
    }
    gone = stretch.last;
    segment.live_bytes -= stretch.bytes;
    if (--segment.live_stretches == 0) trimmed_ = true;
    state.stretches.pop_front();
  }
  if (gone) tables_->erase_range(key_of('I', topic, 0), key_of('I', topic, *gone + 1));
}

void Store::complete(std::vector<Request>& group, const Result<void>& result) {
  // One hop per executor, whatever the number of records.
  std::vector<std::pair<aio::Executor, std::vector<Done>>> targets;
  for (auto& request : group) {
    if (!request.done) continue;
    auto target = std::find_if(targets.begin(), targets.end(),
                               [&](const auto& known) { return known.first == *request.executor; });
    if (target == targets.end()) {
      targets.emplace_back(*request.executor, std::vector<Done>());
      target = std::prev(targets.end());
    }
    target->second.push_back(std::move(request.done));
  }
  for (auto& target : targets) {
    aio::asio::post(target.first, [dones = std::move(target.second), result] {
      for (const auto& done : dones) done(result);
    });
  }
}

void Store::break_down(Error why) {
  const auto told = std::move(why).with("nothing is stored until hulse is restarted");
  log::error(kPart, "{}", told.text());
  const std::lock_guard lock(index_mutex_);
  broken_ = told;
}

std::optional<Error> Store::trouble() const {
  const std::lock_guard lock(index_mutex_);
  if (broken_) return broken_;
  return full_ ? full_ : last_failure_;
}

std::optional<Error> Store::broken() const {
  const std::lock_guard lock(index_mutex_);
  return broken_;
}

void Store::remove_unneeded_segments() {
  if (broken_ || !trimmed_) return;
  trimmed_ = false;
  std::vector<uint64_t> unneeded;
  {
    const std::lock_guard lock(index_mutex_);
    for (const auto& [id, segment] : segments_) {
      if (segment.sealed && segment.live_stretches == 0) unneeded.push_back(id);
    }
    for (const uint64_t id : unneeded) {
      tables_->erase(key_of('S', id));
      segments_.erase(id);
    }
  }
  if (unneeded.empty()) return;
  // The tables must have durably what the segments said before the segments go.
  if (!apply_tables() || !flush_tables()) return;
  for (const uint64_t id : unneeded) remove_segment(id);
}

// The file first: who reads may open it until it is gone, and what is kept open keeps its room.
void Store::remove_segment(uint64_t id) {
  const auto removed = remove_file(segment_path(id));
  if (!removed) log::warn(kPart, "{}", removed.error().text());
  const std::lock_guard lock(files_mutex_);
  files_.erase(id);
}

}  // namespace hulse::storage

#include "storage/store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>

#include "base/assert.h"
#include "base/log.h"
#include "base/text.h"
#include "storage/store_parts.h"

namespace hulse::storage {
namespace {

constexpr std::string_view kPart = "storage";
constexpr size_t kWriteBytesMax = 1 << 20;    // of one pwritev
constexpr size_t kIndexBlock = 512;           // entries in one index value of a sealed segment
constexpr size_t kLingerBytesMax = 64 << 10;  // a group this large needs no company

}  // namespace

Store::Store(Options options, Directory directory, std::unique_ptr<Tables> tables)
    : options_(std::move(options)), directory_(std::move(directory)), tables_(std::move(tables)) {}

Result<std::unique_ptr<Store>> Store::open(Options options) {
  auto directory = Directory::open(options.path);
  if (!directory) return directory.error();
  auto tables = Tables::open(directory->tables_path());
  if (!tables) return tables.error();
  std::unique_ptr<Store> store(
      new Store(std::move(options), std::move(*directory), std::move(*tables)));
  const auto recovered = store->recover();
  if (!recovered) return recovered.error().with("recovering " + store->directory_.path());
  store->writer_ = std::thread([raw = store.get()] { raw->run(); });
  pthread_setname_np(store->writer_.native_handle(), "storage-log");
  return store;
}

Store::~Store() {
  const auto closed = close();
  if (!closed) log::error(kPart, "closing: {}", closed.error().text());
}

Result<void> Store::close() {
  {
    const std::lock_guard lock(queue_mutex_);
    closing_ = true;
  }
  queue_changed_.notify_all();
  if (!writer_.joinable()) return {};
  writer_.join();
  if (broken_) return *broken_;
  // The space set aside for the last segment is not needed while nobody writes.
  if (::ftruncate(active_file_.fd(), static_cast<off_t>(write_offset_)) != 0) {
    return file_error(directory_.log_path(), errno);
  }
  return tables_->flush();
}

Result<void> Store::start_segment() {
  const uint64_t id = next_segment_++;
  const std::string path = directory_.log_path() + "/" + segment_name(id);
  auto file = File::open(path, O_RDWR | O_CREAT | O_EXCL);
  if (!file) return file.error();
  // Space and size now, so that a sync later has no more to write than the data. A disk without
  // that much room still takes what fits.
  const int code = ::posix_fallocate(file->fd(), 0, static_cast<off_t>(options_.segment_bytes));
  // One that could not be begun does not stay: the next open would take it for a damaged one.
  const auto give_up = [&](Error why) {
    ::unlink(path.c_str());
    return why;
  };
  if (code != 0 && code != ENOSPC) return give_up(file_error(path, code));
  if (code == ENOSPC) {
    if (::ftruncate(file->fd(), 0) != 0) return give_up(file_error(path, errno));
    log::warn(kPart, "less than {} MiB are free for {}; writing goes on while there is room",
              options_.segment_bytes >> 20, path);
  }
  const std::string header = encode_segment_header(id);
  const ssize_t written = ::pwrite(file->fd(), header.data(), header.size(), 0);
  if (written != static_cast<ssize_t>(header.size()) || ::fsync(file->fd()) != 0) {
    return give_up(file_error(path, errno));
  }
  const auto synced = sync_directory(directory_.log_path());
  if (!synced) return give_up(synced.error());
  active_file_ = std::move(*file);
  write_offset_ = kSegmentHeaderSize;
  const std::lock_guard lock(index_mutex_);
  segments_[id].bytes = write_offset_;
  return {};
}

// Moves active_index_, which is this segment's, into the tables' change set. The caller applies it.
void Store::seal_segment(uint64_t id) {
  const Segment& segment = segments_.at(id);
  for (const auto& [topic, locations] : active_index_) {
    for (size_t begin = 0; begin < locations.size(); begin += kIndexBlock) {
      const size_t end = std::min(locations.size(), begin + kIndexBlock);
      std::string value(8, '\0');
      put_u64(value.data(), id);
      uint64_t index = locations[begin].index;
      uint64_t offset = 0;
      for (size_t i = begin; i < end; ++i) {
        put_varint(value, locations[i].index - index);
        put_varint(value, locations[i].offset - offset);
        put_varint(value, locations[i].size);
        index = locations[i].index;
        offset = locations[i].offset;
      }
      tables_->put(key_of('I', topic, locations[begin].index), value);
    }
  }
  std::string directory(8, '\0');
  put_u64(directory.data(), segment.bytes);
  for (const auto& [topic, last] : segment.last_index) {
    const size_t at = directory.size();
    directory.resize(at + 16);
    put_u64(directory.data() + at, topic);
    put_u64(directory.data() + at + 8, last);
  }
  tables_->put(key_of('S', id), directory);
  active_index_.clear();
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

void Store::submit(Request request) {
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
}

// ---- the writer thread

void Store::run() {
  for (;;) {
    auto group = take_group();
    if (group.empty()) return;
    refuse_fenced(group);
    if (group.empty()) continue;
    auto written = broken_ ? Result<void>(*broken_) : write_group(group);
    if (written) written = apply_group(group);
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

std::vector<Store::Request> Store::take_group() {
  std::vector<Request> group;
  size_t bytes = 0;
  std::unique_lock lock(queue_mutex_);
  queue_changed_.wait(lock, [&] { return !queue_.empty() || closing_; });
  const auto gather = [&] {
    while (!queue_.empty() && (group.empty() || bytes < options_.group_bytes_max)) {
      bytes += queue_.front().record_bytes();
      group.push_back(std::move(queue_.front()));
      queue_.pop_front();
    }
  };
  gather();
  // Many small writers: one moment's wait halves the number of syncs. A lone writer is not held up.
  if (group.size() > 1 && bytes < kLingerBytesMax && !closing_) {
    queue_changed_.wait_for(lock, options_.linger / 2, [&] { return closing_; });
    gather();
  }
  return group;
}

Result<void> Store::write_group(std::vector<Request>& group) {
  size_t size = 0;
  size_t records = 0;
  for (const auto& request : group) {
    size += request.record_bytes();
    records += request.changes_payload.empty() ? 1 : 2;
  }
  if (write_offset_ + kGroupHeaderSize + size > options_.segment_bytes &&
      write_offset_ > kSegmentHeaderSize) {
    const uint64_t id = segments_.rbegin()->first;
    const std::string old = directory_.log_path() + "/" + segment_name(id);
    if (::ftruncate(active_file_.fd(), static_cast<off_t>(write_offset_)) != 0 ||
        ::fsync(active_file_.fd()) != 0) {
      break_down(file_error(old, errno));
      return *broken_;
    }
    const auto started = start_segment();
    if (!started)
      return started.error();  // the present one stays the last: tried again with each group
    std::unique_lock lock(index_mutex_);
    auto active = segments_.extract(std::prev(segments_.end()));
    seal_segment(id);
    const auto applied = tables_->apply({id + 1, 0});
    segments_.insert(std::move(active));
    lock.unlock();
    if (!applied) {
      break_down(applied.error());
      return *broken_;
    }
  }

  const uint64_t id = segments_.rbegin()->first;
  const uint32_t seed = segment_seed(id);
  std::string headers(kGroupHeaderSize + kRecordHeaderSize * records, '\0');
  encode_group_header(headers.data(), seed, next_group_, size, records);
  std::vector<iovec> parts;
  parts.reserve(2 * records + 1);
  parts.push_back({headers.data(), kGroupHeaderSize});
  uint64_t offset = write_offset_ + kGroupHeaderSize;
  char* header = headers.data() + kGroupHeaderSize;
  const auto add = [&](RecordKind kind, TopicId topic, uint64_t index, const Bytes& payload) {
    encode_record_header(header, seed, kind, topic, index, payload.view());
    parts.push_back({header, kRecordHeaderSize});
    if (!payload.empty()) parts.push_back({const_cast<char*>(payload.data()), payload.size()});
    offset += kRecordHeaderSize + payload.size();
    header += kRecordHeaderSize;
  };
  for (auto& request : group) {
    request.offset = offset;
    add(request.kind, request.topic, request.index, request.payload);
    if (!request.changes_payload.empty()) add(RecordKind::changes, 0, 0, request.changes_payload);
  }

  const std::string path = directory_.log_path() + "/" + segment_name(id);
  uint64_t at = write_offset_;
  for (size_t next = 0; next < parts.size();) {
    size_t count = 0;
    size_t bytes = 0;
    while (next + count < parts.size() && count < IOV_MAX && bytes < kWriteBytesMax) {
      bytes += parts[next + count++].iov_len;
    }
    ssize_t written =
        ::pwritev(active_file_.fd(), &parts[next], static_cast<int>(count), static_cast<off_t>(at));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return file_error(path, errno);
    at += static_cast<uint64_t>(written);
    while (written > 0) {
      auto& part = parts[next];
      const size_t taken = std::min(part.iov_len, static_cast<size_t>(written));
      part.iov_base = static_cast<char*>(part.iov_base) + taken;
      part.iov_len -= taken;
      written -= static_cast<ssize_t>(taken);
      if (part.iov_len == 0) ++next;
    }
  }
  if (::fdatasync(active_file_.fd()) != 0) {
    // The kernel may have dropped what it could not write: trying again would only look like
    // success.
    break_down(file_error(path, errno)
                   .with("syncing the log; nothing is stored until hulse is restarted"));
    return *broken_;
  }
  write_offset_ = at;
  ++next_group_;
  const std::lock_guard lock(index_mutex_);
  segments_.rbegin()->second.bytes = at;
  ++stats_.syncs;
  stats_.records += records;
  stats_.bytes += kGroupHeaderSize + size;
  return {};
}

Result<void> Store::apply_group(const std::vector<Request>& group) {
  bool changed = false;
  {
    const std::lock_guard lock(index_mutex_);
    const uint64_t id = segments_.rbegin()->first;
    auto& segment = segments_.rbegin()->second;
    for (const auto& request : group) {
      if (request.kind == RecordKind::entry) {
        active_index_[request.topic].push_back(
            {request.index, id, request.offset, static_cast<uint32_t>(request.payload.size())});
        segment.last_index[request.topic] = request.index;
        auto& extent = extents_[request.topic];
        extent.end = std::max(extent.end, request.index + 1);
        if (request.changes.empty()) continue;
      }
      changed = true;
      if (request.kind == RecordKind::trim) {
        apply_trim(request.topic, request.index);
        trimmed_ = true;
      }
      for (const auto& change : request.changes) apply(change);
    }
  }
  if (!changed) return {};
  const auto applied = tables_->apply({segments_.rbegin()->first, write_offset_});
  if (!applied) {
    // The log has it, the tables do not: only a restart brings them together again.
    break_down(applied.error());
  }
  return applied;
}

void Store::apply(const Change& change) {
  if (change.value) {
    tables_->put(user_key(change.key), *change.value);
  } else {
    tables_->erase(user_key(change.key));
  }
}

void Store::apply_trim(TopicId topic, uint64_t index) {
  auto& extent = extents_[topic];
  if (index <= extent.first) return;
  extent.first = index;
  char value[8];
  put_u64(value, index);
  tables_->put(key_of('T', topic), std::string_view(value, 8));
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
  log::error(kPart, "{}", why.text());
  const std::lock_guard lock(index_mutex_);
  broken_ = std::move(why);
}

std::optional<Error> Store::trouble() const {
  const std::lock_guard lock(index_mutex_);
  return broken_ ? broken_ : last_failure_;
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
    for (auto at = segments_.begin(); at != std::prev(segments_.end()); ++at) {
      const bool needed = std::any_of(
          at->second.last_index.begin(), at->second.last_index.end(),
          [&](const auto& topic) { return topic.second >= extents_[topic.first].first; });
      if (!needed) unneeded.push_back(at->first);
    }
    if (unneeded.empty()) return;
    for (const uint64_t id : unneeded) {
      for (const auto& [topic, last] : segments_[id].last_index) {
        tables_->erase_range(key_of('I', topic, 0), key_of('I', topic, last + 1));
      }
      tables_->erase(key_of('S', id));
      segments_.erase(id);
    }
  }
  // The tables must have durably what the segments said before the segments go.
  auto result = tables_->apply({segments_.rbegin()->first, write_offset_});
  if (result) result = tables_->flush();
  if (!result) {
    break_down(result.error());
    return;
  }
  for (const uint64_t id : unneeded) {
    const std::string path = directory_.log_path() + "/" + segment_name(id);
    {
      const std::lock_guard lock(files_mutex_);
      files_.erase(id);
    }
    if (::unlink(path.c_str()) != 0) log::warn(kPart, "{}", file_error(path, errno).text());
  }
}

}  // namespace hulse::storage

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
#include <filesystem>

#include "base/assert.h"
#include "base/log.h"
#include "base/text.h"

namespace hulse::storage {
namespace {

constexpr std::string_view kPart = "storage";
constexpr size_t kWriteBytesMax = 1 << 20;  // of one pwritev
constexpr size_t kIndexBlock = 512;         // entries in one index value of a sealed segment
constexpr size_t kOpenFilesMax = 64;
constexpr size_t kReadGapMax = 64 << 10;      // read over, rather than read twice
constexpr size_t kReadBytesMax = 1 << 20;     // of one pread
constexpr size_t kLingerBytesMax = 64 << 10;  // a group this large needs no company

std::string key_of(char prefix, uint64_t a) {
  std::string key(9, prefix);
  put_u64(key.data() + 1, a);
  return key;
}
std::string key_of(char prefix, uint64_t a, uint64_t b) {
  std::string key(17, prefix);
  put_u64(key.data() + 1, a);
  put_u64(key.data() + 9, b);
  return key;
}
// 'M' key: the caller's. 'I' topic, first index: where entries lie in a sealed segment. 'S'
// segment: its topics with their last index. 'T' topic: first index that is not trimmed.
std::string user_key(std::string_view key) { return "M" + std::string(key); }

}  // namespace

struct Store::Request {
  RecordKind kind = RecordKind::entry;
  TopicId topic = 0;
  uint64_t index = 0;
  Bytes payload;
  std::vector<Change> changes;
  Bytes changes_payload;  // of an entry that carries changes: a record of its own after it
  std::shared_ptr<Fence> fence;
  std::optional<aio::Executor> executor;
  Done done;

  size_t record_bytes() const {
    const size_t own = kRecordHeaderSize + payload.size();
    return changes_payload.empty() ? own : own + kRecordHeaderSize + changes_payload.size();
  }
  uint64_t offset = 0;  // of the record in its segment, once written
};

struct Store::Location {
  uint64_t index = 0;
  uint64_t segment = 0;
  uint64_t offset = 0;  // of the record's header
  uint32_t size = 0;    // of the payload
};

struct Store::Segment {
  uint64_t bytes = 0;
  std::map<TopicId, uint64_t> last_index;  // of each topic that has entries in it
};

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

// ---- recovery

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

Result<void> Store::start_segment() {
  const uint64_t id = next_segment_++;
  const std::string path = directory_.log_path() + "/" + segment_name(id);
  auto file = File::open(path, O_RDWR | O_CREAT | O_EXCL);
  if (!file) return file.error();
  // Space and size now, so that a sync later has no more to write than the data.
  const int code = ::posix_fallocate(file->fd(), 0, static_cast<off_t>(options_.segment_bytes));
  if (code != 0) {
    ::unlink(path.c_str());
    return file_error(path, code);
  }
  const std::string header = encode_segment_header(id);
  if (::pwrite(file->fd(), header.data(), header.size(), 0) !=
          static_cast<ssize_t>(header.size()) ||
      ::fsync(file->fd()) != 0) {
    const auto why = file_error(path, errno);
    ::unlink(path.c_str());
    return why;
  }
  const auto synced = sync_directory(directory_.log_path());
  if (!synced) {
    ::unlink(path.c_str());
    return synced.error();
  }
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
    if (!written) {
      for (const auto& request : group) {
        if (request.fence) request.fence->closed = true;
      }
    }
    complete(group, written);
    remove_unneeded_segments();
  }
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

// ---- reading

Result<std::shared_ptr<File>> Store::segment_file(uint64_t id) const {
  const std::lock_guard lock(files_mutex_);
  const auto known = files_.find(id);
  if (known != files_.end()) return known->second;
  auto file = File::open(directory_.log_path() + "/" + segment_name(id), O_RDONLY);
  if (!file) return file.error();
  if (files_.size() >= kOpenFilesMax) files_.erase(files_.begin());
  auto shared = std::make_shared<File>(std::move(*file));
  files_[id] = shared;
  return shared;
}

Result<std::vector<Store::Location>> Store::locate_sealed(TopicId topic, uint64_t from,
                                                          size_t entries_max) const {
  const std::string prefix = key_of('I', topic);
  std::vector<Location> found;
  const auto decode = [&](std::string_view key, std::string_view value) {
    Location at;
    at.index = get_u64(key.data() + 9);
    at.segment = get_u64(value.data());
    std::string_view rest = value.substr(8);
    while (!rest.empty() && found.size() < entries_max) {
      uint64_t index = 0;
      uint64_t offset = 0;
      uint64_t size = 0;
      if (!get_varint(rest, index) || !get_varint(rest, offset) || !get_varint(rest, size)) break;
      at.index += index;
      at.offset += offset;
      at.size = static_cast<uint32_t>(size);
      if (at.index >= from) found.push_back(at);
    }
  };
  const auto block = tables_->at_or_before(key_of('I', topic, from), prefix);
  if (!block) return block.error();
  if (*block) decode((*block)->first, (*block)->second);
  if (found.empty()) {
    const auto next = tables_->scan(prefix, key_of('I', topic, from),
                                    [&](std::string_view key, std::string_view value) {
                                      decode(key, value);
                                      return found.empty();
                                    });
    if (!next) return next.error();
  }
  return found;
}

Result<std::vector<Stored>> Store::read(TopicId topic, uint64_t from, size_t entries_max,
                                        size_t bytes_max) const {
  std::vector<Location> locations;
  const auto in_active = [&](bool any_start) {
    const std::lock_guard lock(index_mutex_);
    const auto known = active_index_.find(topic);
    if (known == active_index_.end()) return;
    const auto& all = known->second;
    if (!any_start && all.front().index > from) return;
    auto at = std::lower_bound(all.begin(), all.end(), from,
                               [](const Location& l, uint64_t index) { return l.index < index; });
    for (; at != all.end() && locations.size() < entries_max; ++at) locations.push_back(*at);
  };
  in_active(false);
  // A segment may be sealed between the two looks; then the second look at the tables finds it.
  for (int tries = 0; locations.empty() && tries < 2; ++tries) {
    auto sealed = locate_sealed(topic, from, entries_max);
    if (!sealed) return sealed.error();
    locations = std::move(*sealed);
    if (locations.empty()) in_active(true);
  }

  std::vector<Stored> out;
  size_t total = 0;
  for (size_t i = 0; i < locations.size() && (out.empty() || total < bytes_max);) {
    // As many as lie close together, in one read.
    size_t end = i + 1;
    const uint64_t begin_offset = locations[i].offset;
    uint64_t end_offset = begin_offset + kRecordHeaderSize + locations[i].size;
    size_t wanted = total + locations[i].size;
    while (end < locations.size() && locations[end].segment == locations[i].segment &&
           locations[end].offset <= end_offset + kReadGapMax && wanted < bytes_max &&
           locations[end].offset + kRecordHeaderSize + locations[end].size - begin_offset <=
               kReadBytesMax) {
      end_offset = locations[end].offset + kRecordHeaderSize + locations[end].size;
      wanted += locations[end++].size;
    }
    const auto file = segment_file(locations[i].segment);
    if (!file) return file.error();
    auto bytes = read_at(**file, begin_offset, end_offset - begin_offset);
    if (!bytes) return bytes.error().with(segment_name(locations[i].segment));
    const Bytes chunk = Bytes::from(std::move(*bytes));
    const uint32_t seed = segment_seed(locations[i].segment);
    for (; i < end; ++i) {
      const auto& at = locations[i];
      const size_t start = at.offset - begin_offset;
      const auto record = start < chunk.size()
                              ? parse_record(chunk.view().substr(start), seed)
                              : Result<Record>(Error(Code::corrupt, "the segment is too short"));
      if (!record || record->topic != topic || record->index != at.index) {
        const Error why =
            record ? Error(Code::corrupt, "another record lies there") : record.error();
        return why.with(fmt::format("entry {} of topic id {} at byte {} of {}", at.index, topic,
                                    at.offset, segment_name(at.segment)));
      }
      out.push_back({at.index, Bytes(chunk.owner(), record->payload)});
      total += record->payload.size();
    }
  }
  return out;
}

Result<std::optional<std::string>> Store::get(std::string_view key) const {
  return tables_->get(user_key(key));
}

Result<std::vector<std::pair<std::string, std::string>>> Store::scan(
    std::string_view prefix) const {
  std::vector<std::pair<std::string, std::string>> out;
  const std::string full = user_key(prefix);
  const auto scanned = tables_->scan(full, full, [&](std::string_view key, std::string_view value) {
    out.emplace_back(key.substr(1), value);
    return true;
  });
  if (!scanned) return scanned.error();
  return out;
}

Extent Store::extent(TopicId topic) const {
  const std::lock_guard lock(index_mutex_);
  const auto known = extents_.find(topic);
  return known == extents_.end() ? Extent{} : known->second;
}

StoreStats Store::stats() const {
  const std::lock_guard lock(index_mutex_);
  StoreStats stats = stats_;
  for (const auto& [id, segment] : segments_) stats.disk_bytes += segment.bytes;
  return stats;
}

}  // namespace hulse::storage

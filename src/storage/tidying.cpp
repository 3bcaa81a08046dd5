// Store's tidying: segments that hold little of what is needed are copied into new ones, and so are
// those where the entries of many small topics lie mixed. A thread of its own does the copying; the
// writer thread then changes the index from the old places to the new ones in one step.
//
//   1. copy the entries topic by topic into NAME.log.new; it and its name are synced
//   2. tables: the new places instead of the old, the new segment instead of the old ones; flushed
//   3. rename to NAME.log, unlink the old segments
//
// A stop before 2 leaves a file that the next open removes; one after it a file that it renames, or
// old segments that it removes (finish_interrupted()).
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <set>

#include "base/log.h"
#include "storage/store.h"
#include "storage/store_parts.h"

namespace hulse::storage {
namespace {

constexpr std::string_view kPart = "storage";
constexpr size_t kGroupBytes = 1 << 20;
constexpr size_t kEntriesAtOnce = 512;
// A segment is not worth copying for less garbage than a quarter of it.
constexpr uint64_t kLiveShareMax = 75;
// Reading one of so many topics costs a read for each entry when they are smaller than this.
constexpr uint64_t kMixedTopicsMin = 16;
constexpr uint64_t kMixedBytesMax = 256 << 10;
// While less than this comes in between two looks there is time to gather topics.
constexpr uint64_t kQuietBytes = 16 << 20;
constexpr uint64_t kRoomMin = 256 << 20;

// Writes records into a segment, a group at a time.
class SegmentWriter {
 public:
  SegmentWriter(File file, uint64_t id) : file_(std::move(file)), seed_(segment_seed(id)) {
    buffer_.resize(kGroupHeaderSize);
  }

  Result<Place> add(TopicId topic, uint64_t index, std::string_view payload) {
    if (buffer_.size() >= kGroupBytes) {
      const auto written = end_group();
      if (!written) return written.error();
    }
    const Place place{index, static_cast<uint32_t>(offset_ + buffer_.size()),
                      static_cast<uint32_t>(payload.size())};
    const size_t at = buffer_.size();
    buffer_.resize(at + kRecordHeaderSize);
    encode_record_header(buffer_.data() + at, seed_, RecordKind::entry, topic, index, payload);
    buffer_ += payload;
    ++count_;
    return place;
  }

  Result<void> end_group() {
    if (count_ == 0) return {};
    encode_group_header(buffer_.data(), seed_, number_++, buffer_.size() - kGroupHeaderSize,
                        count_);
    const auto written = file_.write(buffer_, offset_);
    if (!written) return written;
    offset_ += buffer_.size();
    buffer_.resize(kGroupHeaderSize);
    count_ = 0;
    return {};
  }

  Result<void> finish() {
    const auto ended = end_group();
    return ended ? file_.sync() : ended;
  }
  uint64_t bytes() const { return offset_; }
  File& file() { return file_; }

 private:
  File file_;
  const uint32_t seed_;
  uint64_t number_ = 0;
  uint64_t offset_ = kSegmentHeaderSize;
  std::string buffer_;
  size_t count_ = 0;
};

}  // namespace

struct Store::Run {
  TopicId topic = 0;
  uint64_t first = 0;
  uint64_t last = 0;
  std::vector<std::string> old_keys;
  std::vector<Place> places;
};

struct Store::Plan {
  std::set<uint64_t> segments;
  std::vector<Run> runs;
  uint64_t target = 0;
  uint64_t bytes = 0;
  bool told = false;  // the tables, of the target
};

void Store::tidy_now_and_then() {
  std::unique_lock lock(tidy_mutex_);
  while (!tidy_ending_) {
    tidy_changed_.wait_for(lock, options_.tidy_every, [&] { return tidy_ending_; });
    if (tidy_ending_) return;
    lock.unlock();
    const auto done = tidy();
    if (!done) log::warn(kPart, "copying segments together: {}", done.error().text());
    lock.lock();
  }
}

Result<void> Store::tidy() {
  for (;;) {
    {
      // close() waits for us: there may be hours of it, and all of it can be done later.
      const std::lock_guard lock(tidy_mutex_);
      if (tidy_ending_) return {};
    }
    Plan plan = make_plan();
    if (plan.segments.empty()) return {};
    const auto copied = copy_plan(plan);
    if (!copied && copied.error().code() == Code::corrupt) {
      // It is named, and stays as it is: `hulse storage check` says more.
      log::error(kPart, "{}", copied.error().text());
      untidy_.insert(plan.segments.begin(), plan.segments.end());
    }
    auto done = copied;
    if (copied) {
      std::promise<Result<void>> switched;
      const bool submitted = submit({.act = [&] { switched.set_value(switch_places(plan)); }});
      done = submitted ? switched.get_future().get() : Error(Code::closed, "the store is closed");
    }
    if (done) continue;
    // Once the tables may speak of it, it stays: the next open knows what is to become of it.
    if (!plan.told) {
      const auto removed = remove_file(segment_path(plan.target) + ".new");
      if (!removed) log::warn(kPart, "{}", removed.error().text());
    }
    if (done.error().code() == Code::corrupt) continue;
    return done.error().code() == Code::closed ? Result<void>() : done;
  }
}

// Which segments are worth it now; none most of the time.
Store::Plan Store::make_plan() {
  Plan plan;
  const auto room = free_bytes(directory_.path());
  if (!room) return plan;
  const std::lock_guard lock(index_mutex_);
  if (broken_) return plan;
  const bool scarce = *room < std::min<uint64_t>(kRoomMin, 4 * options_.segment_bytes);
  // A copy takes room before it gives some back.
  const uint64_t copied_max = full_ || scarce
                                  ? std::min<uint64_t>(options_.segment_bytes, *room / 4)
                                  : options_.segment_bytes;
  struct Candidate {
    uint64_t id = 0;
    uint64_t live = 0;
    uint64_t bytes = 0;
  };
  std::vector<Candidate> candidates;
  std::optional<uint64_t> mixed;
  uint64_t bytes = 0;
  uint64_t live = 0;
  for (const auto& [id, segment] : segments_) {
    if (!segment.sealed || segment.live_stretches == 0) continue;
    bytes += segment.bytes;
    live += segment.live_bytes;
    if (untidy_.contains(id)) continue;
    candidates.push_back({id, segment.live_bytes, segment.bytes});
    if (!mixed && !segment.gathered && segment.live_stretches >= kMixedTopicsMin &&
        segment.live_bytes / segment.live_stretches < kMixedBytesMax) {
      mixed = id;
    }
  }
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return a.live * b.bytes < b.live * a.bytes;
  });
  uint64_t garbage = bytes - std::min(bytes, live);
  // On a full disk a few records must not keep the room of a segment.
  const uint64_t garbage_max = full_ ? 0 : live / 10 + options_.garbage_bytes_max;
  uint64_t copied = 0;
  for (const auto& candidate : candidates) {
    if (garbage <= garbage_max || candidate.live * 100 > candidate.bytes * kLiveShareMax ||
        copied + candidate.live > copied_max) {
      break;
    }
    plan.segments.insert(candidate.id);
    copied += candidate.live;
    garbage -= candidate.bytes - candidate.live;
  }
  const bool quiet = stats_.bytes - tidied_at_ < kQuietBytes;
  tidied_at_ = stats_.bytes;
  if (plan.segments.empty() && quiet && mixed && !full_ && !scarce) plan.segments.insert(*mixed);
  if (plan.segments.empty()) return plan;

  for (const auto& [topic, state] : topics_) {
    bool follows = false;
    for (const auto& stretch : state.stretches) {
      const bool chosen = plan.segments.contains(stretch.segment);
      if (chosen && follows) {
        plan.runs.back().last = stretch.last;
      } else if (chosen) {
        plan.runs.push_back({topic, stretch.first, stretch.last, {}, {}});
      }
      follows = chosen;
    }
  }
  std::sort(plan.runs.begin(), plan.runs.end(), [](const Run& a, const Run& b) {
    return std::pair(a.topic, a.first) < std::pair(b.topic, b.first);
  });
  plan.target = next_segment_++;
  return plan;
}

Result<void> Store::copy_plan(Plan& plan) const {
  const std::string path = segment_path(plan.target) + ".new";
  auto file = File::open(path, O_RDWR | O_CREAT | O_TRUNC);
  if (!file) return file.error();
  const auto header = file->write(encode_segment_header(plan.target), 0);
  if (!header) return header;
  SegmentWriter writer(std::move(*file), plan.target);
  for (auto& run : plan.runs) {
    std::vector<Location> locations;
    const std::string prefix = key_of('I', run.topic);
    const auto block = tables_->at_or_before(key_of('I', run.topic, run.first), prefix);
    if (!block) return block.error();
    const std::string start = *block ? (*block)->first : key_of('I', run.topic, run.first);
    const auto scanned =
        tables_->scan(prefix, start, [&](std::string_view key, std::string_view value) {
          if (get_u64(key.data() + 9) > run.last) return false;
          bool own = false;
          each_place(key, value, [&](uint64_t segment, const Place& place) {
            if (place.index < run.first || place.index > run.last) return;
            own = true;
            locations.push_back({segment, place});
          });
          if (own) run.old_keys.emplace_back(key);
          return true;
        });
    if (!scanned) return scanned.error();
    for (size_t at = 0; at < locations.size();) {
      const size_t end = std::min(locations.size(), at + kEntriesAtOnce);
      const std::vector<Location> some(locations.begin() + static_cast<ptrdiff_t>(at),
                                       locations.begin() + static_cast<ptrdiff_t>(end));
      const auto entries = read_places(run.topic, some, kGroupBytes);
      if (!entries) return entries.error();
      for (const auto& entry : *entries) {
        const auto place = writer.add(run.topic, entry.index, entry.payload.view());
        if (!place) return place.error();
        run.places.push_back(*place);
      }
      at += entries->size();
    }
  }
  auto finished = writer.finish();
  plan.bytes = writer.bytes();
  // The index is about to say that it is there.
  if (finished) finished = sync_directory(directory_.log_path());
  return finished;
}

// On the writer thread, between two groups.
Result<void> Store::switch_places(Plan& plan) {
  if (broken_) return *broken_;
  const uint64_t id = plan.target;
  SegmentRecord record{.bytes = plan.bytes, .gathered = true};
  for (auto& run : plan.runs) {
    // What was trimmed meanwhile has left the index already.
    const auto known = topics_.find(run.topic);
    const uint64_t first = known == topics_.end() ? 0 : known->second.extent.first;
    std::erase_if(run.places, [&](const Place& place) { return place.index < first; });
    for (const auto& key : run.old_keys) tables_->erase(key);
    if (run.places.empty()) continue;
    put_places(*tables_, run.topic, id, run.places);
    record.stretches.push_back(stretch_of(run.topic, id, run.places));
  }
  for (const uint64_t old : plan.segments) tables_->erase(key_of('S', old));
  tables_->put(key_of('S', id), record.encode());
  plan.told = true;
  auto applied = apply_tables();
  if (!applied) return applied;
  const std::string path = segment_path(id);
  applied = flush_tables();
  if (!applied) return applied;
  applied = rename_file(path + ".new", path);
  if (applied) applied = sync_directory(directory_.log_path());
  if (!applied) {
    break_down(applied.error());
    return applied;
  }
  {
    const std::lock_guard lock(index_mutex_);
    for (const auto& run : plan.runs) {
      const auto known = topics_.find(run.topic);
      if (known == topics_.end()) continue;
      auto& all = known->second.stretches;
      std::erase_if(all, [&](const Stretch& stretch) {
        return plan.segments.contains(stretch.segment) && stretch.last >= run.first &&
               stretch.first <= run.last;
      });
    }
    for (const uint64_t old : plan.segments) segments_.erase(old);
    segments_[id].bytes = plan.bytes;
    segments_[id].gathered = true;
    adopt(id, record.stretches);
    ++generation_;
  }
  for (const uint64_t old : plan.segments) remove_segment(old);
  return {};
}

}  // namespace hulse::storage

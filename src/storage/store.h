// Store: everything durable of the embedded broker, in one log with one sync.
//
// Entries of topics and changes of keys (metadata, cursors) are records of one append-only segment
// log; whatever waits while a sync runs shares the next one. Keys are also held in tables
// (tables.h), which are rolled forward from the log at open. Used by the broker.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "aio/clock.h"
#include "aio/task.h"
#include "base/bytes.h"
#include "base/result.h"
#include "storage/directory.h"
#include "storage/log_format.h"
#include "storage/naming.h"
#include "storage/segment_index.h"
#include "storage/tables.h"

namespace rocksdb {
class Env;
}

namespace hulse::storage {

using TopicId = uint64_t;

struct Options {
  std::string path;
  size_t segment_bytes = 64 << 20;
  size_t group_bytes_max = 8 << 20;  // what one sync carries at the most
  // How long a sync may wait for company when the one before it was small but shared.
  aio::Duration linger = std::chrono::milliseconds(1);
  // Set aside on the disk for acknowledgements and trims, for when it is full. Less on a small one.
  size_t ballast_bytes = 32 << 20;
  // How often to look whether segments should be copied together; zero: only when tidy() is called.
  aio::Duration tidy_every = std::chrono::seconds(5);
  // What the disk may hold that nobody needs, besides a tenth of what is needed.
  size_t garbage_bytes_max = 64 << 20;
  // The file system of the tables; null is RocksDB's own. Outlives the store.
  rocksdb::Env* tables_env = nullptr;
};

struct Stored {
  uint64_t index = 0;
  Bytes payload;
};

// The entries of a topic that are stored: [first, end). Indexes may have holes (a failed append).
struct Extent {
  uint64_t first = 0;
  uint64_t end = 0;
};

struct StoreStats {
  uint64_t syncs = 0;
  uint64_t records = 0;
  uint64_t bytes = 0;       // written to the log
  uint64_t disk_bytes = 0;  // of all segments
  uint64_t live_bytes = 0;  // of entries in sealed segments that are needed
  uint64_t segments = 0;
};

struct Loss;  // damage.h

// Shared by appends whose order matters. Belongs to the writer; callers only hand it over.
struct Fence {
  bool closed = false;
};

// The ids of the segments in log/, ascending.
Result<std::vector<uint64_t>> list_segments(const std::string& log_path);

// Completes what a stop has left in the middle of removing segments or of Store::tidy().
Result<void> finish_interrupted(const std::string& log_path, const Tables& tables);

class Store {
 public:
  // Called on `executor` when the record is synced, or cannot be.
  using Done = std::function<void(const Result<void>&)>;

  // Locks the directory, recovers, starts the writer thread. Blocking.
  static Result<std::unique_ptr<Store>> open(Options options);
  ~Store();  // close()
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // Writes what is queued, makes the tables durable, ends the writer. Blocking, idempotent. What is
  // submitted afterwards fails with Code::closed.
  Result<void> close();

  // Any thread; never blocks. Completions of one executor come in the order of their requests. An
  // index must be above every index appended to the topic before.
  // `changes` count if and only if the entry does. When an append fails, those after it that carry
  // the same fence fail too, unwritten: what follows a lost entry must not be stored in its place.
  void append(TopicId topic, uint64_t index, Bytes payload, aio::Executor executor, Done done,
              std::vector<Change> changes = {}, std::shared_ptr<Fence> fence = nullptr);
  // All changes count together.
  void change(std::vector<Change> changes, aio::Executor executor, Done done);
  // Entries before `index` are not needed any more; whole segments go when nobody needs them.
  void trim(TopicId topic, uint64_t index);

  // Blocking; any thread. Entries from `from` on, in order: at least one if there is one, then up
  // to either limit. Code::corrupt names the damaged record.
  Result<std::vector<Stored>> read(TopicId topic, uint64_t from, size_t entries_max,
                                   size_t bytes_max) const;

  // Blocking; any thread. Values as of the last sync.
  Result<std::optional<std::string>> get(std::string_view key) const;
  Result<std::vector<std::pair<std::string, std::string>>> scan(std::string_view prefix) const;

  // Copies segments together until what nobody needs is within bounds and, if little comes in, the
  // entries of small topics lie together. Blocking; one thread at a time.
  Result<void> tidy();

  // Makes a data directory of links beside the log, with everything acknowledged before the call,
  // and returns its path. It can be copied while the store goes on, and keeps what it holds on
  // disk until it is dropped (or the store opened again). Blocking; any thread. Code::busy while
  // there is one.
  Result<std::string> take_snapshot();
  Result<void> drop_snapshot();

  Extent extent(TopicId topic) const;
  // About how many bytes the entries from `index` on take in the log.
  uint64_t bytes_from(TopicId topic, uint64_t index) const;
  StoreStats stats() const;
  // Of all topics; for tools.
  Result<Naming> names() const { return Naming::load(*tables_); }

  // Why nothing can be stored any more (a failed sync), if so. Any thread.
  std::optional<Error> broken() const;
  // Why entries cannot be stored now, if so: a full disk (Code::full: changes and trims may still
  // be), or what broke the store. Any thread.
  std::optional<Error> trouble() const;

  // Bytes of a torn last group that recovery cut off; 0 after a clean stop.
  uint64_t cut_bytes() const { return cut_bytes_; }

 private:
  struct Request;
  struct Location;
  struct Segment;
  struct TopicState;
  struct Run;
  struct Plan;
  enum class Look { around, after };

  Store(Options options, Directory directory, std::unique_ptr<Tables> tables);
  static Result<std::unique_ptr<Store>> open_once(Options options);

  // recovery.cpp
  Result<void> recover();
  Result<void> load_tables(const std::vector<uint64_t>& ids);
  Result<void> recover_segment(uint64_t id, bool last, const LogPosition& applied);
  Result<void> keep_losses(SegmentIndex& index, const std::vector<Loss>& losses,
                           const std::function<bool(const Loss&)>& changes_lost);

  // store.cpp
  bool submit(Request request);
  void run();
  std::vector<Request> take_group(bool& closing);
  Result<void> store_group(std::vector<Request>& group);
  Result<void> apply_group(const std::vector<Request>& group);
  void apply(const Change& change);
  void apply_trim(TopicId topic, uint64_t index);
  void note(const Result<void>& written);
  void refuse_fenced(std::vector<Request>& group);
  void complete(std::vector<Request>& group, const Result<void>& result);
  void remove_unneeded_segments();
  void remove_segment(uint64_t id);
  void break_down(Error why);

  // writing.cpp
  Result<void> start_segment();
  Result<void> roll_segment();
  Result<void> write_group(std::vector<Request>& group);
  void put_index(const SegmentIndex& index, uint64_t bytes);
  void adopt(uint64_t segment, const std::vector<Stretch>& stretches);

  // ballast.cpp
  uint64_t ballast_wanted(uint64_t free) const;
  Result<void> reserve_ballast();
  void become_full(const Error& why);
  bool regain_room();
  void refuse_entries(std::vector<Request>& group);
  Result<void> with_room(const std::function<Result<void>()>& act);
  Result<void> apply_tables();
  Result<void> flush_tables();

  // tidying.cpp
  void tidy_now_and_then();
  Plan make_plan();
  Result<void> copy_plan(Plan& plan) const;
  Result<void> switch_places(Plan& plan);

  // snapshot.cpp
  Result<void> link_snapshot(const std::string& path);

  // reading.cpp
  std::vector<Location> locate_in_memory(TopicId topic, uint64_t from, size_t entries_max,
                                         Look look, uint64_t& generation) const;
  Result<std::vector<Location>> locate_sealed(TopicId topic, uint64_t from,
                                              size_t entries_max) const;
  Result<std::vector<Location>> locate(TopicId topic, uint64_t from, size_t entries_max) const;
  Result<std::vector<Stored>> read_places(TopicId topic, const std::vector<Location>& locations,
                                          size_t bytes_max) const;
  Result<std::shared_ptr<File>> segment_file(uint64_t id) const;
  std::string segment_path(uint64_t id) const;

  const Options options_;
  const Directory directory_;
  const std::unique_ptr<Tables> tables_;
  uint64_t cut_bytes_ = 0;

  // Of the writer thread only.
  uint64_t next_group_ = 0;
  uint64_t write_offset_ = 0;
  File active_file_;
  uint64_t active_limit_ = 0;     // where the active segment ends
  uint64_t ballast_ = 0;          // what is set aside, or was before it was given up
  aio::Clock::time_point retry_;  // when to look for room again
  bool trimmed_ = true;           // since it was last looked which segments nobody needs

  // Written by the writer thread only; under index_mutex_ where other threads read.
  mutable std::mutex index_mutex_;
  uint64_t next_segment_ = 1;
  uint64_t active_id_ = 0;
  std::optional<Error> broken_;        // after a failed sync nothing is written any more
  std::optional<Error> last_failure_;  // of the last write; nothing after one that succeeded
  std::optional<Error> full_;          // no entries until there is room for the ballast again
  std::map<uint64_t, Segment> segments_;
  std::unordered_map<TopicId, TopicState> topics_;
  // Of the active segment last; before it, of one that is on its way into the tables.
  std::vector<std::shared_ptr<SegmentIndex>> indexes_;
  // Counts what moves entries from where a reader may have looked to where it did not.
  uint64_t generation_ = 0;
  StoreStats stats_;

  mutable std::mutex files_mutex_;
  mutable std::map<uint64_t, std::shared_ptr<File>> files_;

  std::mutex queue_mutex_;
  std::condition_variable queue_changed_;
  std::deque<Request> queue_;
  bool closing_ = false;
  std::thread writer_;

  // Of the thread that tidies.
  std::set<uint64_t> untidy_;  // segments with damage in them: they stay as they are
  uint64_t tidied_at_ = 0;     // bytes written until the last look
  std::mutex tidy_mutex_;
  std::condition_variable tidy_changed_;
  bool tidy_ending_ = false;
  std::thread tidier_;
};

}  // namespace hulse::storage

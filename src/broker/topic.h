// Topic: a persistent topic (or one partition of one). Entries have dense indexes from 0 on; a
// ledger is a stretch of them, so that index and Pulsar's (ledger, entry) translate both ways.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "aio/clock.h"
#include "aio/event.h"
#include "aio/gate.h"
#include "aio/threads.h"
#include "base/ids.h"
#include "broker/cursor.h"
#include "broker/link.h"
#include "broker/meter.h"
#include "broker/namespaces.h"
#include "storage/store.h"
#include "wire/topic_name.h"

namespace hulse::broker {

// What all topics share. Owned by the broker, outlives them.
struct Shared {
  storage::Store& store;
  aio::Executor executor;                 // the broker's strand
  aio::Executor disk;                     // blocking reads
  size_t tail_bytes_max = 32 << 20;       // of all topics together
  size_t tail_topic_bytes_max = 4 << 20;  // of one
  size_t tail_bytes = 0;
  // What subscriptions have read from disk and not delivered. Above it they read in small pieces.
  size_t ahead_bytes_max = 32 << 20;
  size_t ahead_bytes = 0;
  // Received of all connections together, and not synced. Above it no connection is read.
  size_t unsynced_bytes_max = 256 << 20;
  size_t unsynced_bytes = 0;
  aio::Event unsynced_room{executor};
  uint64_t next_ledger = 0;
  std::string broker_id;  // "localhost:8080": where the web interface is
  aio::Duration failover_delay = std::chrono::seconds(1);
  // Key_Shared: a ring of hashes (as Pulsar's default) or ranges that are split in halves.
  bool consistent_hashing = true;
  // What is noted before each entry (BrokerEntryMetadata): when it came, and how many messages
  // there were before its last one.
  bool note_time = false;
  bool note_index = false;
};

struct Ledger {
  uint64_t id = 0;
  uint64_t first_index = 0;
  uint64_t bytes = 0;     // of its entries, once it is closed
  int64_t closed_ms = 0;  // milliseconds since 1970; 0: it is the last one
};

// What compaction has made of the entries before `horizon`: those that stay, under their own
// indexes, in a store of their own (compaction.h).
struct Compacted {
  storage::TopicId id = 0;
  uint64_t horizon = 0;
  uint64_t entries = 0;
  uint64_t bytes = 0;
  uint64_t last_index = 0;  // of the last entry, if there is one
};

// What is kept of a topic across restarts.
struct TopicRecord {
  storage::TopicId id = 0;
  // In order. Rows before the first stored entry stay only as far as compacted entries need them.
  std::vector<Ledger> ledgers;
  std::optional<Compacted> compacted;
  storage::TopicId compacting = 0;  // of the store a compaction writes to; 0: none runs
  uint64_t epoch = 0;               // of exclusive producers
  bool has_epoch = false;
  bool terminated = false;
  // Ever published here while entries were numbered; as of the last ledger's begin when stored.
  uint64_t messages = 0;

  std::string encode() const;  // JSON
  static Result<TopicRecord> decode(std::string_view json);
};

struct TailEntry {
  uint64_t index = 0;
  Bytes entry;
  uint32_t messages = 1;
  // Of a batch that compaction has thinned: bit i set = message i is there. Empty: all are.
  std::vector<int64_t> present;
};

// Of the last compaction since the broker started; one that runs.
struct CompactionState {
  bool running = false;
  std::string error;         // of the last one; empty: it went well, or there was none
  int64_t succeeded_ms = 0;  // milliseconds since 1970
  int64_t failed_ms = 0;
  int64_t took_ms = 0;
  uint64_t removed = 0;  // entries that did not stay
};

struct TopicCounters {
  Meter in;
  Meter out;
  bool chunked = false;  // a chunk was published
};

class Topic : public std::enable_shared_from_this<Topic> {
 public:
  // shared_from_this: a connection's producers and consumers, and running reads, keep it alive.
  Topic(Shared& shared, wire::TopicName name, TopicRecord record);
  ~Topic();

  // Opens a new ledger: positions after a restart are new ones. What is appended afterwards is in
  // the log after it.
  void open();
  // Makes a stored sequence id known.
  void restore_sequence(const std::string& producer, uint64_t sequence_id);
  std::vector<std::pair<std::string, uint64_t>> sequences() const;
  // Makes a stored subscription known.
  void restore(const std::string& subscription, Cursor cursor);

  const wire::TopicName& name() const { return name_; }
  const std::string& text() const { return text_; }
  storage::TopicId id() const { return record_.id; }
  const TopicRecord& record() const { return record_; }
  Shared& shared() { return shared_; }
  aio::Gate& gate() { return gate_; }
  const TopicCounters& counters() const { return counters_; }
  TopicCounters& counters() { return counters_; }
  // Rates of everything here, over the `seconds` since the last time.
  void sample(double seconds);

  // ---- producers

  struct Refusal {
    pb::ServerError code;
    std::string message;
  };
  using Done = std::function<void(const Result<void>&)>;
  // Refuses a name that is taken (unless the same connection reopens it with a higher epoch) and
  // what the access modes of the others forbid. `ready` is called when it may send: at once, when
  // its epoch is stored, or, if `waits` is set, when its turn has come.
  std::optional<Refusal> add_producer(const std::shared_ptr<Producer>& producer, Done ready,
                                      bool& waits);
  void remove_producer(const std::shared_ptr<Producer>& producer);
  const std::unordered_map<std::string, std::shared_ptr<Producer>>& producers() const {
    return producers_;
  }
  size_t waiting_producers() const { return waiting_.size(); }
  // Why no further consumer is let in, if so. Readers count.
  std::optional<Refusal> over_consumers() const;
  // Whether it was unused for as long as its namespace's policy lets it be. To be asked now and
  // then: it remembers when it was last found in use.
  bool outlived();
  // It was unloaded or removed while somebody held on to it: nothing may be added any more.
  bool stopped() const { return gate_.closing(); }
  // Whether anybody is connected, or a durable subscription would be lost with it.
  bool in_use() const;
  // No message comes any more; consumers are told when they have read what is there.
  void terminate(std::function<void(const Result<void>&)> done);
  // Holds the backlog to the namespace's quota: while it is above, producers are disconnected and
  // refused. Reads the oldest message when its age counts.
  aio::Task<void> check_quota();
  const TopicPolicies& policies() const { return policies_; }
  void set_policies(const TopicPolicies& policies) { policies_ = policies; }

  // The highest sequence id stored of a producer of this name; -1 without deduplication.
  int64_t last_sequence_id(const std::string& producer) const;

  // Stores the entry and answers with a receipt, in order, once it is synced.
  void publish(const std::shared_ptr<Producer>& producer, const pb::CommandSend& send, Bytes entry);

  // ---- positions

  uint64_t first_index() const;                       // of what is still stored
  uint64_t end_index() const { return stored_end_; }  // after the last synced entry
  MessageId message_id(uint64_t index) const;
  // Of what lies before `index`: a mark-delete position. (first ledger, -1) before everything.
  MessageId before(uint64_t index) const;
  // Of what can be read; with `compacted` that begins before what is still stored.
  uint64_t first_readable(bool compacted) const;
  // The first readable index at or after the id (ledger and entry); earliest and latest included.
  uint64_t index_of(uint64_t ledger, uint64_t entry, bool compacted = false) const;
  // Nothing when no such entry was ever stored here.
  std::optional<uint64_t> exact_index(uint64_t ledger, uint64_t entry) const;
  // The id of the last synced entry; (last ledger, -1) when there is none.
  MessageId last_id() const;
  uint64_t backlog(const Cursor& cursor) const;
  // About how many bytes the entries from `index` on take on disk.
  uint64_t bytes_from(uint64_t index) const;
  // Where the slowest durable subscription is; the end if there is none.
  uint64_t slowest() const;

  // ---- reading

  // The entry if it is in memory.
  const TailEntry* in_tail(uint64_t index) const;
  // From disk; indexes that are gone are skipped. With `compacted` what lies before the horizon is
  // what compaction has left of it.
  aio::Task<Result<std::vector<TailEntry>>> read(uint64_t from, size_t entries_max,
                                                 size_t bytes_max, bool compacted = false);
  // Why the entry cannot be read, if it was tried: it is damaged on disk. Empty otherwise.
  std::string damage(uint64_t index) const;
  void note_damage(uint64_t index, std::string why) { damage_[index] = std::move(why); }
  // The first entry published at or after `time` (milliseconds since 1970).
  aio::Task<Result<uint64_t>> index_at(uint64_t time);

  // ---- subscriptions

  std::shared_ptr<Subscription> find(const std::string& subscription) const;
  // Creates it, durable or not, at `from`; `done` when it is stored.
  std::shared_ptr<Subscription> create(const std::string& subscription, bool durable, uint64_t from,
                                       std::function<void(const Result<void>&)> done);
  // Calls back when the subscription is stored, which it may be already.
  void when_stored(const std::shared_ptr<Subscription>& subscription, Done done);
  // Forgets it and its position.
  void remove(const std::string& subscription, std::function<void(const Result<void>&)> done);
  const std::map<std::string, std::shared_ptr<Subscription>>& subscriptions() const {
    return subscriptions_;
  }

  // Ends subscriptions of readers that did not come back after a seek: those that were without a
  // consumer at the last call too.
  void forget_abandoned();
  // Lets go of entries that no subscription needs, by whole ledgers as Pulsar does.
  void trim();
  // The same with the present ledger closed: the disk is full.
  void make_room();

  // ---- compaction (compaction.h)

  CompactionState& compaction_state() { return compaction_; }
  // Appended since the last compaction, or since the topic was loaded.
  uint64_t uncompacted_bytes() const { return uncompacted_bytes_; }
  // The store to write to. Nothing is trimmed until one of the other two is called.
  storage::TopicId begin_compaction();
  // Readers see it when it is durable. `ledgers`: those that have entries in it.
  aio::Task<Result<void>> finish_compaction(Compacted made, std::set<uint64_t> ledgers);
  void abandon_compaction();

  // Disconnects everybody. Awaits running reads.
  aio::Task<void> stop();

 private:
  // What is remembered of one send until it is stored.
  struct Sent {
    uint64_t sequence_id = 0;
    std::optional<uint64_t> highest_sequence_id;
    std::optional<uint64_t> mark;  // what deduplication remembers
    uint64_t index = 0;
    uint32_t messages = 1;
    size_t bytes = 0;  // as it was sent
    bool carries_record = false;
    std::shared_ptr<storage::Fence> fence;
  };
  struct Sequence {
    std::optional<uint64_t> pushed;
    std::optional<uint64_t> stored;
  };

  bool unused() const;
  aio::Task<Result<std::vector<TailEntry>>> read_store(storage::TopicId id, uint64_t from,
                                                       size_t entries_max, size_t bytes_max,
                                                       bool compacted);
  void stored(const std::shared_ptr<Producer>& producer, const Sent& sent, Bytes entry,
              const Result<void>& result);
  // True when the send was answered as a repeat.
  bool is_repeat(const std::shared_ptr<Producer>& producer, const pb::CommandSend& send,
                 uint64_t mark, size_t size);
  void refuse(const Producer& producer, uint64_t sequence_id, pb::ServerError code,
              std::string message, size_t size);
  void receipt(const Producer& producer, const Sent& sent, uint64_t ledger, uint64_t entry);
  std::optional<Refusal> over_quota() const;
  // The entry with what the broker notes of it, if it does.
  Bytes noted(const Bytes& entry, uint32_t messages);
  void become_exclusive(const std::shared_ptr<Producer>& producer, Done ready);
  void promote_waiting();
  void remember(TailEntry entry);
  void forget_tail(size_t keep_bytes);
  void roll_ledger();
  void store_record(Done done = nullptr);
  std::vector<storage::Change> record_changes() const;

  Shared& shared_;
  const wire::TopicName name_;
  const std::string text_;
  TopicRecord record_;
  aio::Gate gate_;
  uint64_t next_index_ = 0;  // of the next append
  uint64_t stored_end_ = 0;
  uint64_t unstored_ = 0;  // entries on their way into the log
  uint64_t trimmed_until_ = 0;
  size_t ledger_bytes_ = 0;
  bool too_old_ = false;  // the backlog, by its quota; see check_quota()
  // The topic's record could not be stored: entries are not to be relied upon before it is.
  bool record_unsaved_ = false;
  std::shared_ptr<storage::Fence> fence_ = std::make_shared<storage::Fence>();
  std::unordered_map<std::string, std::shared_ptr<Producer>> producers_;
  std::shared_ptr<Producer> exclusive_;
  std::deque<std::pair<std::shared_ptr<Producer>, Done>> waiting_;  // WaitForExclusive
  std::unordered_map<std::string, Sequence> sequences_;  // by producer, with deduplication
  TopicPolicies policies_;
  std::map<std::string, std::shared_ptr<Subscription>> subscriptions_;
  std::deque<TailEntry> tail_;
  size_t tail_bytes_ = 0;
  std::map<uint64_t, std::string> damage_;
  TopicCounters counters_;
  CompactionState compaction_;
  std::set<std::string> abandoned_;
  aio::TimePoint last_used_ = aio::Clock::now();
  uint64_t uncompacted_bytes_ = 0;
};

std::string cursor_key(storage::TopicId topic, const std::string& subscription);
std::string topic_key(const std::string& name);
std::string sequence_key(storage::TopicId topic, const std::string& producer);

}  // namespace hulse::broker

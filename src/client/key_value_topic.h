// KeyValueTopic: a map kept as a changelog on a topic. What the worker must remember lives in
// these: the same on the embedded broker and on a cluster, with rights to produce and consume only.
//
// A record is a keyed message; the newest wins, an empty one deletes. A durable subscription keeps
// the log; a snapshot republishes what lives, and the subscription moves behind what it replaces.
//
//   property   meaning
//   v          version the record gives its key; versions grow over the whole topic
//   r          version it replaces (0: none): applied only if the key has it
//   w, n       writer and its number: a record sent twice is applied once
//   snapshot   id of the snapshot it belongs to; `begin` and `end` in property `mark` enclose one
//
// The records of a snapshot are the state at its begin. Who reads from the start of the log takes
// the first complete snapshot and then everything behind its begin; without one, everything: then
// nothing has been trimmed. A snapshot without an end (its writer died) counts for nothing.
// A message without these properties creates its key if there is none, so that the first counts.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "client/producer.h"
#include "client/reader.h"

namespace hulse::client {

struct KeyValueOptions {
  std::string topic;
  std::string subscription = "hulse";  // the durable one
  size_t snapshot_updates_min = 1000;  // see snapshot_due()
};

// Lives on the client's strand. Closed before it is destroyed.
class KeyValueTopic : public std::enable_shared_from_this<KeyValueTopic> {
 public:
  // shared_from_this: its coroutines keep it.
  struct Value {
    std::string value;
    uint64_t version = 0;
  };
  using Map = std::map<std::string, Value>;

  // Reads the log to its present end; follows it from then on.
  static aio::Task<Result<std::shared_ptr<KeyValueTopic>>> open(Client& client,
                                                                KeyValueOptions options);
  ~KeyValueTopic();

  const Map& values() const { return state_.values; }
  const Value* find(const std::string& key) const;

  // Returns when the record is stored and applied here: with its version. With `replaces` (0: the
  // key must not exist) it fails with Code::busy when another one was first; nothing has changed
  // then.
  aio::Task<Result<uint64_t>> put(std::string key, std::string value);
  aio::Task<Result<uint64_t>> put(std::string key, std::string value, uint64_t replaces);
  aio::Task<Result<uint64_t>> remove(std::string key);
  aio::Task<Result<uint64_t>> remove(std::string key, uint64_t replaces);

  // Until everything that is stored now has been applied.
  aio::Task<Result<void>> refresh();
  // Notified when anything was applied, and at the end.
  aio::Event& changed() { return changed_; }
  // Why it follows the log no more, if so.
  const std::optional<Error>& failed() const { return failed_; }

  // Whether the updates since the last snapshot are more than max(snapshot_updates_min, 2 × keys).
  bool snapshot_due() const;
  // Writes one and moves the subscription. For one process at a time: whoever holds the lease. A
  // second one is no harm but work twice.
  aio::Task<Result<void>> snapshot();

  aio::Task<void> close();

 private:
  struct State {
    Map values;
    struct Writer {
      uint64_t number = 0;  // of its last record
      uint64_t seen = 0;    // when that was, counted in records
    };
    std::map<std::string, Writer> writers;
    uint64_t records = 0;
    uint64_t version = 0;  // the highest given
    // Remembers the record; false when it was seen before. Who wrote least lately is forgotten when
    // there are too many.
    bool note(const std::string& writer, uint64_t number);
  };
  struct Record {
    MessageId id;
    std::string key;
    std::string value;
    uint64_t version = 0;
    std::optional<uint64_t> replaces;
    std::string writer;
    uint64_t number = 0;
    std::string snapshot;
    std::string mark;
  };
  // A snapshot of which the end has not come; `behind` is where in log_ its begin stands.
  struct Open {
    State state;
    size_t behind = 0;
  };
  // Own records on their way to being applied: by their number.
  struct Waiting {
    std::optional<Result<uint64_t>> outcome;
  };
  // Our own snapshot: what its begin found.
  struct Begun {
    std::string id;
    std::optional<State> state;
    std::optional<MessageId> before;  // the last entry before it
  };

  KeyValueTopic(Client& client, KeyValueOptions options);
  aio::Task<Result<void>> start();
  aio::Task<void> follow();
  aio::Task<Result<void>> read_entry();
  void read(const Message& message);
  void collect(Record record);
  void end_collecting();
  void apply(const Record& record);
  Result<uint64_t> change(const Record& record);
  void mark(const Record& record);

  aio::Task<Result<uint64_t>> write(std::string key, std::string value,
                                    std::optional<uint64_t> replaces);
  aio::Task<Result<MessageId>> send(Record record);
  aio::Task<Result<void>> open_producer();
  aio::Task<Result<void>> trim(MessageId until);

  Client& client_;
  const KeyValueOptions options_;
  const std::string writer_ = random_hex(8);
  uint64_t number_ = 0;
  uint64_t version_given_ = 0;
  aio::Gate gate_;
  aio::Event changed_;
  std::optional<Error> failed_;
  std::unique_ptr<Reader> reader_;
  std::shared_ptr<Producer> producer_;

  State state_;
  size_t updates_ = 0;  // since the last snapshot's begin
  std::optional<MessageId> last_read_;
  std::map<uint64_t, Waiting> waiting_;
  std::optional<Begun> begun_;

  bool collecting_ = true;  // until the first complete snapshot or the end of the log
  std::deque<Record> log_;
  std::map<std::string, Open> open_snapshots_;
};

}  // namespace hulse::client

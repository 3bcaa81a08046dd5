// Records on their way into a sink, and what became of each.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/message.h"
#include "base/result.h"

namespace hulse::connect {

using Record = Message;

// What became of a record. The runtime retries, splits, dead-letters and counts: once, for every
// connector.
enum class Verdict : uint8_t {
  none,
  ok,         // the target has it durably
  retry,      // a passing trouble: back off and try this record again in place
  reject,     // this record can never succeed: dead letter, skip or stop, by policy
  reconnect,  // close, back off, open, and try again
  fatal,      // stop the instance and keep the reason
};

struct Outcome {
  Verdict verdict = Verdict::none;
  Error error;  // the target's own words; unused for ok
  // One answer for a batch of several records: which of them is to blame is not known.
  bool whole = false;
};

// The messages of one entry of a topic, which keep its buffers alive.
struct Records {
  std::string topic;  // full name, partition suffix included
  std::vector<Record> records;
  std::shared_ptr<const void> owner;
};

// Some records of one entry, handed to a sink for writing. Move-only; its record views are valid
// while it lives. Each record gets exactly one outcome, from any thread; when the last one is given
// (or the batch is destroyed, which makes the missing ones `retry`) all of them go back to the
// runtime.
class RecordBatch {
 public:
  // Called once, on the thread that gave the last outcome. Index i is record i of the batch.
  using Settled = std::function<void(std::vector<Outcome>)>;

  RecordBatch(std::shared_ptr<const Records> records, std::vector<uint32_t> chosen,
              Settled settled);
  RecordBatch(RecordBatch&& other) noexcept;
  RecordBatch& operator=(RecordBatch&& other) noexcept;
  ~RecordBatch();

  size_t size() const { return chosen_.size(); }
  const Record& operator[](size_t i) const { return records_->records[chosen_[i]]; }
  const std::string& topic() const { return records_->topic; }
  size_t value_bytes() const;

  // The first outcome of a record counts; a later one changes nothing.
  void ok(size_t i);
  void fail(size_t i, Verdict verdict, Error error);
  // For every record that has no outcome yet. A fail_all() before any other outcome says that the
  // target answered for the batch as a whole: the runtime tries its halves to find the record that
  // is to blame.
  void ok_all();
  void fail_all(Verdict verdict, const Error& error);

 private:
  struct State;
  bool give(size_t i, Verdict verdict, Error* error,
            bool whole = false);  // true when this one settled the batch
  void settle();
  void abandon();
  std::shared_ptr<const Records> records_;
  std::vector<uint32_t> chosen_;
  std::unique_ptr<State> state_;
};

}  // namespace hulse::connect

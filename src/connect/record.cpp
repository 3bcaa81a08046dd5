#include "connect/record.h"

#include "base/assert.h"

namespace hulse::connect {

// Outcomes of different records are written by different threads. Whoever claims a record writes
// its outcome; `left` orders all of them before the one who settles. A second outcome for a record
// touches its claim only, which stays where it is while the outcomes move on.
struct RecordBatch::State {
  State(size_t size, Settled callback)
      : claimed(std::make_unique<std::atomic<bool>[]>(size)),
        outcomes(size),
        left(size),
        settled(std::move(callback)) {}
  std::unique_ptr<std::atomic<bool>[]> claimed;
  std::vector<Outcome> outcomes;
  std::atomic<size_t> left;
  Settled settled;
};

RecordBatch::RecordBatch(std::shared_ptr<const Records> records, std::vector<uint32_t> chosen,
                         Settled settled)
    : records_(std::move(records)),
      chosen_(std::move(chosen)),
      state_(std::make_unique<State>(chosen_.size(), std::move(settled))) {
  for (const uint32_t index : chosen_) HULSE_ASSERT(index < records_->records.size());
}

RecordBatch::RecordBatch(RecordBatch&& other) noexcept = default;

RecordBatch& RecordBatch::operator=(RecordBatch&& other) noexcept {
  if (this == &other) return *this;
  abandon();
  records_ = std::move(other.records_);
  chosen_ = std::move(other.chosen_);
  state_ = std::move(other.state_);
  return *this;
}

RecordBatch::~RecordBatch() { abandon(); }

size_t RecordBatch::value_bytes() const {
  size_t bytes = 0;
  for (const uint32_t index : chosen_) bytes += records_->records[index].value.size();
  return bytes;
}

void RecordBatch::ok(size_t i) { give(i, Verdict::ok, nullptr); }

void RecordBatch::fail(size_t i, Verdict verdict, Error error) {
  HULSE_ASSERT(verdict != Verdict::none && verdict != Verdict::ok);
  give(i, verdict, &error);
}

// The callback may destroy this batch, so nothing of it is touched once give() has settled.
void RecordBatch::ok_all() {
  for (size_t i = 0, count = size(); i < count; ++i) {
    if (give(i, Verdict::ok, nullptr)) return;
  }
}

void RecordBatch::fail_all(Verdict verdict, const Error& error) {
  HULSE_ASSERT(verdict != Verdict::none && verdict != Verdict::ok);
  const bool whole = size() > 1 && state_->left.load(std::memory_order_acquire) == size();
  for (size_t i = 0, count = size(); i < count; ++i) {
    Error copy = error;
    if (give(i, verdict, &copy, whole)) return;
  }
}

bool RecordBatch::give(size_t i, Verdict verdict, Error* error, bool whole) {
  HULSE_ASSERT(state_ != nullptr && i < chosen_.size());
  if (state_->claimed[i].exchange(true, std::memory_order_relaxed)) return false;
  Outcome& outcome = state_->outcomes[i];
  outcome.verdict = verdict;
  outcome.whole = whole;
  if (error != nullptr) outcome.error = std::move(*error);
  if (state_->left.fetch_sub(1, std::memory_order_acq_rel) != 1) return false;
  settle();
  return true;
}

void RecordBatch::settle() {
  const Settled settled = std::exchange(state_->settled, nullptr);
  auto outcomes = std::move(state_->outcomes);
  if (settled) settled(std::move(outcomes));
}

void RecordBatch::abandon() {
  if (state_ == nullptr) return;  // moved from
  if (state_->left.load(std::memory_order_acquire) > 0) {
    fail_all(Verdict::retry,
             Error(Code::closed, "the sink let go of the record before it was written"));
  } else if (state_->settled) {
    settle();  // a batch without records
  }
  state_.reset();
}

}  // namespace hulse::connect

#include "connectors/netty/inbox.h"

#include <boost/asio/post.hpp>

namespace hulse::connectors::netty {
namespace {

// What batches that wait together are merged to.
constexpr size_t kMergedRecords = 1000;
constexpr size_t kMergedBytes = 128 * 1024;

}  // namespace

Inbox::Inbox(aio::Executor strand, const std::vector<aio::Executor>& loops, size_t bytes_max)
    : strand_(strand), bytes_max_(bytes_max), added_(strand) {
  for (const auto& loop : loops) slots_.push_back(std::make_shared<Slot>(loop));
}

// Many short records weigh more than their bytes.
size_t Inbox::weight(const connect::SourceBatch& batch) {
  return batch.bytes + batch.records.size() * sizeof(connect::SourceRecord);
}

// Says that it waits before it looks, as taken() makes room before it looks who waits: one of the
// two sees the other.
bool Inbox::needs_to_wait(Slot& slot) {
  if (bytes_.load() < bytes_max_) return false;
  slot.waiting.store(true);
  return bytes_.load() >= bytes_max_;
}

aio::Task<bool> Inbox::wait_for_room(size_t loop) {
  Slot& slot = *slots_[loop];
  while (needs_to_wait(slot)) {
    const bool woken = co_await slot.room.wait();
    if (!woken) co_return false;
  }
  co_return true;
}

aio::Task<bool> Inbox::wait_for_room_until(size_t loop, aio::TimePoint limit) {
  Slot& slot = *slots_[loop];
  while (needs_to_wait(slot)) {
    const bool woken = co_await slot.room.wait_until(limit);
    if (!woken) co_return false;
  }
  co_return true;
}

void Inbox::put(connect::SourceBatch batch) {
  bytes_.fetch_add(weight(batch));
  if (strand_.running_in_this_thread()) {
    add(std::move(batch));
    return;
  }
  aio::asio::post(strand_, [self = shared_from_this(), moved = std::move(batch)]() mutable {
    self->add(std::move(moved));
  });
}

void Inbox::add(connect::SourceBatch batch) {
  if (failure_) return;
  ready_.push_back(std::move(batch));
  added_.notify();
}

aio::Task<Result<connect::SourceBatch>> Inbox::take() {
  while (ready_.empty()) {
    if (failure_) co_return *failure_;
    const bool woken = co_await added_.wait();
    if (!woken && ready_.empty()) co_return Error(Code::cancelled, "stopped");
  }
  co_return merged();
}

connect::SourceBatch Inbox::merged() {
  auto first = std::move(ready_.front());
  ready_.pop_front();
  size_t weights = weight(first);
  const auto fits = [&] {
    return !ready_.empty() &&
           first.records.size() + ready_.front().records.size() <= kMergedRecords &&
           first.bytes + ready_.front().bytes <= kMergedBytes;
  };
  if (fits()) {
    const auto owners = std::make_shared<std::vector<std::shared_ptr<const void>>>();
    std::vector<std::function<void(const Result<void>&)>> told;
    owners->push_back(std::move(first.owner));
    if (first.stored) told.push_back(std::move(first.stored));
    while (fits()) {
      auto next = std::move(ready_.front());
      ready_.pop_front();
      weights += weight(next);
      first.records.insert(first.records.end(), next.records.begin(), next.records.end());
      first.bytes += next.bytes;
      owners->push_back(std::move(next.owner));
      if (next.stored) told.push_back(std::move(next.stored));
    }
    first.owner = owners;
    first.stored = nullptr;
    if (!told.empty()) {
      first.stored = [told = std::move(told)](const Result<void>& result) {
        for (const auto& tell : told) tell(result);
      };
    }
  }
  taken(weights);
  return first;
}

void Inbox::taken(size_t bytes) {
  const size_t left = bytes_.fetch_sub(bytes) - bytes;
  // Room for more than one batch, so that the loops do not wake for each.
  if (left > bytes_max_ / 4 * 3) return;
  for (const auto& slot : slots_) {
    if (!slot->waiting.exchange(false)) continue;
    aio::asio::post(slot->executor, [slot] { slot->room.notify(); });
  }
}

void Inbox::fail(Error why) {
  if (!failure_) failure_ = std::move(why);
  added_.notify();
}

size_t Inbox::drop() {
  fail(Error(Code::closed, "the source is closed"));
  size_t records = 0;
  for (const auto& batch : ready_) records += batch.records.size();
  ready_.clear();
  return records;
}

void Inbox::close() { closed_ = true; }

}  // namespace hulse::connectors::netty

// Inbox: what the loops have read and the instance has not taken yet. Bounded in bytes: when it is
// full the loops stop reading, so the senders' TCP windows close.
#pragma once

#include <atomic>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "aio/event.h"
#include "connect/source.h"

namespace hulse::connectors::netty {

// Made as a shared_ptr: what is on its way between threads keeps it alive. A loop is an executor
// that reads; it may be the strand itself.
class Inbox : public std::enable_shared_from_this<Inbox> {
 public:
  Inbox(aio::Executor strand, const std::vector<aio::Executor>& loops, size_t bytes_max);

  // On loop number `loop`. Waits while the inbox is full; false when cancelled.
  aio::Task<bool> wait_for_room(size_t loop);
  // The same until `limit`.
  aio::Task<bool> wait_for_room_until(size_t loop, aio::TimePoint limit);
  // From any loop. Never waits: whoever puts has waited for room before.
  void put(connect::SourceBatch batch);

  // On the strand. Waits for a batch; small ones that wait together come as one.
  aio::Task<Result<connect::SourceBatch>> take();
  // On the strand. take() gives `why` once nothing is left: the listener has failed.
  void fail(Error why);
  // On the strand. Drops what is left and what still comes; take() ends. Gives the number of
  // records that were left.
  size_t drop();
  // On the strand, after drop() and before the loops' threads end: nothing is posted to them any
  // more.
  void close();
  // On the strand, after the threads have ended and before their event loops are destroyed: lets go
  // of what belongs to them. A receipt may keep this object alive for longer.
  void forget_loops() { slots_.clear(); }

  // Runs `what` on a loop, unless the inbox is closed. Any thread.
  template <class F>
  void post(size_t loop, F what) {
    // By way of the strand: only there is it known whether the loop is still alive.
    aio::asio::dispatch(strand_,
                        [self = shared_from_this(), loop, moved = std::move(what)]() mutable {
                          if (!self->closed_)
                            aio::asio::post(self->slots_[loop]->executor, std::move(moved));
                        });
  }

 private:
  struct Slot {
    explicit Slot(aio::Executor where) : executor(where), room(where) {}
    aio::Executor executor;
    aio::Event room;
    std::atomic<bool> waiting{false};
  };

  static size_t weight(const connect::SourceBatch& batch);
  bool needs_to_wait(Slot& slot);
  void add(connect::SourceBatch batch);
  connect::SourceBatch merged();
  void taken(size_t bytes);

  aio::Executor strand_;
  std::vector<std::shared_ptr<Slot>> slots_;  // shared with wake-ups on their way
  size_t bytes_max_;
  std::atomic<size_t> bytes_{0};  // put and not taken

  // On the strand only.
  std::deque<connect::SourceBatch> ready_;
  std::optional<Error> failure_;
  aio::Event added_;

  bool closed_ = false;  // no post to a loop any more: its thread may be gone
};

}  // namespace hulse::connectors::netty

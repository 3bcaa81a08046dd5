// Channel<T>: a bounded queue between coroutines of one executor. Bounded by weight (bytes,
// usually): push waits while it is full, which is how back-pressure travels.
#pragma once

#include <deque>
#include <optional>
#include <utility>

#include "aio/event.h"
#include "aio/task.h"

namespace hulse::aio {

template <class T>
class Channel {
 public:
  Channel(Executor executor, size_t weight_max)
      : weight_max_(weight_max), changed_(executor), emptied_(executor) {}

  // False when the channel was closed or the caller cancelled; the item is gone then. An item
  // heavier than the whole channel passes when the channel is empty.
  Task<bool> push(T item, size_t weight) {
    while (!closed_ && !items_.empty() && weight_ + weight > weight_max_) {
      const bool woken = co_await emptied_.wait();
      if (!woken) co_return false;
    }
    if (closed_) co_return false;
    weight_ += weight;
    items_.emplace_back(std::move(item), weight);
    changed_.notify();
    co_return true;
  }

  // The next item; nothing when the channel is closed and empty, or the caller was cancelled.
  Task<std::optional<T>> pop() {
    while (items_.empty()) {
      if (closed_) co_return std::nullopt;
      const bool woken = co_await changed_.wait();
      if (!woken && items_.empty()) co_return std::nullopt;
    }
    co_return take();
  }
  std::optional<T> try_pop() {
    if (items_.empty()) return std::nullopt;
    return take();
  }

  // What is queued can still be popped.
  void close() {
    closed_ = true;
    changed_.notify();
    emptied_.notify();
  }

  bool closed() const { return closed_; }
  size_t size() const { return items_.size(); }
  size_t weight() const { return weight_; }

 private:
  std::optional<T> take() {
    std::optional<T> item(std::move(items_.front().first));
    weight_ -= items_.front().second;
    items_.pop_front();
    emptied_.notify();
    return item;
  }

  size_t weight_max_;
  size_t weight_ = 0;
  bool closed_ = false;
  std::deque<std::pair<T, size_t>> items_;
  Event changed_;
  Event emptied_;
};

}  // namespace hulse::aio

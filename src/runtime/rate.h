// Speeds: how fast something goes, and how fast it may. Both are told the time, so that tests move
// it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "aio/clock.h"

namespace hulse::runtime {

// How many a second there were lately: over the last ten whole seconds, or fewer if it is younger.
class Speed {
 public:
  void add(uint64_t amount, aio::TimePoint now) {
    move(now);
    counts_[static_cast<size_t>(second_) % kSlots] += amount;
  }
  double per_second(aio::TimePoint now) {
    move(now);
    const auto seconds = std::min<int64_t>(second_ - first_, kSlots - 1);
    if (seconds <= 0) return 0;
    uint64_t all = 0;
    // The present second is not over.
    for (int64_t i = 1; i <= seconds; ++i)
      all += counts_[static_cast<size_t>(second_ - i) % kSlots];
    return static_cast<double>(all) / static_cast<double>(seconds);
  }

 private:
  static constexpr int64_t kSlots = 11;
  void move(aio::TimePoint now) {
    const int64_t second =
        std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
    if (first_ < 0) first_ = second_ = second;
    const int64_t steps = std::min(second - second_, kSlots);
    for (int64_t i = 1; i <= steps; ++i) counts_[static_cast<size_t>(second_ + i) % kSlots] = 0;
    if (steps == kSlots) counts_.fill(0);
    second_ = std::max(second_, second);
  }
  int64_t first_ = -1;
  int64_t second_ = -1;
  std::array<uint64_t, kSlots> counts_{};
};

// Lets so many records and bytes a second through, on the whole: what came in one piece is paid for
// before the next piece. 0: no limit.
class RateLimit {
 public:
  RateLimit() = default;
  RateLimit(double records, double bytes) : records_(records), bytes_(bytes) {}

  bool limits() const { return records_ > 0 || bytes_ > 0; }
  double records() const { return records_; }
  double bytes() const { return bytes_; }

  void charge(uint64_t records, uint64_t bytes, aio::TimePoint now) {
    // What was not used is not saved up: a stop is not followed by a flood.
    free_at_ = std::max(free_at_, now) + std::max(cost(records, records_), cost(bytes, bytes_));
  }
  // How long to wait before the next piece.
  aio::Duration wait(aio::TimePoint now) const {
    return std::max<aio::Duration>(free_at_ - now, aio::Duration::zero());
  }

 private:
  static aio::Duration cost(uint64_t amount, double rate) {
    if (rate <= 0) return aio::Duration::zero();
    return std::chrono::duration_cast<aio::Duration>(
        std::chrono::duration<double>(static_cast<double>(amount) / rate));
  }
  double records_ = 0;
  double bytes_ = 0;
  aio::TimePoint free_at_{};
};

}  // namespace hulse::runtime

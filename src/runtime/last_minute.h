// LastMinute: what has been counted in the last minute, from samples every few seconds.
#pragma once

#include <deque>

#include "aio/clock.h"
#include "runtime/status.h"

namespace hulse::runtime {

// Lives with the counters it looks at.
class LastMinute {
 public:
  // Call it about every second.
  void note(aio::TimePoint now, const Counters& counters, const Latency& latency) {
    if (!samples_.empty() && now - samples_.back().at < kEvery) return;
    while (!samples_.empty() && now - samples_.front().at > kMinute) samples_.pop_front();
    samples_.push_back({now, {counters.received, counters.written, counters.failures, latency}});
  }

  Recent since(aio::TimePoint now, const Counters& counters, const Latency& latency) const {
    for (const auto& sample : samples_) {
      if (now - sample.at > kMinute + kEvery) continue;
      const auto& then = sample.counted;
      return {counters.received - then.received,
              counters.written - then.written,
              counters.failures - then.failures,
              {latency.records - then.latency.records, latency.total - then.latency.total}};
    }
    return {};
  }

 private:
  static constexpr auto kEvery = std::chrono::seconds(5);
  static constexpr auto kMinute = std::chrono::seconds(60);
  struct Sample {
    aio::TimePoint at;
    Recent counted;  // since ever
  };
  std::deque<Sample> samples_;
};

}  // namespace hulse::runtime

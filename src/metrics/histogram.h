// Histogram: how often values lay below each of some bounds, as Prometheus counts them.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace hulse::metrics {

// Copied freely; filled by one thread.
class Histogram {
 public:
  // `bounds` are literals that grow; above the last there is +Inf.
  explicit Histogram(std::span<const double> bounds)
      : bounds_(bounds), counts_(bounds.size() + 1) {}

  void observe(double value) {
    size_t at = 0;
    while (at < bounds_.size() && value > bounds_[at]) ++at;
    ++counts_[at];
    sum_ += value;
  }

  std::span<const double> bounds() const { return bounds_; }
  // Of each bound by itself, not added up; the last is +Inf's.
  const std::vector<uint64_t>& counts() const { return counts_; }
  double sum() const { return sum_; }
  uint64_t count() const {
    uint64_t all = 0;
    for (const uint64_t one : counts_) all += one;
    return all;
  }

 private:
  std::span<const double> bounds_;
  std::vector<uint64_t> counts_;
  double sum_ = 0;
};

inline constexpr std::array kSizeBounds = {1.0, 10.0, 100.0, 1000.0, 10'000.0, 100'000.0};
inline constexpr std::array kSecondsBounds = {0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0};

}  // namespace hulse::metrics

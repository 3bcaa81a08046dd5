// Backoff: how long to wait before the next try. Doubles with jitter up to a cap.
#pragma once

#include <random>

#include "aio/clock.h"

namespace hulse::aio {

struct BackoffPolicy {
  Duration initial = std::chrono::milliseconds(100);
  Duration max = std::chrono::seconds(60);
};

class Backoff {
 public:
  explicit Backoff(BackoffPolicy policy = {}) : policy_(policy), next_(policy.initial) {}

  // The wait before the next try: up to a tenth shorter than its step, so that many clients of one
  // server do not come back in step.
  Duration next();
  void reset() {
    next_ = policy_.initial;
    attempts_ = 0;
  }
  unsigned attempts() const { return attempts_; }

 private:
  BackoffPolicy policy_;
  Duration next_;
  unsigned attempts_ = 0;
};

}  // namespace hulse::aio

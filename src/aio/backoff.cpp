#include "aio/backoff.h"

namespace hulse::aio {

Duration Backoff::next() {
  // Jitter needs to differ between processes, not to be reproducible.
  thread_local std::minstd_rand random(std::random_device{}());
  const Duration step = next_;
  next_ = std::min(policy_.max, next_ * 2);
  ++attempts_;
  return step - Duration(static_cast<int64_t>(static_cast<double>(step.count()) * 0.1 *
                                              std::uniform_real_distribution<>()(random)));
}

}  // namespace hulse::aio

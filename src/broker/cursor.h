// Cursor: what of a topic one subscription has acknowledged. A value type; the subscription owns
// one and stores encode() of it. Positions are entry indexes of the topic (topic.h).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hulse::broker {

class Cursor {
 public:
  explicit Cursor(uint64_t acked_until = 0) : acked_until_(acked_until) {}

  // Everything before it is acknowledged: Pulsar's mark-delete position + 1.
  uint64_t acked_until() const { return acked_until_; }
  bool is_acked(uint64_t index) const;
  // The first index at or after `index` that is not acknowledged.
  uint64_t next_unacked(uint64_t index) const;

  // False when it was acknowledged before.
  bool ack(uint64_t index);
  // Everything before `index`. False when nothing changed.
  bool ack_until(uint64_t index);
  // Part of a batch: bit i of `remaining` set = message i is still unacknowledged (PulsarApi's
  // ack_set). When nothing remains the entry is acknowledged. False when nothing changed.
  bool ack_batch(uint64_t index, std::span<const int64_t> remaining);
  // What remains of a partly acknowledged batch; empty when it is whole.
  std::span<const int64_t> remaining(uint64_t index) const;

  // Back or forward to `index`: what follows it is unacknowledged.
  void reset(uint64_t index);

  // Acknowledged entries above acked_until(), and the ranges they are in.
  uint64_t acked_ahead() const { return acked_ahead_; }
  size_t ranges() const { return ranges_.size(); }

  std::string encode() const;
  static Result<Cursor> decode(std::string_view bytes);

 private:
  void absorb();

  uint64_t acked_until_ = 0;
  uint64_t acked_ahead_ = 0;
  std::map<uint64_t, uint64_t>
      ranges_;  // [first, second) above acked_until_, apart from each other
  std::map<uint64_t, std::vector<int64_t>> batches_;
};

}  // namespace hulse::broker

#include "broker/cursor.h"

#include <algorithm>

#include "base/bytes.h"

namespace hulse::broker {
namespace {
constexpr char kFormat = 1;
}

bool Cursor::is_acked(uint64_t index) const {
  if (index < acked_until_) return true;
  const auto after = ranges_.upper_bound(index);
  return after != ranges_.begin() && std::prev(after)->second > index;
}

uint64_t Cursor::next_unacked(uint64_t index) const {
  index = std::max(index, acked_until_);
  const auto after = ranges_.upper_bound(index);
  if (after != ranges_.begin() && std::prev(after)->second > index) return std::prev(after)->second;
  return index;
}

bool Cursor::ack(uint64_t index) {
  if (is_acked(index)) return false;
  batches_.erase(index);
  ++acked_ahead_;
  auto after = ranges_.upper_bound(index);
  uint64_t end = index + 1;
  if (after != ranges_.end() && after->first == end) {
    end = after->second;
    after = ranges_.erase(after);
  }
  if (after != ranges_.begin() && std::prev(after)->second == index) {
    std::prev(after)->second = end;
  } else {
    ranges_.emplace_hint(after, index, end);
  }
  absorb();
  return true;
}

void Cursor::absorb() {
  while (!ranges_.empty() && ranges_.begin()->first <= acked_until_) {
    const auto [first, end] = *ranges_.begin();
    acked_ahead_ -= end - first;
    acked_until_ = std::max(acked_until_, end);
    ranges_.erase(ranges_.begin());
  }
  batches_.erase(batches_.begin(), batches_.lower_bound(acked_until_));
}

bool Cursor::ack_until(uint64_t index) {
  if (index <= acked_until_) return false;
  // Ranges that begin before the new mark are counted out up to it; absorb() takes the rest.
  while (!ranges_.empty() && ranges_.begin()->first < index) {
    const auto [first, end] = *ranges_.begin();
    ranges_.erase(ranges_.begin());
    acked_ahead_ -= std::min(end, index) - first;
    if (end > index) {
      ranges_.emplace(index, end);
      break;
    }
  }
  acked_until_ = index;
  absorb();
  return true;
}

bool Cursor::ack_batch(uint64_t index, std::span<const int64_t> remaining) {
  if (is_acked(index)) return false;
  auto& left = batches_[index];
  bool changed = false;
  if (left.empty()) {
    left.assign(remaining.begin(), remaining.end());
    changed = true;
  } else {
    for (size_t i = 0; i < left.size(); ++i) {
      const int64_t kept = i < remaining.size() ? left[i] & remaining[i] : 0;
      changed = changed || kept != left[i];
      left[i] = kept;
    }
  }
  const bool whole = std::all_of(left.begin(), left.end(), [](int64_t word) { return word == 0; });
  if (whole) return ack(index);
  return changed;
}

std::span<const int64_t> Cursor::remaining(uint64_t index) const {
  const auto known = batches_.find(index);
  if (known == batches_.end()) return {};
  return known->second;
}

void Cursor::reset(uint64_t index) {
  acked_until_ = index;
  acked_ahead_ = 0;
  ranges_.clear();
  batches_.clear();
}

std::string Cursor::encode() const {
  std::string out(1, kFormat);
  put_varint(out, acked_until_);
  put_varint(out, ranges_.size());
  uint64_t last = acked_until_;
  for (const auto& [first, end] : ranges_) {
    put_varint(out, first - last);
    put_varint(out, end - first);
    last = end;
  }
  put_varint(out, batches_.size());
  for (const auto& [index, words] : batches_) {
    put_varint(out, index);
    put_varint(out, words.size());
    for (const int64_t word : words) put_varint(out, static_cast<uint64_t>(word));
  }
  return out;
}

Result<Cursor> Cursor::decode(std::string_view bytes) {
  const Error damaged(Code::corrupt, "a stored cursor is damaged");
  if (bytes.empty() || bytes.front() != kFormat) return damaged;
  bytes.remove_prefix(1);
  Cursor out;
  uint64_t count = 0;
  if (!get_varint(bytes, out.acked_until_) || !get_varint(bytes, count)) return damaged;
  uint64_t last = out.acked_until_;
  for (; count > 0; --count) {
    uint64_t gap = 0;
    uint64_t size = 0;
    if (!get_varint(bytes, gap) || !get_varint(bytes, size) || gap == 0 || size == 0)
      return damaged;
    out.ranges_[last + gap] = last + gap + size;
    out.acked_ahead_ += size;
    last += gap + size;
  }
  if (!get_varint(bytes, count)) return damaged;
  for (; count > 0; --count) {
    uint64_t index = 0;
    uint64_t words = 0;
    if (!get_varint(bytes, index) || !get_varint(bytes, words) || words > bytes.size())
      return damaged;
    auto& batch = out.batches_[index];
    for (; words > 0; --words) {
      uint64_t word = 0;
      if (!get_varint(bytes, word)) return damaged;
      batch.push_back(static_cast<int64_t>(word));
    }
  }
  return out;
}

}  // namespace hulse::broker

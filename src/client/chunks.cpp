#include "client/chunks.h"

#include <fmt/format.h>

#include <algorithm>

namespace hulse::client {
namespace {
constexpr size_t kDoneMax = 100;
}

DroppedChunks Chunks::drop(Map::iterator at, Error why) {
  bytes_ -= at->second.bytes.size();
  DroppedChunks dropped{std::move(at->second.parts), std::move(at->second.bytes), std::move(why)};
  open_.erase(at);
  return dropped;
}

void Chunks::clear() {
  open_.clear();
  done_.clear();
  bytes_ = 0;
}

Chunks::Outcome Chunks::add(const wire::pb::MessageMetadata& metadata, std::string_view payload,
                            Position position) {
  Outcome outcome;
  const int32_t id = metadata.chunk_id();
  const int32_t total = metadata.num_chunks_from_msg();
  const auto incomplete = [&](std::string what) {
    return Error(Code::corrupt, fmt::format("large message {}: {}", metadata.uuid(), what));
  };
  auto at = open_.find(metadata.uuid());
  if (at != open_.end() && at->second.total != total) {
    outcome.dropped.push_back(drop(at, incomplete("its chunks do not agree how many they are")));
    at = open_.end();
  }
  if (at != open_.end() && id == 0 && at->second.published != metadata.publish_time()) {
    outcome.dropped.push_back(drop(at, incomplete("its producer has begun another one instead")));
    at = open_.end();
  }
  if (at == open_.end()) {
    const bool known = std::any_of(done_.begin(), done_.end(), [&](const auto& done) {
      return done.first == metadata.uuid() && (id != 0 || done.second == metadata.publish_time());
    });
    if (known) {
      outcome.duplicate = true;
      return outcome;
    }
    if (id != 0) {
      outcome.dropped.push_back(
          {{position},
           std::string(payload),
           incomplete(fmt::format("chunk {} of {} came without those before it", id + 1, total))});
      return outcome;
    }
    at = open_.emplace(metadata.uuid(), Open{}).first;
    at->second.total = total;
    at->second.published = metadata.publish_time();
  }
  auto& open = at->second;
  open.parts.push_back(position);
  open.touched = aio::Clock::now();
  // Sent again by a producer that lost the receipt: the bytes are there.
  if (id < open.next) return outcome;
  if (id > open.next) {
    outcome.dropped.push_back(
        drop(at, incomplete(fmt::format("chunk {} of {} is missing", open.next + 1, total))));
    return outcome;
  }
  open.bytes += payload;
  bytes_ += payload.size();
  ++open.next;
  if (open.bytes.size() > limits_.bytes_max ||
      metadata.total_chunk_msg_size() > static_cast<int64_t>(limits_.bytes_max)) {
    outcome.dropped.push_back(drop(
        at, Error(Code::too_large,
                  fmt::format("large message {} has {} bytes, the limit is {}", metadata.uuid(),
                              metadata.total_chunk_msg_size(), limits_.bytes_max))));
    return outcome;
  }
  if (open.next == total) {
    open.parts.pop_back();
    bytes_ -= open.bytes.size();
    outcome.complete = Complete{std::move(open.bytes), std::move(open.parts)};
    if (done_.size() >= kDoneMax) done_.pop_front();
    done_.emplace_back(at->first, open.published);
    open_.erase(at);
    return outcome;
  }
  while (open_.size() > limits_.messages_max || bytes_ > limits_.bytes_max) {
    auto oldest = open_.begin();
    for (auto other = open_.begin(); other != open_.end(); ++other)
      if (other->second.touched < oldest->second.touched) oldest = other;
    const std::string uuid = oldest->first;
    outcome.dropped.push_back(
        drop(oldest, Error(Code::too_large,
                           fmt::format("large message {}: too many incomplete ones at once ({} of "
                                       "{} bytes are allowed)",
                                       uuid, limits_.messages_max, limits_.bytes_max))));
  }
  return outcome;
}

std::vector<DroppedChunks> Chunks::expire() {
  std::vector<DroppedChunks> dropped;
  const auto now = aio::Clock::now();
  for (auto at = open_.begin(); at != open_.end();) {
    const auto next = std::next(at);
    const auto& open = at->second;
    if (open.touched + limits_.age_max <= now) {
      const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(limits_.age_max);
      const Error why(Code::corrupt,
                      fmt::format("large message {}: {} of its {} chunks came, and "
                                  "nothing more for {} s",
                                  at->first, open.next, open.total, seconds.count()));
      dropped.push_back(drop(at, why));
    }
    at = next;
  }
  return dropped;
}

std::optional<Position> Chunks::first() const {
  std::optional<Position> first;
  for (const auto& [uuid, open] : open_)
    for (const auto& position : open.parts)
      if (!first || position < *first) first = position;
  return first;
}

}  // namespace hulse::client

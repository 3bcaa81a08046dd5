// Topic's entries: the tail in memory, positions and their ids, reading from disk.
#include "aio/offload.h"
#include "broker/subscription.h"
#include "wire/compaction.h"

namespace hulse::broker {
namespace {

constexpr uint64_t kEarliestPart = UINT64_MAX;  // MessageId earliest is (-1, -1)
constexpr uint64_t kLatestPart = INT64_MAX;     // and latest is (2^63-1, 2^63-1)

}  // namespace

// ---- the tail in memory

void Topic::remember(TailEntry entry) {
  tail_bytes_ += entry.entry.size();
  shared_.tail_bytes += entry.entry.size();
  tail_.push_back(std::move(entry));
  forget_tail(shared_.tail_bytes > shared_.tail_bytes_max ? tail_bytes_ / 2
                                                          : shared_.tail_topic_bytes_max);
}

void Topic::forget_tail(size_t keep_bytes) {
  while (!tail_.empty() && tail_bytes_ > keep_bytes) {
    tail_bytes_ -= tail_.front().entry.size();
    shared_.tail_bytes -= tail_.front().entry.size();
    tail_.pop_front();
  }
}

const TailEntry* Topic::in_tail(uint64_t index) const {
  if (tail_.empty() || index < tail_.front().index) return nullptr;
  const uint64_t guess = index - tail_.front().index;  // right unless there are holes
  if (guess < tail_.size() && tail_[guess].index == index) return &tail_[guess];
  const auto at = std::lower_bound(tail_.begin(), tail_.end(), index,
                                   [](const TailEntry& e, uint64_t i) { return e.index < i; });
  return at != tail_.end() && at->index == index ? &*at : nullptr;
}

// ---- positions

uint64_t Topic::first_index() const {
  return std::max(trimmed_until_, record_.ledgers.front().first_index);
}

uint64_t Topic::first_readable(bool compacted) const {
  return compacted && record_.compacted ? record_.ledgers.front().first_index : first_index();
}

MessageId Topic::message_id(uint64_t index) const {
  auto after =
      std::upper_bound(record_.ledgers.begin(), record_.ledgers.end(), index,
                       [](uint64_t i, const Ledger& ledger) { return i < ledger.first_index; });
  if (after != record_.ledgers.begin()) --after;
  return {static_cast<int64_t>(after->id), static_cast<int64_t>(index - after->first_index),
          name_.partition, -1};
}

MessageId Topic::before(uint64_t index) const {
  if (index == 0 || index <= record_.ledgers.front().first_index) {
    return {static_cast<int64_t>(record_.ledgers.front().id), -1, name_.partition, -1};
  }
  return message_id(index - 1);
}

std::optional<uint64_t> Topic::exact_index(uint64_t ledger, uint64_t entry) const {
  for (size_t i = 0; i < record_.ledgers.size(); ++i) {
    if (record_.ledgers[i].id != ledger) continue;
    const uint64_t end =
        i + 1 < record_.ledgers.size() ? record_.ledgers[i + 1].first_index : stored_end_;
    const uint64_t size = end - std::min(end, record_.ledgers[i].first_index);
    if (entry >= size) return std::nullopt;
    return record_.ledgers[i].first_index + entry;
  }
  return std::nullopt;
}

uint64_t Topic::index_of(uint64_t ledger, uint64_t entry, bool compacted) const {
  const uint64_t first = first_readable(compacted);
  if (ledger == kEarliestPart) return first;
  if (ledger >= kLatestPart) return stored_end_;
  for (size_t i = 0; i < record_.ledgers.size(); ++i) {
    const auto& at = record_.ledgers[i];
    if (at.id < ledger) continue;
    if (at.id > ledger) return std::max(first, at.first_index);
    const uint64_t end =
        i + 1 < record_.ledgers.size() ? record_.ledgers[i + 1].first_index : stored_end_;
    if (entry == kEarliestPart) return std::max(first, at.first_index);
    return std::max(first, std::min(end, at.first_index + std::min(entry, end)));
  }
  return stored_end_;
}

MessageId Topic::last_id() const {
  if (stored_end_ == 0 || stored_end_ <= first_index()) {
    return {static_cast<int64_t>(record_.ledgers.back().id), -1, name_.partition, -1};
  }
  return message_id(stored_end_ - 1);
}

uint64_t Topic::backlog(const Cursor& cursor) const {
  const uint64_t from = std::max(cursor.acked_until(), first_index());
  const uint64_t behind = stored_end_ - std::min(stored_end_, from);
  return behind - std::min(behind, cursor.acked_ahead());
}

uint64_t Topic::bytes_from(uint64_t index) const {
  return shared_.store.bytes_from(record_.id, index);
}

uint64_t Topic::slowest() const {
  uint64_t out = stored_end_;
  for (const auto& [name, subscription] : subscriptions_) {
    if (subscription->durable()) out = std::min(out, subscription->cursor().acked_until());
  }
  return std::max(out, first_index());
}

// ---- reading

aio::Task<Result<std::vector<TailEntry>>> Topic::read(uint64_t from, size_t entries_max,
                                                      size_t bytes_max, bool compacted) {
  while (compacted && record_.compacted && from < record_.compacted->horizon) {
    const auto before = *record_.compacted;
    auto entries = co_await read_store(before.id, from, entries_max, bytes_max, true);
    // Another compaction may have taken this one's place, and its entries, meanwhile.
    if (!record_.compacted || record_.compacted->id != before.id) continue;
    if (!entries || !entries->empty()) co_return entries;
    from = before.horizon;
  }
  auto entries = co_await read_store(record_.id, from, entries_max, bytes_max, false);
  co_return entries;
}

aio::Task<Result<std::vector<TailEntry>>> Topic::read_store(storage::TopicId id, uint64_t from,
                                                            size_t entries_max, size_t bytes_max,
                                                            bool compacted) {
  auto stored = co_await aio::offload(shared_.disk,
                                      [&store = shared_.store, id, from, entries_max, bytes_max] {
                                        return store.read(id, from, entries_max, bytes_max);
                                      });
  if (!stored) co_return stored.error().with(text_);
  std::vector<TailEntry> out;
  for (auto& entry : *stored) {
    // What was written but is not synced yet is nobody's business.
    if (entry.index >= stored_end_) break;
    const auto metadata = wire::parse_metadata(entry.payload.view());
    if (!metadata) {
      co_return metadata.error().with(
          fmt::format("{}, message {}", text_, message_id(entry.index).text()));
    }
    out.push_back({entry.index, std::move(entry.payload),
                   static_cast<uint32_t>(std::max(1, metadata->num_messages_in_batch()))});
  }
  if (compacted) {
    // Clients are told which messages of a batch are left: not all know the mark in the batch.
    out = co_await aio::offload(shared_.disk, [entries = std::move(out)]() mutable {
      for (auto& entry : entries) {
        if (entry.messages > 1) entry.present = wire::present_messages(entry.entry);
      }
      return std::move(entries);
    });
  }
  co_return out;
}

std::string Topic::damage(uint64_t index) const {
  const auto known = damage_.find(index);
  return known == damage_.end() ? std::string() : known->second;
}

aio::Task<Result<uint64_t>> Topic::index_at(uint64_t time) {
  uint64_t low = first_index();
  uint64_t high = stored_end_;
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    const auto found = co_await read(middle, 1, 1);
    if (!found) co_return found.error();
    if (found->empty() || found->front().index >= high) {
      high = middle;
      continue;
    }
    const auto metadata = wire::parse_metadata(found->front().entry.view());
    if (!metadata) co_return metadata.error().with(text_);
    if (wire::publish_time(found->front().entry.view(), *metadata) >= time) {
      high = middle;
    } else {
      low = found->front().index + 1;
    }
  }
  co_return low;
}

}  // namespace hulse::broker

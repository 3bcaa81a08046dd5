#include "storage/damage.h"

#include <algorithm>

namespace hulse::storage {

LossFinder::Last& LossFinder::last_of(uint64_t topic) {
  const auto [at, made] = last_.try_emplace(topic);
  if (made) at->second.end = end_before_(topic);
  return at->second;
}

void LossFinder::found(const Record& record) {
  if (record.kind != RecordKind::entry) return;
  auto& last = last_of(record.topic);
  // Only gaps around damage are of interest; a failed write leaves others.
  const bool damage_between = !losses_.empty() && losses_.back().where.end > last.offset;
  if (damage_between && record.index > last.end && last.end > 0) {
    gaps_.push_back({record.topic, last.end, record.index, last.offset, record.offset});
  }
  last = {record.index + 1, record.offset};
}

void LossFinder::damaged(const Damage& damage) {
  Loss loss{.where = damage};
  // The next entry of a topic that may have no later one: no gap will tell. A gap that does tell
  // replaces this.
  const bool next_of_topic = !damage.header_only && damage.kind == RecordKind::entry &&
                             damage.topic != 0 && damage.index >= last_of(damage.topic).end;
  if (next_of_topic) loss.entries.push_back({damage.topic, damage.index});
  losses_.push_back(std::move(loss));
}

std::vector<Loss> LossFinder::finish() {
  const auto in = [](const Gap& gap, const Damage& damage) {
    return gap.begin_offset < damage.begin && damage.end <= gap.end_offset;
  };
  // What a header says is believed when a gap agrees, or when nothing speaks against it.
  for (auto& loss : losses_) {
    if (loss.entries.empty()) continue;
    const auto [topic, index] = loss.entries.front();
    const auto gap = std::find_if(gaps_.begin(), gaps_.end(), [&](const Gap& g) {
      return g.topic == topic && in(g, loss.where) && index >= g.next && index < g.end;
    });
    if (gap != gaps_.end()) {
      if (index == gap->next) {
        ++gap->next;
      } else if (index + 1 == gap->end) {
        --gap->end;
      } else {
        gaps_.push_back({topic, index + 1, gap->end, gap->begin_offset, gap->end_offset});
        const auto before = std::find_if(gaps_.begin(), gaps_.end(), [&](const Gap& g) {
          return g.topic == topic && index >= g.next && index < g.end;
        });
        before->end = index;
      }
    } else if (!loss.where.sure && (last_.at(topic).offset > loss.where.end ||
                                    end_before_(topic) + last_.at(topic).offset == 0)) {
      // Later entries of the topic leave no room for it, or nobody knows the topic.
      loss.entries.clear();
    }
  }
  // What is missing still lay in whatever damage there is in its place.
  for (auto& loss : losses_) {
    if (loss.where.header_only || (loss.where.one_record && !loss.entries.empty())) continue;
    for (auto& gap : gaps_) {
      if (!in(gap, loss.where)) continue;
      for (; gap.next < gap.end; ++gap.next) {
        loss.entries.push_back({gap.topic, gap.next});
        if (loss.where.one_record) break;
      }
      if (gap.next < gap.end) ++gap.next;
      if (loss.where.one_record && !loss.entries.empty()) break;
    }
  }
  for (auto& loss : losses_) {
    if (loss.where.header_only) continue;
    const bool only_a_trim = loss.where.one_record && loss.where.kind == RecordKind::trim &&
                             loss.where.end - loss.where.begin == kRecordHeaderSize;
    loss.changes = !only_a_trim && !(loss.where.one_record && !loss.entries.empty());
  }
  return std::move(losses_);
}

}  // namespace hulse::storage

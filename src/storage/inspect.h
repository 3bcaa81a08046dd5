// What a data directory holds and whether it is whole, while no broker uses it. Used by
// `hulse storage`. Blocking; each takes the directory's lock.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace hulse::storage {

struct Finding {
  std::string where;              // file, and bytes in it
  std::vector<std::string> lost;  // each a topic, ledger and entry, or words
};

struct CheckReport {
  uint64_t segments = 0;
  uint64_t bytes = 0;
  uint64_t records = 0;
  std::vector<Finding> damage;
  std::vector<std::string> notes;  // what is no damage: the unfinished write of a crash
  std::string kept;                // where salvage put the damaged files as they were
};

// Reads every record of every segment and every table, and compares checksums.
Result<CheckReport> check(const std::string& path);

// As check, and then leaves a directory that opens: what is damaged is skipped for good. The
// files as they were stay in `damaged/`. Tables that are damaged are an error: they come back with
// a backup only.
Result<CheckReport> salvage(const std::string& path);

struct SubscriptionStat {
  std::string name;
  uint64_t pinned_bytes = 0;  // what the log keeps for it
};

struct TopicStat {
  std::string name;
  uint64_t entries = 0;  // that are kept; as many as the indexes say
  uint64_t bytes = 0;
  std::vector<SubscriptionStat> subscriptions;
};

struct StatReport {
  uint64_t segments = 0;
  uint64_t bytes = 0;       // of all segments
  uint64_t live_bytes = 0;  // of entries that are kept
  std::vector<TopicStat> topics;
};

// Opens the directory as a broker would (so it recovers) and closes it again.
Result<StatReport> stat(const std::string& path);

}  // namespace hulse::storage

// What a damaged stretch of a segment held, from what lies around it. Internal.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "storage/log_format.h"

namespace hulse::storage {

struct Loss {
  Damage where;
  std::vector<Named> entries;  // that lie in it, by topic and index
  // It may have held changes of keys: topics, subscriptions, their positions.
  bool changes = false;
};

// For a segment that no index knows yet: the indexes of a topic's entries are dense but for writes
// that failed, so what is missing between two of them lay where the damage is. Fed in the order of
// a scan.
class LossFinder {
 public:
  // `end_before`: where the topic's entries of earlier segments end; 0 for a topic without any.
  explicit LossFinder(std::function<uint64_t(uint64_t topic)> end_before)
      : end_before_(std::move(end_before)) {}

  void found(const Record& record);
  void damaged(const Damage& damage);
  std::vector<Loss> finish();

 private:
  struct Gap {
    uint64_t topic = 0;
    uint64_t next = 0;  // the first missing index
    uint64_t end = 0;   // after the last
    uint64_t begin_offset = 0;
    uint64_t end_offset = 0;
  };
  struct Last {
    uint64_t end = 0;  // index after it
    uint64_t offset = 0;
  };
  Last& last_of(uint64_t topic);

  std::function<uint64_t(uint64_t)> end_before_;
  std::unordered_map<uint64_t, Last> last_;
  std::vector<Gap> gaps_;
  std::vector<Loss> losses_;
};

}  // namespace hulse::storage

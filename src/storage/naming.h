// Names for what the log only numbers. Reads the little of the broker's own records that naming
// takes: the topics' ids and ledgers, and how far subscriptions have acknowledged
// (broker/topic.cpp, broker/cursor.cpp). For messages and tools, not for decisions.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "storage/tables.h"

namespace hulse::storage {

class Naming {
 public:
  struct Subscription {
    std::string name;
    uint64_t acked_until = 0;
  };
  struct Topic {
    std::string name;
    std::vector<std::pair<uint64_t, uint64_t>> ledgers;  // id, first index
    std::vector<Subscription> subscriptions;
  };

  static Result<Naming> load(const Tables& tables);
  // A change that the tables have not seen.
  void note(std::string_view key, std::optional<std::string_view> value);

  // "persistent://public/default/orders, message 12:5"; the ids of the log for a topic that is
  // not there any more.
  std::string text(uint64_t topic, uint64_t index) const;
  const Topic* find(uint64_t topic) const;
  const std::map<uint64_t, Topic>& topics() const { return topics_; }

 private:
  std::map<uint64_t, Topic> topics_;
};

}  // namespace hulse::storage

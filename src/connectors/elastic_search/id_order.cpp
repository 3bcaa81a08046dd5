#include "connectors/elastic_search/id_order.h"

#include <algorithm>

namespace hulse::connectors::elastic_search {
namespace {

// A record that has not come back for so long is not tried any more: it went to the dead letters.
// Far above the longest pause between two tries.
constexpr aio::Duration kGivenUp = std::chrono::minutes(5);

}  // namespace

bool IdOrder::may_go(const std::string& id, const Place& place) {
  if (waiting_.empty()) return true;
  const auto found = waiting_.find(id);
  if (found == waiting_.end()) return true;
  auto& list = found->second;
  const auto now = aio::Clock::now();
  const auto own = std::find_if(list.begin(), list.end(),
                                [&](const Entry& entry) { return entry.place == place; });
  if (own == list.end()) {
    list.push_back({place, now});
  } else {
    own->seen = now;
  }
  while (now - list.front().seen > kGivenUp) list.pop_front();
  return list.front().place == place;
}

void IdOrder::failed(const std::string& id, const Place& place) {
  auto& list = waiting_[id];
  if (!list.empty() && list.front().place == place) {
    list.front().seen = aio::Clock::now();
  } else {
    list.push_front({place, aio::Clock::now()});
  }
}

void IdOrder::settled(const std::string& id, const Place& place) {
  if (waiting_.empty()) return;
  const auto found = waiting_.find(id);
  if (found == waiting_.end()) return;
  std::erase_if(found->second, [&](const Entry& entry) { return entry.place == place; });
  if (found->second.empty()) waiting_.erase(found);
}

}  // namespace hulse::connectors::elastic_search

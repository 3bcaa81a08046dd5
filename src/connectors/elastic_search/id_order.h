// IdOrder: keeps the changes of one document in order when one of them has to be tried again. Where
// ids are the user's, a later change must not overtake an earlier one that waits for its next try,
// or the older value would stay.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>

#include "aio/clock.h"
#include "base/ids.h"

namespace hulse::connectors::elastic_search {

// Holds nothing about ids of which nothing waits. Lives on the sink's strand.
class IdOrder {
 public:
  struct Place {
    std::string topic;
    MessageId message;
    friend bool operator==(const Place&, const Place&) = default;
  };

  // Whether this change may go now. If not, it is remembered, in the order of asking, and gets its
  // turn when what is before it has settled.
  bool may_go(const std::string& id, const Place& place);
  // A change that went has to be tried again: it is the first of its id from now on.
  void failed(const std::string& id, const Place& place);
  // It is written, or given up.
  void settled(const std::string& id, const Place& place);

  bool empty() const { return waiting_.empty(); }

 private:
  struct Entry {
    Place place;
    aio::TimePoint seen;  // when it came last
  };
  std::unordered_map<std::string, std::deque<Entry>> waiting_;
};

}  // namespace hulse::connectors::elastic_search

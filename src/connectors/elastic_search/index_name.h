// Names of indices: fixed, with a date of the record, or made from the topic's name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hulse::connectors::elastic_search {

class IndexName {
 public:
  // "logs-%{+yyyy.MM.dd}". Fails with what Elasticsearch would not take.
  static Result<IndexName> parse(std::string_view text);

  bool has_date() const { return parts_.size() != 1 || parts_[0].date; }
  // The name of a record's index, by its event time (milliseconds since 1970, UTC).
  std::string at(int64_t event_time) const;

 private:
  struct Part {
    bool date = false;
    std::string text;  // as it is, or a pattern of java.time
  };
  std::vector<Part> parts_;
};

// The default: the topic's local name in small letters, cut to 255 bytes. Fails for a name that
// cannot be an index.
Result<std::string> index_of_topic(std::string_view topic);

}  // namespace hulse::connectors::elastic_search

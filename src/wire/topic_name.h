// Topic names: {persistent|non-persistent}://tenant/namespace/local[-partition-N].
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hulse::wire {

struct TopicName {
  std::string domain = "persistent";
  std::string tenant;
  std::string name_space;
  std::string local;   // partition suffix included
  int partition = -1;  // from the suffix; "-partition-01" is no suffix but an ordinary name

  // Accepts the short forms `x` (public/default) and `tenant/namespace/x`.
  static Result<TopicName> parse(std::string_view text);

  std::string text() const { return domain + "://" + tenant + "/" + name_space + "/" + local; }
  std::string namespace_text() const { return tenant + "/" + name_space; }
  // The topic this is a partition of; itself otherwise.
  TopicName base() const;
  TopicName partition_of(int index) const;
  bool persistent() const { return domain == "persistent"; }
};

// What a client remembers a list of topics by (topics_hash): CRC32C of the names, sorted and joined
// by commas, its bytes as hex digits from the lowest on.
std::string topics_hash(std::vector<std::string> topics);

}  // namespace hulse::wire

// What Elasticsearch's answers mean.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "connect/record.h"

namespace hulse::connectors::elastic_search {

enum class Meaning : uint8_t {
  ok,
  malformed,  // this document will never be taken
  retry,
  fatal,
};

struct Judgement {
  Meaning meaning = Meaning::ok;
  std::string words;  // Elasticsearch's, unless ok
};

// One for each of the `count` items of a _bulk that was answered 200. Fails when the answer is not
// one for `count` items. Quick where it says that there are no errors.
Result<std::vector<Judgement>> judge_items(std::string_view answer, size_t count);

// Of an answer to a whole request, for a status that is not 2xx.
Judgement judge_request(unsigned status, std::string_view answer);

// Elasticsearch's own words in an error answer, short enough for a log line.
std::string words_of(std::string_view answer);

}  // namespace hulse::connectors::elastic_search

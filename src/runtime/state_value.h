// What stands in a state under a key, and the record of it on the state's topic: versioned JSON,
// readable with any Pulsar client.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hulse::runtime {

struct StateValue {
  std::optional<int64_t> number;  // a counter; otherwise there are bytes
  std::string bytes;

  // A number as eight bytes, the highest first.
  std::string as_bytes() const;
  // Eight bytes count as a number, too. Code::invalid for others.
  Result<int64_t> as_number() const;

  // {"v":1,"number":5}, {"v":1,"text":"…"}, or {"v":1,"base64":"…"} for what is no text.
  std::string encode() const;
  static Result<StateValue> decode(std::string_view text);  // Code::corrupt
};

}  // namespace hulse::runtime

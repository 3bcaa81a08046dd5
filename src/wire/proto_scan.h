// Walking protobuf by hand, without building messages: for the few places that are hot.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/bytes.h"

namespace hulse::wire {

// The tag of a field: its number and wire type (0 varint, 1 fixed64, 2 length-delimited, 5
// fixed32).
constexpr uint64_t tag_of(unsigned number, unsigned type) { return uint64_t{number} << 3 | type; }

// Each takes its value off the front of `in`; false when `in` ends within it.
inline bool take_text(std::string_view& in, std::string_view& text) {
  uint64_t size = 0;
  if (!get_varint(in, size) || size > in.size()) return false;
  text = in.substr(0, size);
  in.remove_prefix(size);
  return true;
}

// The value that follows `tag`, whatever it is.
inline bool skip_field(std::string_view& in, uint64_t tag) {
  uint64_t ignored = 0;
  std::string_view text;
  switch (tag & 7) {
    case 0: return get_varint(in, ignored);
    case 1:
      if (in.size() < 8) return false;
      in.remove_prefix(8);
      return true;
    case 2: return take_text(in, text);
    case 5:
      if (in.size() < 4) return false;
      in.remove_prefix(4);
      return true;
    default: return false;
  }
}

}  // namespace hulse::wire

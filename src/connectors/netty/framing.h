// How bytes of a stream become records: pure functions over what has been read.
#pragma once

#include <string_view>
#include <vector>

#include "connect/source.h"

namespace hulse::connectors::netty {

using Records = std::vector<connect::SourceRecord>;

struct Split {
  size_t consumed = 0;  // of `data`; what is left is the beginning of the next message
  bool too_large =
      false;  // the next message is above the limit; what was before it is in the records
};

// Appends the complete lines of `data`, without LF or CR LF. The first `scanned` bytes are known to
// hold no newline. A line may have `bytes_max` bytes.
Split split_lines(std::string_view data, size_t scanned, size_t bytes_max, Records& records);

// Appends the complete messages of `data`, each behind its big-endian length of `width` bytes.
Split split_lengths(std::string_view data, size_t width, size_t bytes_max, Records& records);

// A line without the CR of its CR LF.
std::string_view without_cr(std::string_view line);

}  // namespace hulse::connectors::netty

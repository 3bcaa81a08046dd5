#include "connectors/netty/framing.h"

#include <cstring>

namespace hulse::connectors::netty {

std::string_view without_cr(std::string_view line) {
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

Split split_lines(std::string_view data, size_t scanned, size_t bytes_max, Records& records) {
  const char* const end = data.data() + data.size();
  const char* line = data.data();
  const char* from = line + scanned;
  Split split;
  while (from < end) {
    const auto* newline =
        static_cast<const char*>(std::memchr(from, '\n', static_cast<size_t>(end - from)));
    if (newline == nullptr) break;
    const auto text = without_cr({line, static_cast<size_t>(newline - line)});
    if (text.size() > bytes_max) {
      split.too_large = true;
      break;
    }
    records.push_back({.value = text});
    line = from = newline + 1;
  }
  split.consumed = static_cast<size_t>(line - data.data());
  // The CR of an end that has not come yet does not count.
  if (data.size() - split.consumed > bytes_max + 1) split.too_large = true;
  return split;
}

Split split_lengths(std::string_view data, size_t width, size_t bytes_max, Records& records) {
  Split split;
  while (data.size() - split.consumed >= width) {
    const char* at = data.data() + split.consumed;
    size_t length = 0;
    for (size_t i = 0; i < width; ++i) length = length << 8 | static_cast<uint8_t>(at[i]);
    if (length > bytes_max) {
      split.too_large = true;
      return split;
    }
    if (data.size() - split.consumed - width < length) return split;
    records.push_back({.value = std::string_view(at + width, length)});
    split.consumed += width + length;
  }
  return split;
}

}  // namespace hulse::connectors::netty

// Small text helpers that error messages and parsers share.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hulse {

// The candidate nearest to `word` by edit distance (letter case ignored), if it is near enough to
// be what was meant.
std::optional<std::string_view> nearest(std::string_view word,
                                        std::span<const std::string_view> candidates);

std::vector<std::string_view> split(std::string_view text, char separator);
std::string_view trim(std::string_view text);
std::string to_lower(std::string_view text);

// errno's own words.
std::string errno_text(int error);

// A JSON string literal for `text`, quotes included; bytes that are not UTF-8 become U+FFFD.
std::string json_quote(std::string_view text);

// Fails with the offending byte's offset unless `text` is well-formed UTF-8.
bool is_utf8(std::string_view text);

}  // namespace hulse

// Where in a topic a command begins: words for a time or a message.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"

namespace hulse::runtime {

// Milliseconds since 1970: "2026-11-25T10:00:00Z" (or +01:00, or a date alone), "90s", "10m",
// "2h", "3d" before `now_ms`, or such a number itself. Code::invalid.
Result<int64_t> parse_time(std::string_view text, int64_t now_ms);

// "2026-11-25T10:00:00.123Z"
std::string time_text(int64_t ms);

// "earliest", "latest", a message ("12:3", "12:3:-1", "12:3:-1:5") or a time.
struct Place {
  std::optional<MessageId> message;  // kEarliest, kLatest, or the message itself
  std::optional<int64_t> time_ms;
};
Result<Place> parse_place(std::string_view text, int64_t now_ms);

}  // namespace hulse::runtime

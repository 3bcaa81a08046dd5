#include "runtime/places.h"

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <vector>

#include "base/text.h"

namespace hulse::runtime {
namespace {

constexpr const char* kWords =
    "a time is 2026-11-25T10:00:00Z, 10m or 2h or 3d (ago), or milliseconds since 1970";

template <class Number>
std::optional<Number> number_in(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::optional<int64_t> ago(std::string_view text, int64_t now_ms) {
  if (text.size() < 2) return std::nullopt;
  const auto amount = number_in<int64_t>(text.substr(0, text.size() - 1));
  if (!amount || *amount < 0 || *amount > 1'000'000) return std::nullopt;
  switch (text.back()) {
    case 's': return now_ms - *amount * 1000;
    case 'm': return now_ms - *amount * 60'000;
    case 'h': return now_ms - *amount * 3'600'000;
    case 'd': return now_ms - *amount * 86'400'000;
    default: return std::nullopt;
  }
}

// The number of exactly `digits` digits in front of `text`, which is taken off.
std::optional<int> take_digits(std::string_view& text, size_t digits) {
  if (text.size() < digits) return std::nullopt;
  const auto number = number_in<int>(text.substr(0, digits));
  text.remove_prefix(digits);
  return number && *number >= 0 ? number : std::nullopt;
}

bool take(std::string_view& text, std::string_view what) {
  if (!text.starts_with(what)) return false;
  text.remove_prefix(what.size());
  return true;
}

// ISO 8601; without a zone it is UTC.
std::optional<int64_t> date(std::string_view text) {
  using namespace std::chrono;
  const auto y = take_digits(text, 4);
  if (!y || !take(text, "-")) return std::nullopt;
  const auto mo = take_digits(text, 2);
  if (!mo || !take(text, "-")) return std::nullopt;
  const auto d = take_digits(text, 2);
  if (!d) return std::nullopt;
  const year_month_day day(year(*y), month(static_cast<unsigned>(*mo)),
                           std::chrono::day(static_cast<unsigned>(*d)));
  if (!day.ok()) return std::nullopt;
  int64_t ms = duration_cast<milliseconds>(sys_days(day).time_since_epoch()).count();
  if (text.empty()) return ms;
  if (!take(text, "T") && !take(text, " ")) return std::nullopt;
  const auto h = take_digits(text, 2);
  if (!h || *h > 23 || !take(text, ":")) return std::nullopt;
  const auto mi = take_digits(text, 2);
  if (!mi || *mi > 59) return std::nullopt;
  ms += (*h * 60 + *mi) * int64_t{60'000};
  if (take(text, ":")) {
    const auto s = take_digits(text, 2);
    if (!s || *s > 60) return std::nullopt;
    ms += *s * int64_t{1000};
    if (take(text, ".")) {
      const auto digits = text.substr(0, text.find_first_not_of("0123456789"));
      if (digits.empty() || digits.size() > 9) return std::nullopt;
      std::string three(digits.substr(0, 3));
      three.resize(3, '0');
      ms += *number_in<int>(three);
      text.remove_prefix(digits.size());
    }
  }
  if (text.empty() || text == "Z") return ms;
  const bool east = text.starts_with('+');
  if (!take(text, "+") && !take(text, "-")) return std::nullopt;
  const auto zh = take_digits(text, 2);
  take(text, ":");
  const auto zm = text.empty() ? std::optional(0) : take_digits(text, 2);
  if (!zh || !zm || !text.empty()) return std::nullopt;
  return ms - (east ? 1 : -1) * (*zh * 60 + *zm) * int64_t{60'000};
}

std::optional<MessageId> message(std::string_view text) {
  const auto parts = split(text, ':');
  if (parts.size() < 2 || parts.size() > 4) return std::nullopt;
  std::vector<int64_t> numbers;
  for (const auto part : parts) {
    const auto number = number_in<int64_t>(part);
    if (!number || *number < -1) return std::nullopt;
    numbers.push_back(*number);
  }
  if (numbers[0] < 0 || numbers[1] < 0) return std::nullopt;
  MessageId id{.ledger = numbers[0], .entry = numbers[1]};
  if (numbers.size() > 2) id.partition = static_cast<int32_t>(numbers[2]);
  if (numbers.size() > 3) id.batch_index = static_cast<int32_t>(numbers[3]);
  return id;
}

}  // namespace

Result<int64_t> parse_time(std::string_view given, int64_t now_ms) {
  const auto text = trim(given);
  if (const auto found = ago(text, now_ms)) return *found;
  if (const auto found = date(text)) return *found;
  // A small number is more likely a mistake than the seventies.
  const auto number = number_in<int64_t>(text);
  if (number && *number > 1'000'000'000'000) return *number;
  return Error(Code::invalid, fmt::format("{} is no time; {}", json_quote(text), kWords));
}

std::string time_text(int64_t ms) {
  using namespace std::chrono;
  const sys_time<milliseconds> at{milliseconds(ms)};
  const auto day = floor<days>(at);
  const year_month_day date(day);
  const hh_mm_ss clock(at - day);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count(),
                     clock.subseconds().count());
}

Result<Place> parse_place(std::string_view given, int64_t now_ms) {
  const auto text = trim(given);
  const auto word = to_lower(text);
  if (word == "earliest") return Place{kEarliest, std::nullopt};
  if (word == "latest") return Place{kLatest, std::nullopt};
  if (const auto id = message(text)) return Place{*id, std::nullopt};
  const auto time = parse_time(text, now_ms);
  if (time) return Place{std::nullopt, *time};
  return Error(Code::invalid,
               fmt::format("{} is neither earliest, latest, a message (12:3) nor a time; {}",
                           json_quote(text), kWords));
}

}  // namespace hulse::runtime

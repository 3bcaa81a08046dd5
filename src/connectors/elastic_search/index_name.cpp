#include "connectors/elastic_search/index_name.h"

#include <fmt/format.h>

#include <chrono>
#include <optional>

#include "base/text.h"

namespace hulse::connectors::elastic_search {
namespace {

constexpr size_t kNameBytesMax = 255;
constexpr std::string_view kDateBegin = "%{+";

struct Moment {
  int year, month, day, hour, minute, second, milli;
};

Moment moment_of(int64_t ms) {
  namespace c = std::chrono;
  const c::sys_time<c::milliseconds> time{c::milliseconds(ms)};
  const auto day = c::floor<c::days>(time);
  const c::year_month_day date{day};
  const c::hh_mm_ss clock{time - day};
  return {int(date.year()),
          int(unsigned(date.month())),
          int(unsigned(date.day())),
          int(clock.hours().count()),
          int(clock.minutes().count()),
          int(clock.seconds().count()),
          int(clock.subseconds().count())};
}

// Takes one run of equal letters of a java.time pattern as its number; nothing for one we do not
// know.
std::optional<std::string> field_of(char letter, size_t length, const Moment& at) {
  const auto number = [&](int value) { return fmt::format("{:0{}}", value, length); };
  switch (letter) {
    case 'y':
    case 'u':
      if (length == 2) return fmt::format("{:02}", at.year % 100);
      if (length <= 4) return number(at.year);
      return std::nullopt;
    case 'M': return length <= 2 ? std::optional(number(at.month)) : std::nullopt;
    case 'd': return length <= 2 ? std::optional(number(at.day)) : std::nullopt;
    case 'H': return length <= 2 ? std::optional(number(at.hour)) : std::nullopt;
    case 'm': return length <= 2 ? std::optional(number(at.minute)) : std::nullopt;
    case 's': return length <= 2 ? std::optional(number(at.second)) : std::nullopt;
    case 'S': return length == 3 ? std::optional(number(at.milli)) : std::nullopt;
    default: return std::nullopt;
  }
}

// `pattern` filled in; nothing when it holds a letter we do not know.
std::optional<std::string> formatted(std::string_view pattern, const Moment& at) {
  std::string out;
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  for (size_t i = 0; i < pattern.size();) {
    const char c = pattern[i];
    if (c == '\'') {
      const size_t end = pattern.find('\'', i + 1);
      if (end == std::string_view::npos) return std::nullopt;
      out += pattern.substr(i + 1, end - i - 1);
      i = end + 1;
    } else if (is_letter(c)) {
      size_t length = 1;
      while (i + length < pattern.size() && pattern[i + length] == c) ++length;
      const auto field = field_of(c, length, at);
      if (!field) return std::nullopt;
      out += *field;
      i += length;
    } else {
      out += c;
      ++i;
    }
  }
  return out;
}

// Why Elasticsearch would not take `name`; empty when it would.
std::string fault_of(std::string_view name) {
  if (name.empty()) return "an index needs a name";
  if (name.size() > kNameBytesMax) return fmt::format("longer than {} bytes", kNameBytesMax);
  if (name == "." || name == "..") return "must not be . or ..";
  if (name.front() == '-' || name.front() == '_' || name.front() == '+') {
    return fmt::format("{} begins with one of - _ +, which Elasticsearch does not take", name);
  }
  for (const char c : name) {
    if (c >= 'A' && c <= 'Z') {
      return fmt::format("{} has capital letters, which Elasticsearch does not take", name);
    }
    if (static_cast<uint8_t>(c) <= ' ' ||
        std::string_view("\\/*?\"<>|,#:").find(c) != std::string_view::npos) {
      return fmt::format("{} has the character '{}', which Elasticsearch does not take", name, c);
    }
  }
  return {};
}

}  // namespace

Result<IndexName> IndexName::parse(std::string_view text) {
  IndexName name;
  std::string sample;  // with the dates of some day
  const Moment some_day = moment_of(0);
  while (!text.empty()) {
    const size_t begin = text.find(kDateBegin);
    if (begin != 0) {
      const auto fixed = text.substr(0, begin);
      name.parts_.push_back({false, std::string(fixed)});
      sample += fixed;
      text.remove_prefix(fixed.size());
      continue;
    }
    const size_t end = text.find('}');
    if (end == std::string_view::npos) return Error(Code::invalid, "%{+ has no } after it");
    const auto pattern = text.substr(kDateBegin.size(), end - kDateBegin.size());
    const auto date = formatted(pattern, some_day);
    if (pattern.empty() || !date) {
      return Error(
          Code::invalid,
          fmt::format("{} is not a date made of yyyy, MM, dd, HH, mm, ss and SSS", pattern));
    }
    name.parts_.push_back({true, std::string(pattern)});
    sample += *date;
    text.remove_prefix(end + 1);
  }
  const auto fault = fault_of(sample);
  if (!fault.empty()) return Error(Code::invalid, fault);
  return name;
}

std::string IndexName::at(int64_t event_time) const {
  std::string out;
  for (const auto& part : parts_) {
    out += part.date ? formatted(part.text, moment_of(event_time)).value_or("") : part.text;
  }
  return out;
}

Result<std::string> index_of_topic(std::string_view topic) {
  std::string name = to_lower(topic.substr(topic.find_last_of('/') + 1));
  if (name.size() > kNameBytesMax) name.resize(kNameBytesMax);
  const auto fault = fault_of(name);
  if (fault.empty()) return name;
  return Error(
      Code::invalid,
      fmt::format("the topic's name cannot be an index, so indexName has to be given: {}", fault));
}

}  // namespace hulse::connectors::elastic_search

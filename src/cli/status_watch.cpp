#include "cli/status_watch.h"

#include <fmt/format.h>

#include <boost/json.hpp>

namespace hulse::cli {
namespace {

namespace json = boost::json;

constexpr size_t kErrorBytesMax = 160;

// A reference into `from`, which therefore is a value: an object would be copied into one first.
// The value at a path of keys; null where there is none: an older server says less.
const json::value& at(const json::value& from, std::initializer_list<std::string_view> keys) {
  static const json::value kNothing = nullptr;
  const json::value* value = &from;
  for (const auto key : keys) {
    const auto* object = value->if_object();
    value = object == nullptr ? nullptr : object->if_contains(key);
    if (value == nullptr) return kNothing;
  }
  return *value;
}

std::string text(const json::value& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) return std::string(value.get_string());
  if (value.is_double()) return fmt::format("{}", value.get_double());
  return json::serialize(value);
}

std::string short_text(std::string words) {
  for (char& c : words) {
    if (c == '\n' || c == '\r' || c == '\x1b') c = ' ';
  }
  if (words.size() <= kErrorBytesMax) return words;
  return words.substr(0, kErrorBytesMax) + "…";
}

}  // namespace

std::string status_table(const std::string& title, const json::value& status) {
  constexpr const char* kRow = "{:>8}  {:<9} {:>10} {:>10} {:>9} {:>10} {:>12} {:>8} {:>8} {:>8}\n";
  std::string out = title + "\n";
  out += fmt::format(fmt::runtime(kRow), "instance", "state", "in/s", "out/s", "in flight", "lag",
                     "written", "dead", "retries", "restarts");
  std::string errors;
  const auto& instances = at(status, {"instances"});
  if (!instances.is_array()) return out;
  for (const auto& one : instances.get_array()) {
    const auto& own = at(one, {"status", "hulse"});
    const auto id = text(at(one, {"instanceId"}));
    out += fmt::format(fmt::runtime(kRow), id, text(at(own, {"state"})),
                       text(at(own, {"rates", "recordsInPerSecond"})),
                       text(at(own, {"rates", "recordsOutPerSecond"})), text(at(own, {"inFlight"})),
                       text(at(own, {"lag", "messages"})), text(at(own, {"written"})),
                       text(at(own, {"deadLettered"})), text(at(own, {"retries"})),
                       text(at(own, {"restarts"})));
    const auto& reason = at(own, {"reason"});
    if (reason.is_string() && !reason.get_string().empty()) {
      errors += fmt::format("  {}: {}\n", id, short_text(text(reason)));
      continue;
    }
    const auto& last = at(own, {"lastErrors"});
    if (last.is_array() && !last.get_array().empty()) {
      errors += fmt::format("  {}: last error: {}\n", id,
                            short_text(text(at(last.get_array().front(), {"text"}))));
    }
  }
  return out + errors;
}

}  // namespace hulse::cli

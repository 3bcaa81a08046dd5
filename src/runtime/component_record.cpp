#include "runtime/component_record.h"

#include <boost/json.hpp>

namespace hulse::runtime {
namespace {

namespace json = boost::json;

constexpr int64_t kVersion = 1;

Result<json::object> parse(std::string_view text) {
  boost::system::error_code error;
  auto parsed = json::parse(text, error);
  if (error || !parsed.is_object())
    return Error(Code::corrupt, fmt::format("not a record: {}", text.substr(0, 100)));
  const auto* version = parsed.get_object().if_contains("v");
  if (version == nullptr || !version->is_int64() || version->get_int64() != kVersion) {
    return Error(Code::corrupt,
                 "a record of another version: a later Hulse wrote it; use that one");
  }
  return std::move(parsed.get_object());
}

// One table for both directions.
constexpr std::pair<std::string_view, uint64_t Counters::*> kCounters[] = {
    {"received", &Counters::received},          {"written", &Counters::written},
    {"deadLettered", &Counters::dead_lettered}, {"skipped", &Counters::skipped},
    {"returned", &Counters::returned},          {"retries", &Counters::retries},
    {"inFlight", &Counters::in_flight},         {"restarts", &Counters::restarts},
    {"failures", &Counters::failures},
};

}  // namespace

std::string ComponentRecord::encode() const {
  json::object out{{"v", kVersion},
                   {"kind", connect::to_string(kind)},
                   {"config", config},
                   {"createdMs", created_ms},
                   {"modifiedMs", modified_ms}};
  json::array instances;
  for (const unsigned index : stopped) instances.emplace_back(index);
  out["stopped"] = std::move(instances);
  if (drop_subscription_ms) out["dropSubscriptionMs"] = *drop_subscription_ms;
  return json::serialize(out);
}

Result<ComponentRecord> ComponentRecord::decode(std::string_view text) {
  auto object = parse(text);
  if (!object) return object.error();
  const Error damaged(Code::corrupt, fmt::format("a damaged record: {}", text.substr(0, 100)));
  ComponentRecord record;
  const auto* kind = object->if_contains("kind");
  const auto* config = object->if_contains("config");
  if (kind == nullptr || config == nullptr || !config->is_object()) return damaged;
  if (*kind == "source") {
    record.kind = connect::Kind::source;
  } else if (*kind != "sink") {
    return damaged;
  }
  record.config = config->get_object();
  const auto number = [&](std::string_view key) {
    const auto* value = object->if_contains(key);
    return value != nullptr && value->is_int64() ? std::optional(value->get_int64()) : std::nullopt;
  };
  record.created_ms = number("createdMs").value_or(0);
  record.modified_ms = number("modifiedMs").value_or(0);
  record.drop_subscription_ms = number("dropSubscriptionMs");
  if (const auto* stopped = object->if_contains("stopped"); stopped && stopped->is_array()) {
    for (const auto& index : stopped->get_array()) {
      if (!index.is_int64() || index.get_int64() < 0) return damaged;
      record.stopped.insert(static_cast<unsigned>(index.get_int64()));
    }
  }
  return record;
}

std::string encode_counters(const Counters& counters) {
  json::object out{{"v", kVersion}};
  for (const auto& [name, member] : kCounters) out[name] = counters.*member;
  return json::serialize(out);
}

Result<Counters> decode_counters(std::string_view text) {
  const auto object = parse(text);
  if (!object) return object.error();
  Counters counters;
  for (const auto& [name, member] : kCounters) {
    const auto* value = object->if_contains(name);
    if (value == nullptr) continue;
    boost::system::error_code error;
    counters.*member = value->to_number<uint64_t>(error);
    if (error) return Error(Code::corrupt, fmt::format("a damaged record: {}", text));
  }
  return counters;
}

}  // namespace hulse::runtime

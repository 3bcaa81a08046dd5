#include "runtime/component_record.h"

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>

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
    {"received", &Counters::received},
    {"written", &Counters::written},
    {"deadLettered", &Counters::dead_lettered},
    {"skipped", &Counters::skipped},
    {"returned", &Counters::returned},
    {"retries", &Counters::retries},
    {"inFlight", &Counters::in_flight},
    {"restarts", &Counters::restarts},
    {"alreadyStored", &Counters::already_stored},
    {"failures", &Counters::failures},
};

Meters meters_of(const json::object& from) {
  const auto real = [&](std::string_view key) {
    const auto* value = from.if_contains(key);
    return value != nullptr && value->is_number() ? value->to_number<double>() : 0.0;
  };
  const auto whole = [&](std::string_view key) {
    return static_cast<uint64_t>(std::clamp(real(key), 0.0, 9e15));
  };
  Meters meters;
  meters.records_in = real("recordsIn");
  meters.records_out = real("recordsOut");
  meters.bytes_in = real("bytesIn");
  meters.records_limit = real("recordsLimit");
  meters.bytes_limit = real("bytesLimit");
  meters.limited_ms = whole("limitedMs");
  if (from.contains("lagMessages")) {
    meters.lag =
        Lag{whole("lagMessages"), whole("lagBytes"), static_cast<int64_t>(whole("lagAgeMs"))};
  }
  return meters;
}

json::object encode_latency(const Latency& latency) {
  return {{"records", static_cast<int64_t>(latency.records)}, {"ns", latency.total.count()}};
}

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
  json::object again;
  for (const auto& [index, count] : restarts) again[std::to_string(index)] = count;
  if (!again.empty()) out["restarts"] = std::move(again);
  if (!sealed.empty()) out["sealed"] = sealed;
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
  } else if (*kind == "function") {
    record.kind = connect::Kind::function;
  } else if (*kind != "sink") {
    return damaged;
  }
  record.config = config->get_object();
  if (const auto* sealed = object->if_contains("sealed")) {
    if (!sealed->is_string()) return damaged;
    record.sealed = std::string(sealed->get_string());
  }
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
  if (const auto* again = object->if_contains("restarts"); again && again->is_object()) {
    for (const auto& [index, count] : again->get_object()) {
      unsigned which = 0;
      const auto [end, failed] = std::from_chars(index.data(), index.data() + index.size(), which);
      boost::system::error_code error;
      const auto times = count.to_number<uint64_t>(error);
      if (failed != std::errc() || end != index.data() + index.size() || error) return damaged;
      record.restarts[which] = times;
    }
  }
  return record;
}

std::string InstanceRecord::encode() const {
  json::object out{{"v", kVersion},           {"worker", worker},
                   {"ended", ended},          {"state", to_string(status.state)},
                   {"reason", status.reason}, {"lastReceivedMs", status.last_received_ms}};
  for (const auto& [name, member] : kCounters) out[name] = status.counters.*member;
  json::array failures;
  for (const auto& failure : status.failures)
    failures.push_back(json::object{{"text", failure.text},
                                    {"atMs", failure.at_ms},
                                    {"topic", failure.topic},
                                    {"messageId", failure.message_id},
                                    {"attempt", failure.attempt},
                                    {"words", failure.words}});
  out["lastFailures"] = std::move(failures);
  // What workers show of each other's instances; the rest of it is on each one's own /metrics.
  const auto& meters = status.meters;
  json::object measured{{"recordsIn", meters.records_in},   {"recordsOut", meters.records_out},
                        {"bytesIn", meters.bytes_in},       {"recordsLimit", meters.records_limit},
                        {"bytesLimit", meters.bytes_limit}, {"limitedMs", meters.limited_ms}};
  if (meters.lag) {
    measured["lagMessages"] = meters.lag->messages;
    measured["lagBytes"] = meters.lag->bytes;
    measured["lagAgeMs"] = meters.lag->age_ms;
  }
  out["meters"] = std::move(measured);
  if (status.latency.records > 0) {
    out["processed"] = encode_latency(status.latency);
    const auto& minute = status.minute;
    out["minute"] = json::object{{"received", static_cast<int64_t>(minute.received)},
                                 {"written", static_cast<int64_t>(minute.written)},
                                 {"failures", static_cast<int64_t>(minute.failures)},
                                 {"processed", encode_latency(minute.latency)}};
  }
  return json::serialize(out);
}

Result<InstanceRecord> InstanceRecord::decode(std::string_view text) {
  const auto object = parse(text);
  if (!object) return object.error();
  const Error damaged(Code::corrupt, fmt::format("a damaged record: {}", text.substr(0, 100)));
  InstanceRecord record;
  // Records of the first versions hold counters only.
  const auto text_of = [](const json::object& from, std::string_view key) {
    const auto* value = from.if_contains(key);
    return value != nullptr && value->is_string() ? std::string(value->get_string())
                                                  : std::string();
  };
  const auto number_of = [](const json::object& from, std::string_view key) {
    const auto* value = from.if_contains(key);
    return value != nullptr && value->is_int64() ? value->get_int64() : 0;
  };
  record.worker = text_of(*object, "worker");
  const auto* ended = object->if_contains("ended");
  record.ended = ended == nullptr || !ended->is_bool() || ended->get_bool();
  const auto state = text_of(*object, "state");
  for (const State each : kStates) {
    if (to_string(each) == state) record.status.state = each;
  }
  record.status.reason = text_of(*object, "reason");
  record.status.last_received_ms = number_of(*object, "lastReceivedMs");
  for (const auto& [name, member] : kCounters) {
    const auto* value = object->if_contains(name);
    if (value == nullptr) continue;
    boost::system::error_code error;
    record.status.counters.*member = value->to_number<uint64_t>(error);
    if (error) return damaged;
  }
  const auto latency_of = [&](const json::object& from) {
    const auto* found = from.if_contains("processed");
    if (found == nullptr || !found->is_object()) return Latency();
    return Latency{static_cast<uint64_t>(number_of(found->get_object(), "records")),
                   std::chrono::nanoseconds(number_of(found->get_object(), "ns"))};
  };
  record.status.latency = latency_of(*object);
  if (const auto* minute = object->if_contains("minute"); minute && minute->is_object()) {
    const auto& from = minute->get_object();
    record.status.minute = {static_cast<uint64_t>(number_of(from, "received")),
                            static_cast<uint64_t>(number_of(from, "written")),
                            static_cast<uint64_t>(number_of(from, "failures")), latency_of(from)};
  }
  const auto* failures = object->if_contains("lastFailures");
  if (failures != nullptr && failures->is_array()) {
    for (const auto& failure : failures->get_array()) {
      if (!failure.is_object()) return damaged;
      const auto& from = failure.get_object();
      record.status.failures.push_back(
          {.text = text_of(from, "text"),
           .at_ms = number_of(from, "atMs"),
           .topic = text_of(from, "topic"),
           .message_id = text_of(from, "messageId"),
           .attempt = static_cast<unsigned>(number_of(from, "attempt")),
           .words = text_of(from, "words")});
    }
  }
  if (const auto* meters = object->if_contains("meters"); meters && meters->is_object())
    record.status.meters = meters_of(meters->get_object());
  return record;
}

}  // namespace hulse::runtime

#include "storage/naming.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>

#include "base/bytes.h"
#include "base/log.h"
#include "storage/segment_index.h"

namespace hulse::storage {
namespace {

namespace json = boost::json;
constexpr std::string_view kPart = "storage";
constexpr std::string_view kTopicPrefix = "topic/";
constexpr std::string_view kCursorPrefix = "cursor/";

bool parse_topic(std::string_view text, uint64_t& id, Naming::Topic& topic) {
  boost::system::error_code error;
  const auto value = json::parse(json::string_view(text.data(), text.size()), error);
  if (error || !value.is_object()) return false;
  const auto* number = value.get_object().if_contains("id");
  const auto* ledgers = value.get_object().if_contains("ledgers");
  if (number == nullptr || ledgers == nullptr || !ledgers->is_array()) return false;
  id = number->to_number<uint64_t>(error);
  for (const auto& ledger : ledgers->get_array()) {
    if (!ledger.is_array() || ledger.get_array().size() < 2) return false;
    topic.ledgers.emplace_back(ledger.get_array()[0].to_number<uint64_t>(error),
                               ledger.get_array()[1].to_number<uint64_t>(error));
    if (error) return false;
  }
  return !error;
}

}  // namespace

Result<Naming> Naming::load(const Tables& tables) {
  Naming naming;
  for (const auto prefix : {kTopicPrefix, kCursorPrefix}) {
    const std::string full = user_key(prefix);
    const auto scanned = tables.scan(full, full, [&](std::string_view key, std::string_view value) {
      naming.note(key.substr(1), value);
      return true;
    });
    if (!scanned) return scanned.error();
  }
  return naming;
}

void Naming::note(std::string_view key, std::optional<std::string_view> value) {
  if (key.starts_with(kTopicPrefix) && value) {
    Topic topic;
    uint64_t id = 0;
    topic.name = key.substr(kTopicPrefix.size());
    if (!parse_topic(*value, id, topic)) {
      log::warn(kPart, "the stored record of {} cannot be read", topic.name);
      return;
    }
    topic.subscriptions = std::move(topics_[id].subscriptions);
    topics_[id] = std::move(topic);
  } else if (key.starts_with(kCursorPrefix)) {
    // cursor/<16 hex digits>/<subscription>; after a byte of format comes the position.
    const auto rest = key.substr(kCursorPrefix.size());
    uint64_t id = 0;
    if (rest.size() < 18) return;
    std::from_chars(rest.data(), rest.data() + 16, id, 16);
    auto& all = topics_[id].subscriptions;
    std::erase_if(all, [&](const Subscription& known) { return known.name == rest.substr(17); });
    if (!value || value->empty()) return;
    Subscription subscription{std::string(rest.substr(17))};
    std::string_view position = value->substr(1);
    if (get_varint(position, subscription.acked_until)) all.push_back(std::move(subscription));
  }
}

const Naming::Topic* Naming::find(uint64_t topic) const {
  const auto known = topics_.find(topic);
  return known == topics_.end() ? nullptr : &known->second;
}

std::string Naming::text(uint64_t id, uint64_t index) const {
  const auto* topic = find(id);
  if (topic == nullptr || topic->ledgers.empty()) {
    return fmt::format("topic id {} (deleted), entry {}", id, index);
  }
  auto after = std::upper_bound(topic->ledgers.begin(), topic->ledgers.end(), index,
                                [](uint64_t i, const auto& ledger) { return i < ledger.second; });
  if (after == topic->ledgers.begin()) {
    return fmt::format("{}, entry {} of a ledger that is gone", topic->name, index);
  }
  --after;
  return fmt::format("{}, ledger {}, entry {}", topic->name, after->first, index - after->second);
}

}  // namespace hulse::storage

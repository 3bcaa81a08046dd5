#include "client/dead_letter.h"

#include <algorithm>

namespace hulse::client {

DeadLetterProperties::DeadLetterProperties(const Message& message, std::string_view topic,
                                           std::string_view subscription)
    : list_(message.properties.begin(), message.properties.end()) {
  keep(kRealTopic, topic);
  keep(kRealSubscription, subscription);
  texts_.push_back(message.id.text());
  keep(kOriginMessageId, texts_.back());
}

void DeadLetterProperties::keep(std::string_view name, std::string_view value) {
  const bool known = std::any_of(list_.begin(), list_.end(),
                                 [&](const Property& property) { return property.first == name; });
  if (!known) list_.emplace_back(name, value);
}

void DeadLetterProperties::set(std::string_view name, std::string value) {
  std::erase_if(list_, [&](const Property& property) { return property.first == name; });
  texts_.push_back(std::move(value));
  list_.emplace_back(name, texts_.back());
}

}  // namespace hulse::client

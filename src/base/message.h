// Message: one message of a topic as a view. The client fills it from a received entry, connectors
// read it; nothing is copied in between.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "base/ids.h"

namespace hulse {

using Property = std::pair<std::string_view, std::string_view>;

// Every view is valid while the batch that handed it out lives.
struct Message {
  std::string_view value;
  std::optional<std::string_view> key;  // Pulsar's partition key, decoded if it was sent as Base64
  std::span<const Property> properties;
  int64_t event_time = 0;    // milliseconds since 1970; 0: the producer set none
  int64_t publish_time = 0;  // milliseconds since 1970, the producer's clock
  uint64_t sequence_id = 0;  // the producer's
  MessageId id;
  uint32_t redelivery_count = 0;
  bool null_value = false;  // a tombstone: the value is absent, not empty
};

}  // namespace hulse

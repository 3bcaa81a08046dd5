// The configuration of the data generator.
#pragma once

#include <chrono>
#include <optional>

#include "config/field.h"

namespace hulse::connectors::data_generator {

struct SourceConfig {
  std::chrono::milliseconds sleep_between_messages{50};
  std::optional<int64_t> records;
  bool numbered = false;
};
inline constexpr config::Field kSourceFields[] = {
    config::field<&SourceConfig::sleep_between_messages>(
        "sleepBetweenMessages", "Milliseconds between two records; 0: as many as the topic takes.")
        .at_least(0),
    config::field<&SourceConfig::records>("records",
                                          "How many each instance makes; for ever without it.")
        .at_least(0),
    config::field<&SourceConfig::numbered>(
        "numbered", "Gives each record its number as key: instance-number, from 0 on."),
};

struct SinkConfig {};

}  // namespace hulse::connectors::data_generator

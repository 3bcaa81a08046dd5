// The configuration of the data generator.
#pragma once

#include <chrono>

#include "config/field.h"

namespace hulse::connectors::data_generator {

struct SourceConfig {
  std::chrono::milliseconds sleep_between_messages{50};
};
inline constexpr config::Field kSourceFields[] = {
    config::field<&SourceConfig::sleep_between_messages>(
        "sleepBetweenMessages", "Milliseconds between two records; 0: as many as the topic takes.")
        .at_least(0),
};

struct SinkConfig {};

}  // namespace hulse::connectors::data_generator

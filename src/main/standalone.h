// hulse standalone: the embedded broker and the worker in one process.
#pragma once

#include <string>

#include "base/result.h"
#include "config/field.h"

namespace hulse {

struct StandaloneOptions {
  std::string data_dir = "data";
  std::string host = "127.0.0.1";
  uint16_t broker_port = 6650;
  uint16_t web_port = 8080;
};

inline constexpr config::Field kStandaloneFields[] = {
    config::field<&StandaloneOptions::data_dir>("dataDir", "Where everything is kept"),
    config::field<&StandaloneOptions::host>("bindAddress", "Address to listen on"),
    config::field<&StandaloneOptions::broker_port>("brokerServicePort",
                                                   "Port of the Pulsar protocol"),
    config::field<&StandaloneOptions::web_port>("webServicePort", "Port of the web interface"),
};

// The flag of a key: "--broker-port" of "brokerServicePort".
constexpr std::string_view standalone_flag(std::string_view key) {
  if (key == "dataDir") return "--data-dir";
  if (key == "bindAddress") return "--bind";
  if (key == "brokerServicePort") return "--broker-port";
  return "--web-port";
}

// Runs until SIGTERM or SIGINT, then stops cleanly. Prints one line on standard output when clients
// can produce. Fails with one sentence when it cannot start.
Result<void> run_standalone(const StandaloneOptions& options);

}  // namespace hulse

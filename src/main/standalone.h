// hulse standalone: the embedded broker and the worker in one process.
#pragma once

#include <string>

#include "base/result.h"

namespace hulse {

struct StandaloneOptions {
  std::string data_dir = "data";
  std::string host = "127.0.0.1";
  uint16_t broker_port = 6650;
  uint16_t web_port = 8080;
};

// Runs until SIGTERM or SIGINT, then stops cleanly. Prints one line on standard output when clients can
// produce. Fails with one sentence when it cannot start.
Result<void> run_standalone(const StandaloneOptions& options);

}  // namespace hulse

// One task with a client of its own, for commands that speak to a broker.
#pragma once

#include <functional>

#include "base/result.h"
#include "client/client.h"

namespace hulse::cli {

using ClientTask = std::function<aio::Task<Result<void>>(client::Client&)>;

// Reaches the broker first, and says what to do if nobody answers.
aio::Task<Result<void>> with_client(client::Options options, ClientTask body);

// The same from start to end, until it ends by itself or a signal comes.
Result<void> run_with_client(client::Options options, ClientTask body);

}  // namespace hulse::cli

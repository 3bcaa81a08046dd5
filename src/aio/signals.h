// Waiting for the signals that end a program.
#pragma once

#include "aio/task.h"

namespace hulse::aio {

// SIGTERM or SIGINT; 0 when cancelled. While the program ends, a second SIGINT ends it at once.
Task<int> wait_for_signal();

// Runs `task` until it ends by itself or a signal comes; then it is cancelled, its end waited for,
// and the result is success. The task sets throw_if_cancelled(false) if it has something to clean
// up.
Task<Result<void>> until_signal(Task<Result<void>> task);

}  // namespace hulse::aio

// Local run: a component's instances in this process, registered nowhere.
#pragma once

#include "aio/threads.h"
#include "runtime/component.h"
#include "runtime/instance.h"

namespace hulse::runtime {

// Runs until cancelled (then stops cleanly and succeeds) or until every instance has failed for
// good (then fails with their reasons). Fails at once when no broker answers.
aio::Task<Result<void>> local_run(const Component& component, client::Options client,
                                  aio::Threads& threads);

}  // namespace hulse::runtime

// What the worker stores of a component holds no secret in clear: `configs` and `secrets` go to the
// topic redacted, and beside them encrypted as they were given.
#pragma once

#include <string>

#include "base/result.h"
#include "runtime/component_record.h"
#include "runtime/secret_box.h"

namespace hulse::runtime {

// For storing. Without a box a secret that is no reference is refused (Code::invalid), by its key.
Result<ComponentRecord> sealed(ComponentRecord record, const std::string& name,
                               const SecretBox* box);

// The record as it was given. Code::permission when the box is another one.
Result<ComponentRecord> unsealed(ComponentRecord record, const std::string& name,
                                 const SecretBox* box);

}  // namespace hulse::runtime

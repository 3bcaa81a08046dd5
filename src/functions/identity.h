// The built-in function `identity`: each record goes to the output topic as it came.
#pragma once

#include "functions/descriptor.h"

namespace hulse::functions {

extern const Descriptor kIdentity;

}  // namespace hulse::functions

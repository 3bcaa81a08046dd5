// How a component writes to its output topic: what its configuration says, in the client's words.
#pragma once

#include "client/producer.h"
#include "runtime/component.h"

namespace hulse::runtime {

// Code::invalid when the compression is none that is known.
Result<client::ProducerOptions> output_options(const Component& component);

}  // namespace hulse::runtime

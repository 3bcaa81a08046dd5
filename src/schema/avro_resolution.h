// Avro's schema resolution: whether data of one schema can be read with another. Avro C cannot
// answer it (its resolver knows no default values), and Pulsar's compatibility checks are made of
// it.
#pragma once

#include <string_view>

#include "base/result.h"

namespace hulse::schema {

// Succeeds when a reader of `reader` understands whatever a writer of `writer` wrote, by the rules
// of the Avro specification ("Schema Resolution"); the error names the place that does not fit.
// Both are schema definitions in JSON.
Result<void> can_read(std::string_view reader, std::string_view writer);

// Whether the text is an Avro schema as far as resolution looks at it.
Result<void> check_avro(std::string_view definition);

// The same definition, whatever its spacing and the order of its attributes.
bool same_definition(std::string_view a, std::string_view b);

}  // namespace hulse::schema

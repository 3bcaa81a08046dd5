// Component configurations as users send and see them: what an update makes of one, and what may be
// shown of it. Objects are a SinkConfig's, a SourceConfig's or a FunctionConfig's.
#pragma once

#include <boost/json/object.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/component.h"

namespace hulse::runtime {

// `given` over `stored`, field by field: a given field wins, `resources` is merged one level
// deeper, `configs` (`userConfig`) and `secrets` are replaced whole; null takes a field out. A
// secret given as it is shown keeps its value. Names stay.
boost::json::object merge_component(connect::Kind kind, const boost::json::object& stored,
                                    const boost::json::object& given);

// A component and the configuration it was made of.
struct Configured {
  const Component& component;
  const boost::json::object& config;
};

// What is different in effect: "parallelism: 1 -> 2", secrets without their values. Refused
// (Code::invalid) when there is nothing, and when a sink's inputs or subscription differ, or those
// of a function, which would lose its position.
Result<std::vector<std::string>> component_changes(const Configured& before,
                                                   const Configured& after);

// `stored` without what is secret in `configs` and `secrets`; references stay. Without a connector
// everything in `configs` is taken for a secret.
boost::json::object without_secrets(std::span<const config::Field> fields,
                                    const boost::json::object& stored);

// As GET answers it: defaults filled in, topics in full, nothing secret.
boost::json::object shown_component(const Component& component, const boost::json::object& stored);

}  // namespace hulse::runtime

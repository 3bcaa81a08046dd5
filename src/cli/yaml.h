// YAML (and so JSON) text as a JSON value.
#pragma once

#include <boost/json/object.hpp>
#include <string>

#include "base/result.h"

namespace hulse::cli {

// Quoted scalars stay text; plain ones become numbers, booleans or null as YAML has them.
Result<boost::json::object> parse_yaml_object(const std::string& text, const std::string& name);

Result<boost::json::object> read_yaml_object(const std::string& path);

// What --sink-config and its like take: JSON text that begins with `{`, or the name of a YAML or
// JSON file.
Result<boost::json::object> inline_or_file(const std::string& option, const std::string& text);

}  // namespace hulse::cli

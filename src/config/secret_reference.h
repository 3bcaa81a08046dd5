// References to secrets: a configuration says where a secret is kept, not what it is.
//
//   env:NAME                     the environment variable of the process that runs the connector
//   file:/path                   a file's text, without the line's end
//   {"path": P, "key": K}        the file K in the folder P, or the member K of the JSON file P
//   literal:TEXT                 TEXT itself, for a secret that begins like one of these
//
// Anything else is the secret itself. Pure functions: nothing is looked up here.
#pragma once

#include <boost/json/value.hpp>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "config/field.h"

namespace hulse::config {

struct SecretReference {
  enum class From { environment, file, literal };
  From from = From::literal;
  std::string name;  // of the variable, the path, or the text itself
  std::string key;   // in the folder or the JSON file; empty: the file as a whole

  // "env:NAME", "file:/path", "file:/path key K"; never of a literal.
  std::string text() const;
};

// Nothing when the value is the secret itself. An error says what is wrong with a reference, in
// words that do not repeat the value: it may be a secret that only looks like one.
Result<std::optional<SecretReference>> parse_reference(const boost::json::value& value);

// Whether the value says where a secret is and holds none. What cannot be told holds one.
bool is_reference(const boost::json::value& value);

// Every value in `values` that stands for a sensitive field, nested ones included.
using SecretVisitor = std::function<void(const std::string& key, boost::json::value& value)>;
void visit_secrets(std::span<const Field> fields, boost::json::object& values,
                   const SecretVisitor& visit);

// `given` with something harmless in the place of each reference, so that the rest of it can be
// checked; what is wrong with references is added to `problems`.
Given without_references(std::span<const Field> fields, Given given, Problems& problems);

}  // namespace hulse::config

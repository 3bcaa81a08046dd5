// Where the references to secrets in a configuration lead (config/secret_reference.h). Looked up
// when an instance starts, each time, and never stored: a changed secret counts from the next start
// on.
#pragma once

#include <span>
#include <string>

#include "base/result.h"
#include "config/field.h"

namespace hulse::runtime {

// What references may reach. Whoever may create a sink can send what it reads to a place of their
// own, so a server of several tenants bounds it.
struct SecretSources {
  std::string directory;           // files lie in it; empty: any file this process may read
  std::string environment_prefix;  // variables' names begin with it; empty: any
};

// `given` with the secrets themselves. Every problem in one error (Code::invalid), each with its
// key: a variable that is not set, a file that cannot be read. Reads small files: it blocks.
Result<config::Given> resolve_secrets(std::span<const config::Field> fields, config::Given given,
                                      const SecretSources& sources);

// One of them; a value that is no reference is the secret.
Result<std::string> resolve_secret(const boost::json::value& value, const SecretSources& sources);

}  // namespace hulse::runtime

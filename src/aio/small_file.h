// Small files that are read whole: keys, tokens, settings.
#pragma once

#include <string>

#include "base/result.h"

namespace hulse::aio {

// The file's bytes. Errors name the path: Code::not_found (with the system's words), too_large.
// Blocks: for files of a page or so that are read once a connection, not once a message.
Result<std::string> read_small_file(const std::string& path, size_t bytes_max = 1 << 20);

}  // namespace hulse::aio

// Small files that are read whole: keys, tokens, settings.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace hulse::aio {

// The file's bytes. Errors name the path: Code::not_found (with the system's words), too_large.
// Blocks: for files of a page or so that are read once a connection, not once a message.
Result<std::string> read_small_file(const std::string& path, size_t bytes_max = 1 << 20);

// A new file that only its owner reads, durable when this returns. Code::already_exists when there
// is one of that name. Blocks.
Result<void> write_private_file(const std::string& path, std::string_view text);

// Whether others than the file's owner may read it; false for one that is not there.
bool readable_by_others(const std::string& path);

}  // namespace hulse::aio

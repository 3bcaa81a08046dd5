// Copies of data directories. Blocking. Used by `hulse storage backup` and `restore`.
#pragma once

#include <string>

#include "base/result.h"

namespace hulse::storage {

// Copies a data directory that nobody changes (a snapshot, a backup) to `target`, which is not
// there yet or empty, makes it durable and reads all of it again. The target is no data directory
// before everything else in it is complete.
Result<void> copy_directory(const std::string& source, const std::string& target);

// The same of a data directory that a broker might use: takes its lock meanwhile.
Result<void> backup_directory(const std::string& source, const std::string& target);

}  // namespace hulse::storage

// The file system of RocksDB with an observer: what the tables do to the disk is seen, and can be
// made to fail, as what the rest of storage does.
#pragma once

#include <rocksdb/env.h>

#include <memory>

#include "storage/disk.h"

namespace hulse::storage {

// The observer outlives it.
std::unique_ptr<rocksdb::Env> observed_tables_env(DiskObserver& observer);

}  // namespace hulse::storage

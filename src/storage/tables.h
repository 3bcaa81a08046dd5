// Tables: RocksDB as the table form of what the log said. Its own write-ahead log is off: the log
// is ours, and every batch carries the log position up to which it was applied.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace rocksdb {
class DB;
class Env;
class WriteBatch;
}  // namespace rocksdb

namespace hulse::storage {

// Where the log is read on from: the first group not applied yet.
struct LogPosition {
  uint64_t segment = 0;
  uint64_t offset = 0;
};

// Reads: any thread. Writes: one thread at a time.
class Tables {
 public:
  // `env` is null for the system's own file system; it outlives the tables.
  static Result<std::unique_ptr<Tables>> open(const std::string& path, rocksdb::Env* env = nullptr);
  ~Tables();

  Result<std::optional<std::string>> get(std::string_view key) const;
  // From `start`, in key order, while keys begin with `prefix` and `found` returns true.
  Result<void> scan(
      std::string_view prefix, std::string_view start,
      const std::function<bool(std::string_view key, std::string_view value)>& found) const;
  // The last key at or before `key` that begins with `prefix`.
  Result<std::optional<std::pair<std::string, std::string>>> at_or_before(
      std::string_view key, std::string_view prefix) const;

  // A change set; apply() writes it as one, with the position the log has reached.
  void put(std::string_view key, std::string_view value);
  void erase(std::string_view key);
  void erase_range(std::string_view begin, std::string_view end);
  // One that failed may be tried again.
  Result<void> apply(const LogPosition& position);
  // After a full disk: writing begins again.
  Result<void> resume();

  Result<LogPosition> position() const;
  // Makes everything applied so far durable.
  Result<void> flush();
  // A copy as of now at `path`, made of links where the file system has them.
  Result<void> checkpoint(const std::string& path);
  // Reads every file and compares checksums.
  Result<void> verify() const;

 private:
  Tables();
  std::unique_ptr<rocksdb::DB> db_;
  std::unique_ptr<rocksdb::WriteBatch> batch_;
};

}  // namespace hulse::storage

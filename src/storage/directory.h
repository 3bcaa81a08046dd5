// The data directory: one process at a time, of a known format.
//
//   format      "hulse-data 1\n"
//   lock        held by flock while a process uses the directory
//   log/        segments (log_format.h)
//   tables/     RocksDB: what the log said up to a checkpoint (tables.h)
//   ballast     room set aside: given up on a full disk, so that what frees room can be written
//   snapshot/   while a backup is made: a data directory of links
//   damaged/    segments as they were before `hulse storage check --salvage`
#pragma once

#include <string>

#include "base/result.h"
#include "storage/disk.h"

namespace hulse::storage {

// What this version writes and the newest it reads. docs/internals/storage.md has the rule.
inline constexpr uint64_t kFormatVersion = 1;

class Directory {
 public:
  enum class Absent { create, refuse };
  // Refuses a directory of something else, one of a newer format, one that another process holds
  // and one that cannot be written, each with a sentence that says so.
  static Result<Directory> open(std::string path, Absent absent = Absent::create);

  const std::string& path() const { return path_; }
  std::string log_path() const { return path_ + "/log"; }
  std::string tables_path() const { return path_ + "/tables"; }
  std::string ballast_path() const { return path_ + "/ballast"; }
  std::string snapshot_path() const { return path_ + "/snapshot"; }

 private:
  Directory(std::string path, File lock) : path_(std::move(path)), lock_(std::move(lock)) {}
  std::string path_;
  File lock_;
};

// "hulse-data 1\n", as the file `format` holds it.
std::string format_text();

}  // namespace hulse::storage

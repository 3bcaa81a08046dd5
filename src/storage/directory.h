// The data directory: one process at a time, of a known format.
//
//   format      "hulse-data 1\n"
//   lock        held by flock while a process uses the directory
//   log/        segments (log_format.h)
//   tables/     RocksDB: what the log said up to a checkpoint (tables.h)
#pragma once

#include <string>

#include "base/result.h"

namespace hulse::storage {

// Owns a file descriptor.
class File {
 public:
  File() = default;
  explicit File(int fd) : fd_(fd) {}
  File(File&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  File& operator=(File&& other) noexcept;
  ~File();
  static Result<File> open(const std::string& path, int flags);
  int fd() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

class Directory {
 public:
  // Creates it if absent. Refuses a directory of something else, one that another process holds and
  // one that cannot be written, each with a sentence that says so.
  static Result<Directory> open(std::string path);

  const std::string& path() const { return path_; }
  std::string log_path() const { return path_ + "/log"; }
  std::string tables_path() const { return path_ + "/tables"; }

 private:
  Directory(std::string path, File lock) : path_(std::move(path)), lock_(std::move(lock)) {}
  std::string path_;
  File lock_;
};

// Makes the names in `path` durable.
Result<void> sync_directory(const std::string& path);

// Reads exactly `size` bytes at `offset`, or fewer at the end of the file.
Result<std::string> read_at(const File& file, uint64_t offset, size_t size);

Error file_error(const std::string& path, int error);

}  // namespace hulse::storage

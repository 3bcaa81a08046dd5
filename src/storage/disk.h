// Everything this folder does to a disk: files, and the names of files.
//
// One seam for all of it, so that a test can record what was written and what was synced, or make
// the disk fail (tests/storage). Without an observer, which is every program's case, it costs a
// comparison with null.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hulse::storage {

struct DiskChange {
  enum class Op {
    create,    // of an empty file
    write,     // parts at offset
    truncate,  // to size, or grown with zeros up to it
    allocate,  // room for size bytes, and at least that size
    sync,
    rename,  // path to target
    link,    // target is another name of path
    remove,
    make_directory,
    sync_directory,
  };
  Op op = Op::write;
  std::string path;
  std::string target;
  uint64_t offset = 0;
  uint64_t size = 0;
  std::span<const iovec> parts;
};

class DiskObserver {
 public:
  virtual ~DiskObserver() = default;
  // Before a change: the errno it is to fail with, or 0. Any thread.
  virtual int before(const DiskChange& change) = 0;
  // After one that succeeded.
  virtual void after(const DiskChange& change) = 0;
};
// For tests, before anything is opened; null ends it.
void observe_disk(DiskObserver* observer);

// Owns a file descriptor.
class File {
 public:
  File() = default;
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();
  static Result<File> open(const std::string& path, int flags);
  int fd() const { return fd_; }
  const std::string& path() const { return path_; }
  bool is_open() const { return fd_ >= 0; }

  Result<uint64_t> size() const;
  // Some of `parts`, as pwritev does: how many bytes.
  Result<size_t> write_some(std::span<const iovec> parts, uint64_t offset);
  // All of it.
  Result<void> write(std::string_view bytes, uint64_t offset);
  // Room and size for that many bytes. Code::full leaves the file as it was.
  Result<void> allocate(uint64_t bytes);
  Result<void> truncate(uint64_t bytes);
  // Contents and size are durable; the name is not (sync_directory).
  Result<void> sync();

 private:
  File(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  int fd_ = -1;
  std::string path_;
};

// Reads exactly `size` bytes at `offset`, or fewer at the end of the file.
Result<std::string> read_at(const File& file, uint64_t offset, size_t size);
Result<std::string> read_file(const std::string& path);
// A new file with these bytes under a temporary name, synced, renamed to `path`. The caller syncs
// the directory.
Result<void> write_file(const std::string& path, std::string_view bytes);
// Up to `bytes` of a file to a new one, synced.
Result<void> copy_file(const std::string& from, const std::string& to, uint64_t bytes = UINT64_MAX);

Result<void> rename_file(const std::string& from, const std::string& to);
Result<void> link_file(const std::string& from, const std::string& to);
// Absent is fine.
Result<void> remove_file(const std::string& path);
// With its parents; there already is fine. Its name is durable.
Result<void> make_directory(const std::string& path);
// Makes the names in `path` durable.
Result<void> sync_directory(const std::string& path);

// What this program may still write to the file system of `path`.
Result<uint64_t> free_bytes(const std::string& path);

// Code::full for a disk without room, Code::permission for one that may not be written.
Error file_error(const std::string& path, int error);

}  // namespace hulse::storage

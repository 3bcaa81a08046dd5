#include "connectors/file/append_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "base/log.h"
#include "base/text.h"
#include "connectors/file/line.h"

namespace hulse::connectors::file {
namespace {

Code code_of(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT: return Code::too_large;
    case EACCES:
    case EPERM:
    case EROFS: return Code::permission;
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case ENAMETOOLONG:
    case ELOOP: return Code::invalid;
    default: return Code::io;
  }
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

int sync_folder(const std::string& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno;
  const int error = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  return error;
}

}  // namespace

AppendFile::~AppendFile() { close(); }

Error AppendFile::failure(std::string_view doing, int error) const {
  return Error(code_of(error), fmt::format("{} {}: {}", doing, path_, errno_text(error)));
}

Result<void> AppendFile::open(std::string path, bool json_lines) {
  close();
  path_ = std::move(path);
  // O_NONBLOCK: opening a pipe nobody reads fails instead of hanging. Plain files ignore it.
  constexpr int kFlags = O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  bool made = false;
  fd_ = ::open(path_.c_str(), kFlags);
  if (fd_ < 0 && errno == ENOENT) {
    made = true;
    fd_ = ::open(path_.c_str(), kFlags | O_CREAT, 0644);
  }
  if (fd_ < 0) {
    const int error = errno;
    auto failed = failure("opening", error);
    if (error != ENOENT) return failed;
    return Error(failed.code(), failed.message() + "; make its folder first");
  }
  struct stat status{};
  if (::fstat(fd_, &status) != 0) return failure("looking at", errno);
  regular_ = S_ISREG(status.st_mode);
  if (!regular_ && !S_ISCHR(status.st_mode)) {
    return Error(Code::invalid, fmt::format("{} is neither a file nor a device", path_));
  }
  if (!regular_) return {};

  // Two writers of one file would cut each other's lines.
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return failure("locking", errno);
    return Error(Code::busy,
                 fmt::format("{} is written by another sink; give each instance its own "
                             "file ({{instance}} in the path is its number)",
                             path_));
  }
  if (made) {
    const int error = sync_folder(folder_of(path_));
    if (error != 0) return failure("syncing the folder of", error);
  }
  synced_size_ = static_cast<uint64_t>(status.st_size);
  const auto ended = end_torn_line(json_lines);
  if (!ended) return ended.error();
  if (::lseek(fd_, static_cast<off_t>(synced_size_), SEEK_SET) < 0)
    return failure("seeking in", errno);
  return {};
}

Result<void> AppendFile::end_torn_line(bool json_lines) {
  // From the end to the last newline, in steps.
  constexpr uint64_t kStep = 64 * 1024;
  std::string tail;
  uint64_t start = synced_size_;
  size_t newline = std::string::npos;
  while (start > 0 && newline == std::string::npos) {
    const uint64_t step = std::min(kStep, start);
    std::string part(step, '\0');
    const ssize_t got = ::pread(fd_, part.data(), step, static_cast<off_t>(start - step));
    if (got < 0) return failure("reading", errno);
    if (static_cast<uint64_t>(got) != step) return failure("reading", EIO);
    newline = part.find_last_of('\n');
    if (newline != std::string::npos) part.erase(0, newline + 1);
    start -= part.size();
    tail.insert(0, part);
  }
  if (tail.empty()) return {};

  if (json_lines && !is_complete_json(tail)) {
    log::warn("file",
              "{}: cut an incomplete last line of {} bytes, left by a crash; its record comes "
              "again",
              path_, tail.size());
    if (::ftruncate(fd_, static_cast<off_t>(start)) != 0) return failure("cutting", errno);
    synced_size_ = start;
  } else {
    log::warn("file", "{}: the last line had no newline; it has one now", path_);
    if (::pwrite(fd_, "\n", 1, static_cast<off_t>(synced_size_)) != 1) {
      return failure("writing to", errno);
    }
    synced_size_ += 1;
  }
  if (::fdatasync(fd_) != 0) return failure("syncing", errno);
  return {};
}

Result<void> AppendFile::append(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failure("writing to", errno);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return {};
}

Result<void> AppendFile::sync() {
  if (!regular_) return {};
  // A failed sync is never repeated: the kernel has dropped the pages and would say yes. The caller
  // writes the records again instead.
  if (::fdatasync(fd_) != 0) return failure("syncing", errno);
  const off_t end = ::lseek(fd_, 0, SEEK_CUR);
  if (end < 0) return failure("seeking in", errno);
  synced_size_ = static_cast<uint64_t>(end);
  return {};
}

void AppendFile::discard() {
  if (!regular_ || fd_ < 0) return;
  const auto end = static_cast<off_t>(synced_size_);
  if (::ftruncate(fd_, end) != 0 || ::lseek(fd_, end, SEEK_SET) != end) {
    log::warn("file", "{}", failure("cutting the unfinished lines of", errno).message());
  }
}

void AppendFile::close() {
  if (fd_ < 0) return;
  ::close(fd_);  // what counts has been synced
  fd_ = -1;
}

}  // namespace hulse::connectors::file

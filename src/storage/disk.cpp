#include "storage/disk.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/text.h"

namespace hulse::storage {
namespace {

constexpr size_t kCopyBytes = 1 << 20;

DiskObserver* g_observer = nullptr;

// Runs `act`, which returns 0 or an errno, between the observer's two looks. The change is only
// described when somebody looks.
template <class Describe, class Act>
int observed(const Describe& describe, const Act& act) {
  if (g_observer == nullptr) return act();
  const DiskChange change = describe();
  const int refused = g_observer->before(change);
  if (refused != 0) return refused;
  const int code = act();
  if (code == 0) g_observer->after(change);
  return code;
}

int code_of(int result) { return result == 0 ? 0 : errno; }

}  // namespace

void observe_disk(DiskObserver* observer) { g_observer = observer; }

Error file_error(const std::string& path, int error) {
  Code code = Code::io;
  if (error == EACCES || error == EPERM || error == EROFS) code = Code::permission;
  if (error == ENOSPC || error == EDQUOT) code = Code::full;
  return Error(code, fmt::format("{}: {}", path, errno_text(error)));
}

File::File(File&& other) noexcept : fd_(other.fd_), path_(std::move(other.path_)) {
  other.fd_ = -1;
}
File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}
File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

Result<File> File::open(const std::string& path, int flags) {
  int fd = -1;
  const auto act = [&] {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, 0600);
    return fd < 0 ? errno : 0;
  };
  const bool creates = g_observer != nullptr && (flags & O_CREAT) != 0 &&
                       ((flags & O_TRUNC) != 0 || ::access(path.c_str(), F_OK) != 0);
  const int code =
      creates
          ? observed([&] { return DiskChange{.op = DiskChange::Op::create, .path = path}; }, act)
          : act();
  if (code != 0) return file_error(path, code);
  return File(fd, path);
}

Result<uint64_t> File::size() const {
  struct stat info{};
  if (::fstat(fd_, &info) != 0) return file_error(path_, errno);
  return static_cast<uint64_t>(info.st_size);
}

Result<size_t> File::write_some(std::span<const iovec> parts, uint64_t offset) {
  if (g_observer != nullptr) {
    const int refused =
        g_observer->before({.op = DiskChange::Op::write, .path = path_, .offset = offset});
    if (refused != 0) return file_error(path_, refused);
  }
  ssize_t written = -1;
  do {
    written =
        ::pwritev(fd_, parts.data(), static_cast<int>(parts.size()), static_cast<off_t>(offset));
  } while (written < 0 && errno == EINTR);
  if (written < 0) return file_error(path_, errno);
  if (g_observer != nullptr) {
    g_observer->after({.op = DiskChange::Op::write,
                       .path = path_,
                       .offset = offset,
                       .size = static_cast<uint64_t>(written),
                       .parts = parts});
  }
  return static_cast<size_t>(written);
}

Result<void> File::write(std::string_view bytes, uint64_t offset) {
  while (!bytes.empty()) {
    const iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    const auto written = write_some({&part, 1}, offset);
    if (!written) return written.error();
    bytes.remove_prefix(*written);
    offset += *written;
  }
  return {};
}

Result<void> File::allocate(uint64_t bytes) {
  const auto before = size();
  if (!before) return before.error();
  const int code = observed(
      [&] { return DiskChange{.op = DiskChange::Op::allocate, .path = path_, .size = bytes}; },
      [&] { return ::posix_fallocate(fd_, 0, static_cast<off_t>(bytes)); });
  if (code == 0) return {};
  // What was found before the room ended is given back.
  if (::ftruncate(fd_, static_cast<off_t>(*before)) != 0) return file_error(path_, errno);
  return file_error(path_, code);
}

Result<void> File::truncate(uint64_t bytes) {
  const int code = observed(
      [&] { return DiskChange{.op = DiskChange::Op::truncate, .path = path_, .size = bytes}; },
      [&] { return code_of(::ftruncate(fd_, static_cast<off_t>(bytes))); });
  if (code != 0) return file_error(path_, code);
  return {};
}

Result<void> File::sync() {
  const int code = observed([&] { return DiskChange{.op = DiskChange::Op::sync, .path = path_}; },
                            [&] { return code_of(::fdatasync(fd_)); });
  if (code != 0) return file_error(path_, code);
  return {};
}

Result<std::string> read_at(const File& file, uint64_t offset, size_t size) {
  std::string out(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t got =
        ::pread(file.fd(), out.data() + done, size - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return file_error(file.path(), errno);
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  out.resize(done);
  return out;
}

Result<std::string> read_file(const std::string& path) {
  const auto file = File::open(path, O_RDONLY);
  if (!file) return file.error();
  const auto size = file->size();
  if (!size) return size.error();
  return read_at(*file, 0, static_cast<size_t>(*size));
}

Result<void> write_file(const std::string& path, std::string_view bytes) {
  const std::string temporary = path + ".new";
  auto file = File::open(temporary, O_WRONLY | O_CREAT | O_TRUNC);
  if (!file) return file.error();
  auto done = file->write(bytes, 0);
  if (done) done = file->sync();
  if (done) done = rename_file(temporary, path);
  return done;
}

Result<void> copy_file(const std::string& from, const std::string& to, uint64_t bytes) {
  const auto source = File::open(from, O_RDONLY);
  if (!source) return source.error();
  auto target = File::open(to, O_WRONLY | O_CREAT | O_EXCL);
  if (!target) return target.error();
  for (uint64_t at = 0; at < bytes;) {
    const auto part =
        read_at(*source, at, static_cast<size_t>(std::min<uint64_t>(kCopyBytes, bytes - at)));
    if (!part) return part.error();
    if (part->empty()) break;
    const auto written = target->write(*part, at);
    if (!written) return written.error();
    at += part->size();
  }
  return target->sync();
}

Result<void> rename_file(const std::string& from, const std::string& to) {
  const int code =
      observed([&] { return DiskChange{.op = DiskChange::Op::rename, .path = from, .target = to}; },
               [&] { return code_of(::rename(from.c_str(), to.c_str())); });
  if (code != 0) return file_error(from, code).with("renaming it to " + to);
  return {};
}

Result<void> link_file(const std::string& from, const std::string& to) {
  const int code =
      observed([&] { return DiskChange{.op = DiskChange::Op::link, .path = from, .target = to}; },
               [&] { return code_of(::link(from.c_str(), to.c_str())); });
  if (code != 0) return file_error(to, code);
  return {};
}

Result<void> remove_file(const std::string& path) {
  if (::access(path.c_str(), F_OK) != 0) return {};
  const int code = observed([&] { return DiskChange{.op = DiskChange::Op::remove, .path = path}; },
                            [&] { return code_of(::unlink(path.c_str())); });
  if (code != 0) return file_error(path, code);
  return {};
}

Result<void> make_directory(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return {};
  const auto parent = std::filesystem::path(path).parent_path();
  if (!parent.empty() && parent != path) {
    const auto made = make_directory(parent.string());
    if (!made) return made;
  }
  const int code =
      observed([&] { return DiskChange{.op = DiskChange::Op::make_directory, .path = path}; },
               [&] { return code_of(::mkdir(path.c_str(), 0777)); });
  if (code == EEXIST) return {};
  if (code != 0) return file_error(path, code).with("creating it");
  // Else a power loss takes it away with all that was synced in it.
  return sync_directory(parent.empty() ? "." : parent.string());
}

Result<uint64_t> free_bytes(const std::string& path) {
  struct statvfs info{};
  if (::statvfs(path.c_str(), &info) != 0) return file_error(path, errno);
  return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
}

Result<void> sync_directory(const std::string& path) {
  const auto directory = File::open(path, O_RDONLY | O_DIRECTORY);
  if (!directory) return directory.error();
  const int code =
      observed([&] { return DiskChange{.op = DiskChange::Op::sync_directory, .path = path}; },
               [&] { return code_of(::fsync(directory->fd())); });
  if (code != 0) return file_error(path, code);
  return {};
}

}  // namespace hulse::storage

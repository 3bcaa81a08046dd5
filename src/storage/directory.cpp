#include "storage/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/text.h"

namespace hulse::storage {
namespace {

constexpr std::string_view kFormat = "hulse-data 1\n";

Result<void> make_directory(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return Error(Code::io, fmt::format("cannot create {}: {}", path, error.message()));
  return {};
}

Result<void> write_format(const std::string& path) {
  const std::string temporary = path + "/format.new";
  auto file = File::open(temporary, O_WRONLY | O_CREAT | O_TRUNC);
  if (!file) return file.error();
  const ssize_t written = ::write(file->fd(), kFormat.data(), kFormat.size());
  if (written != static_cast<ssize_t>(kFormat.size()) || ::fsync(file->fd()) != 0 ||
      ::rename(temporary.c_str(), (path + "/format").c_str()) != 0) {
    return file_error(temporary, errno);
  }
  return sync_directory(path);
}

}  // namespace

File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}
File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

Result<File> File::open(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0600);
  if (fd < 0) return file_error(path, errno);
  return File(fd);
}

Error file_error(const std::string& path, int error) {
  const Code code =
      error == EACCES || error == EPERM || error == EROFS ? Code::permission : Code::io;
  return Error(code, fmt::format("{}: {}", path, errno_text(error)));
}

Result<void> sync_directory(const std::string& path) {
  const auto directory = File::open(path, O_RDONLY | O_DIRECTORY);
  if (!directory) return directory.error();
  if (::fsync(directory->fd()) != 0) return file_error(path, errno);
  return {};
}

Result<std::string> read_at(const File& file, uint64_t offset, size_t size) {
  std::string out(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t got =
        ::pread(file.fd(), out.data() + done, size - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error(Code::io, errno_text(errno));
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  out.resize(done);
  return out;
}

Result<Directory> Directory::open(std::string path) {
  const auto where = fmt::format("data directory {}", path);
  const auto made = make_directory(path);
  if (!made) return made.error().with(where);
  const auto format = File::open(path + "/format", O_RDONLY);
  if (!format) {
    // New, or somebody else's.
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
      const auto name = entry.path().filename().string();
      if (name == "format.new" || name == "lock") continue;
      return Error(Code::invalid,
                   fmt::format("{} holds \"{}\" but is not a Hulse data directory; choose an empty "
                               "or a new one with --data-dir",
                               path, name));
    }
    if (error) return Error(Code::io, error.message()).with(where);
  } else {
    const auto text = read_at(*format, 0, 64);
    if (!text) return text.error().with(where);
    if (*text != kFormat) {
      return Error(Code::invalid,
                   fmt::format("{} has the format \"{}\"; this version of Hulse reads \"{}\"", path,
                               trim(*text), trim(kFormat)));
    }
  }
  auto lock = File::open(path + "/lock", O_RDWR | O_CREAT);
  if (!lock) return lock.error().with(where);
  if (::flock(lock->fd(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      return Error(Code::busy, fmt::format("data directory {} is in use by another hulse process; "
                                           "stop that one or choose another --data-dir",
                                           path));
    }
    return file_error(path + "/lock", errno).with(where);
  }
  if (!format) {
    const auto written = write_format(path);
    if (!written) return written.error().with(where);
  }
  Directory directory(std::move(path), std::move(*lock));
  const auto log = make_directory(directory.log_path());
  if (!log) return log.error().with(where);
  const auto synced = sync_directory(directory.path_);
  if (!synced) return synced.error().with(where);
  return directory;
}

}  // namespace hulse::storage

#include "aio/small_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "base/text.h"

namespace hulse::aio {

Result<std::string> read_small_file(const std::string& path, size_t bytes_max) {
  std::ifstream file(path, std::ios::binary);
  if (!file)
    return Error(Code::not_found, fmt::format("cannot read {}: {}", path, errno_text(errno)));
  std::string text(bytes_max + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad())
    return Error(Code::not_found, fmt::format("cannot read {}: {}", path, errno_text(errno)));
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > bytes_max)
    return Error(Code::too_large, fmt::format("{} has more than {} bytes", path, bytes_max));
  return text;
}

namespace {

Error cannot(std::string_view what, const std::string& path) {
  const int number = errno;
  return Error(number == EEXIST ? Code::already_exists : Code::io,
               fmt::format("cannot {} {}: {}", what, path, errno_text(number)));
}

}  // namespace

Result<void> write_private_file(const std::string& path, std::string_view text) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0) return cannot("make", path);
  Result<void> result;
  while (!text.empty() && result) {
    const auto written = ::write(file, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      result = cannot("write", path);
    } else {
      text.remove_prefix(static_cast<size_t>(written));
    }
  }
  if (result && ::fsync(file) != 0) result = cannot("sync", path);
  ::close(file);
  const auto parent = std::filesystem::path(path).parent_path();
  const std::string folder = parent.empty() ? "." : parent.string();
  if (result) {
    const int names = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (names < 0 || ::fsync(names) != 0) result = cannot("sync", folder);
    if (names >= 0) ::close(names);
  }
  // Half a file would be taken for a whole one by the next start.
  if (!result) ::unlink(path.c_str());
  return result;
}

bool readable_by_others(const std::string& path) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0 && (info.st_mode & (S_IRGRP | S_IROTH)) != 0;
}

}  // namespace hulse::aio

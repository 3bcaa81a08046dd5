#include "storage/directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>

#include <cerrno>
#include <charconv>
#include <filesystem>

#include "base/text.h"

namespace hulse::storage {
namespace {

constexpr std::string_view kFormatName = "hulse-data ";
constexpr size_t kFormatBytesMax = 64;

// Of a directory that has no format yet: new and empty, or somebody else's.
Result<void> refuse_foreign(const std::string& path) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    const auto name = entry.path().filename().string();
    if (name == "format.new" || name == "lock") continue;
    return Error(Code::invalid,
                 fmt::format("{} holds \"{}\" but is not a Hulse data directory; choose an empty "
                             "or a new one with --data-dir",
                             path, name));
  }
  if (error) return Error(Code::io, fmt::format("{}: {}", path, error.message()));
  return {};
}

Result<void> check_format(const std::string& path, const File& file) {
  const auto text = read_at(file, 0, kFormatBytesMax);
  if (!text) return text.error();
  const auto words = trim(*text);
  uint64_t version = 0;
  if (words.starts_with(kFormatName)) {
    const auto number = words.substr(kFormatName.size());
    const auto [end, failed] =
        std::from_chars(number.data(), number.data() + number.size(), version);
    if (failed != std::errc() || end != number.data() + number.size()) version = 0;
  }
  if (version == 0) {
    return Error(Code::invalid,
                 fmt::format("{} is not a Hulse data directory: its file \"format\" says \"{}\"",
                             path, words));
  }
  if (version > kFormatVersion) {
    return Error(Code::invalid,
                 fmt::format("{} was written by a newer version of Hulse (format {}; this one "
                             "reads up to {}): use that version, or restore a backup that this "
                             "one made",
                             path, version, kFormatVersion));
  }
  return {};
}

}  // namespace

std::string format_text() { return fmt::format("{}{}\n", kFormatName, kFormatVersion); }

Result<Directory> Directory::open(std::string path, Absent absent) {
  const auto where = fmt::format("data directory {}", path);
  const auto make = [&](const std::string& wanted) -> Result<void> {
    std::error_code error;
    if (absent == Absent::refuse && !std::filesystem::is_directory(wanted, error)) {
      return Error(Code::not_found, wanted + " is not there");
    }
    return make_directory(wanted);
  };
  const auto made = make(path);
  if (!made) return made.error().with(where);
  const auto format = File::open(path + "/format", O_RDONLY);
  const auto known = format ? check_format(path, *format) : refuse_foreign(path);
  if (!known) return known.error();
  if (!format && absent == Absent::refuse) {
    return Error(Code::not_found, path + " is empty: it is no data directory yet");
  }
  auto lock = File::open(path + "/lock", O_RDWR | O_CREAT);
  if (!lock) return lock.error().with(where);
  if (::flock(lock->fd(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      return Error(Code::busy, fmt::format("data directory {} is in use by another hulse process; "
                                           "stop that one or choose another directory",
                                           path));
    }
    return file_error(path + "/lock", errno).with(where);
  }
  if (!format) {
    const auto written = write_file(path + "/format", format_text());
    if (!written) return written.error().with(where);
  }
  Directory directory(std::move(path), std::move(*lock));
  const auto log = make(directory.log_path());
  if (!log) return log.error().with(where);
  const auto synced = sync_directory(directory.path_);
  if (!synced) return synced.error().with(where);
  return directory;
}

}  // namespace hulse::storage

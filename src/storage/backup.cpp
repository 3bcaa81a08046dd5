#include "storage/backup.h"

#include <fmt/format.h>

#include <filesystem>

#include "storage/directory.h"
#include "storage/inspect.h"

namespace hulse::storage {
namespace {

Result<void> copy_files(const std::string& source, const std::string& target) {
  const auto made = make_directory(target);
  if (!made) return made;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(source, error)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_regular_file() || name == "LOCK" || name.starts_with("LOG")) continue;
    const auto copied = copy_file(entry.path().string(), target + "/" + name);
    if (!copied) return copied;
  }
  if (error) return Error(Code::io, fmt::format("{}: {}", source, error.message()));
  return sync_directory(target);
}

}  // namespace

Result<void> copy_directory(const std::string& source, const std::string& target) {
  std::error_code error;
  if (!std::filesystem::exists(source + "/format", error)) {
    return Error(Code::not_found, source + " is no data directory: it has no file \"format\"");
  }
  if (std::filesystem::exists(target, error) && !std::filesystem::is_empty(target, error)) {
    return Error(Code::already_exists, target + " is there already; choose a new directory");
  }
  auto done = copy_files(source + "/log", target + "/log");
  if (done) done = copy_files(source + "/tables", target + "/tables");
  if (!done) return done;
  const auto format = read_file(source + "/format");
  if (!format) return format.error();
  done = write_file(target + "/format", *format);
  if (done) done = sync_directory(target);
  if (!done) return done;
  const auto report = check(target);
  if (!report) return report.error();
  if (!report->damage.empty()) {
    return Error(Code::corrupt,
                 fmt::format("{} is damaged in {} places, and so is the copy, {}: hulse storage "
                             "check names them",
                             source, report->damage.size(), target));
  }
  return {};
}

Result<void> backup_directory(const std::string& source, const std::string& target) {
  const auto directory = Directory::open(source, Directory::Absent::refuse);
  if (!directory && directory.error().code() == Code::busy) {
    return Error(Code::busy, source +
                                 " is in use by a broker: give its web address instead, "
                                 "http://HOST:8080");
  }
  if (!directory) return directory.error();
  return copy_directory(source, target);
}

}  // namespace hulse::storage

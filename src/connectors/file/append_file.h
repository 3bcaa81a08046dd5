// AppendFile: a file that only grows, by groups that are on the disk when append() returns.
// Blocking: its owner calls it on a thread of its own, one call at a time.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace hulse::connectors::file {

class AppendFile {
 public:
  AppendFile() = default;
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  // Opens or makes `path`, takes its lock, and ends a last line that a crash tore: one that is not
  // complete JSON is cut if `json_lines` (its record was never acknowledged, so it comes again),
  // any other gets its newline. A new file's folder is synced too.
  Result<void> open(std::string path, bool json_lines);

  // Writes all of `bytes`; they count only after sync().
  Result<void> append(std::string_view bytes);
  // Everything appended is on the disk, or nothing of it counts and the file is as long as before.
  // Code::too_large: the disk or quota is full, try again later; any other error: open anew.
  Result<void> sync();
  // Forgets what was appended since the last sync().
  void discard();

  void close();
  const std::string& path() const { return path_; }

 private:
  Result<void> end_torn_line(bool json_lines);
  Error failure(std::string_view doing, int error) const;

  std::string path_;
  int fd_ = -1;
  bool regular_ = true;  // not a device such as /dev/null
  uint64_t synced_size_ = 0;
};

}  // namespace hulse::connectors::file

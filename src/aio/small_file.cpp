#include "aio/small_file.h"

#include <fmt/format.h>

#include <cerrno>
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

}  // namespace hulse::aio

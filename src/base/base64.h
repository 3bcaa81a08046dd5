// Base64 with the standard alphabet.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace hulse {

std::string base64_encode(std::string_view bytes);
// Nothing when `text` is not Base64. Padding may be missing.
std::optional<std::string> base64_decode(std::string_view text);

}  // namespace hulse

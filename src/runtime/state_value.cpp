#include "runtime/state_value.h"

#include <boost/endian/conversion.hpp>
#include <boost/json.hpp>
#include <cstring>

#include "base/base64.h"
#include "base/text.h"

namespace hulse::runtime {
namespace {

namespace json = boost::json;

constexpr int64_t kVersion = 1;

}  // namespace

std::string StateValue::as_bytes() const {
  if (!number) return bytes;
  const int64_t big = boost::endian::native_to_big(*number);
  return {reinterpret_cast<const char*>(&big), sizeof(big)};
}

Result<int64_t> StateValue::as_number() const {
  if (number) return *number;
  if (bytes.size() != sizeof(int64_t)) {
    return Error(Code::invalid,
                 fmt::format("the value of {} bytes is no number; a number has 8", bytes.size()));
  }
  int64_t big = 0;
  std::memcpy(&big, bytes.data(), sizeof(big));
  return boost::endian::big_to_native(big);
}

std::string StateValue::encode() const {
  json::object out{{"v", kVersion}};
  if (number) {
    out["number"] = *number;
  } else if (is_utf8(bytes)) {
    out["text"] = bytes;
  } else {
    out["base64"] = base64_encode(bytes);
  }
  return json::serialize(out);
}

Result<StateValue> StateValue::decode(std::string_view text) {
  const Error damaged(Code::corrupt, fmt::format("not a value: {}", text.substr(0, 100)));
  boost::system::error_code error;
  const auto parsed = json::parse(text, error);
  if (error || !parsed.is_object()) return damaged;
  const auto& object = parsed.get_object();
  const auto* version = object.if_contains("v");
  if (version == nullptr || *version != kVersion) {
    return Error(Code::corrupt, "a value of another version: a later Hulse wrote it; use that one");
  }
  StateValue value;
  if (const auto* number = object.if_contains("number")) {
    value.number = number->to_number<int64_t>(error);
    if (error) return damaged;
    return value;
  }
  const auto* plain = object.if_contains("text");
  const auto* coded = object.if_contains("base64");
  if (plain != nullptr && plain->is_string()) {
    value.bytes = plain->get_string();
    return value;
  }
  auto bytes = coded != nullptr && coded->is_string() ? base64_decode(coded->get_string())
                                                      : std::optional<std::string>();
  if (!bytes) return damaged;
  value.bytes = std::move(*bytes);
  return value;
}

}  // namespace hulse::runtime

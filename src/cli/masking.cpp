#include "cli/masking.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>

#include "base/secret.h"
#include "base/text.h"

namespace hulse::cli {
namespace {

namespace json = boost::json;

constexpr std::string_view kSensitive[] = {
    "password",  "passwd",     "passphrase", "secret", "token",   "authorization", "credential",
    "apikey",    "privatekey", "accesskey",  "cookie", "session", "cardnumber",    "creditcard",
    "debitcard", "cvv",        "cvc",        "iban",   "ssn",     "socialsecurity"};
// Whole names only: they stand inside of harmless ones ("discard", "spinning").
constexpr std::string_view kSensitiveAlone[] = {"card", "pan", "pin", "pwd", "auth", "otp"};

bool is_word_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-' || c == '.';
}

// Without control characters, which a terminal would obey.
std::string one_line(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (byte < ' ' || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

// `password=x`, `Authorization: Bearer x`, up to the end of the line or a separator.
std::string masked_text(std::string_view text) {
  std::string out;
  size_t at = 0;
  while (at < text.size()) {
    const size_t begin = at;
    while (at < text.size() && is_word_byte(text[at])) ++at;
    const auto name = text.substr(begin, at - begin);
    out += name;
    if (at == text.size()) break;
    size_t after = at;
    while (after < text.size() && (text[after] == ' ' || text[after] == '"' || text[after] == '\''))
      ++after;
    const bool assigns = after < text.size() && (text[after] == '=' || text[after] == ':');
    if (assigns && !name.empty() && is_sensitive_name(name)) {
      const size_t end = std::min(text.find_first_of("\n\r,;&|", after), text.size());
      out += text.substr(at, after + 1 - at);
      out += kRedacted;
      at = end;
      continue;
    }
    if (at == begin) out += text[at++];
  }
  return out;
}

std::string cut(std::string text, size_t bytes_max) {
  if (text.size() <= bytes_max) return text;
  size_t length = bytes_max;
  while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xc0) == 0x80) --length;
  const size_t all = text.size();
  text.resize(length);
  return fmt::format("{}… ({} bytes)", text, all);
}

}  // namespace

bool is_sensitive_name(std::string_view name) {
  std::string bare = to_lower(name);
  std::erase_if(bare, [](char c) { return c == '_' || c == '-' || c == '.' || c == ' '; });
  return std::any_of(std::begin(kSensitive), std::end(kSensitive),
                     [&](std::string_view word) { return bare.find(word) != std::string::npos; }) ||
         std::find(std::begin(kSensitiveAlone), std::end(kSensitiveAlone), bare) !=
             std::end(kSensitiveAlone);
}

json::value masked(const json::value& value) {
  if (const auto* object = value.if_object()) {
    json::object out;
    for (const auto& [key, item] : *object) {
      const bool covered = is_sensitive_name(key) && !item.is_null();
      out[key] = covered ? json::value(kRedacted) : masked(item);
    }
    return out;
  }
  if (const auto* list = value.if_array()) {
    json::array out;
    for (const auto& item : *list) out.push_back(masked(item));
    return out;
  }
  return value;
}

std::string shown_value(std::string_view bytes, size_t bytes_max) {
  const auto text = trim(bytes);
  if (!text.empty() && (text.front() == '{' || text.front() == '[')) {
    boost::system::error_code error;
    const auto value = json::parse(text, error);
    if (!error) return cut(json::serialize(masked(value)), bytes_max);
  }
  if (is_utf8(bytes)) return cut(one_line(masked_text(bytes)), bytes_max);
  std::string hex;
  for (size_t i = 0; i < bytes.size() && 3 * i < bytes_max; ++i)
    hex += fmt::format("{}{:02x}", i == 0 ? "" : " ", static_cast<unsigned char>(bytes[i]));
  return fmt::format("{} bytes: {}{}", bytes.size(), hex, 3 * bytes.size() > bytes_max ? " …" : "");
}

std::string printable(std::string_view text) {
  std::string out;
  for (const auto line : split(text, '\n')) {
    if (line.data() != text.data()) out += '\n';
    out += one_line(line);
  }
  while (out.ends_with('\n')) out.pop_back();
  return out;
}

}  // namespace hulse::cli

#include "connectors/file/line.h"

#include <fmt/format.h>

#include <boost/json/parse.hpp>
#include <iterator>

#include "base/text.h"

namespace hulse::connectors::file {
namespace {

void append_base64(std::string& out, std::string_view bytes) {
  constexpr const char* kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto at = [&](size_t i) -> uint32_t {
    return i < bytes.size() ? static_cast<uint8_t>(bytes[i]) : 0u;
  };
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const uint32_t group = at(i) << 16 | at(i + 1) << 8 | at(i + 2);
    out += kDigits[group >> 18];
    out += kDigits[group >> 12 & 63];
    out += i + 1 < bytes.size() ? kDigits[group >> 6 & 63] : '=';
    out += i + 2 < bytes.size() ? kDigits[group & 63] : '=';
  }
}

// `text` is UTF-8. Runs without anything to escape are copied as they are.
void append_quoted(std::string& out, std::string_view text) {
  out += '"';
  size_t run = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (static_cast<uint8_t>(c) >= 0x20 && c != '"' && c != '\\') continue;
    out.append(text, run, i - run);
    run = i + 1;
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default: fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<uint8_t>(c));
    }
  }
  out.append(text, run);
  out += '"';
}

bool is_text(std::string_view text) {
  // Most of what travels is ASCII; only the rest is worth the full check.
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
  return ascii || is_utf8(text);
}

void append_text(std::string& out, std::string_view name, std::string_view text) {
  out += '"';
  out += name;
  if (is_text(text)) {
    out += "\":";
    append_quoted(out, text);
  } else {
    out += "Base64\":\"";
    append_base64(out, text);
    out += '"';
  }
}

}  // namespace

void append_json_line(std::string& out, const Message& record, std::string_view topic) {
  out += '{';
  if (record.null_value) {
    out += "\"value\":null";
  } else {
    append_text(out, "value", record.value);
  }
  if (record.key) {
    out += ',';
    append_text(out, "key", *record.key);
  }
  if (!record.properties.empty()) {
    out += ",\"properties\":{";
    bool first = true;
    for (const auto& [name, value] : record.properties) {
      if (!first) out += ',';
      first = false;
      // Properties are text in Pulsar's protocol; what is not UTF-8 cannot be told from U+FFFD
      // here.
      out += json_quote(name);
      out += ':';
      out += json_quote(value);
    }
    out += '}';
  }
  if (record.event_time != 0) {
    fmt::format_to(std::back_inserter(out), ",\"eventTime\":{}", record.event_time);
  }
  fmt::format_to(std::back_inserter(out), ",\"publishTime\":{},\"topic\":", record.publish_time);
  append_quoted(out, topic);
  out += ",\"messageId\":\"";
  out += record.id.text();
  out += "\"}\n";
}

void append_raw_line(std::string& out, const Message& record) {
  out += record.value;
  out += '\n';
}

bool is_complete_json(std::string_view line) {
  boost::system::error_code error;
  boost::json::parse(boost::json::string_view(line.data(), line.size()), error);
  return !error;
}

}  // namespace hulse::connectors::file

#include "connectors/elastic_search/document.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/text.h"

namespace hulse::connectors::elastic_search {
namespace {

namespace json = boost::json;

constexpr size_t kIdBytesMax = 512;

bool is_control(char c) { return static_cast<uint8_t>(c) < 0x20 || c == 0x7f; }

bool has_controls(std::string_view text) {
  // Without an early end the compiler looks at many bytes at a time.
  bool found = false;
  for (const char c : text) found |= is_control(c);
  return found;
}

std::string sha256(std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned size = 0;
  EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha256(), nullptr);
  return fmt::format("{:02x}", fmt::join(digest.data(), digest.data() + size, ""));
}

}  // namespace

bool looks_like_an_object(std::string_view payload) {
  const auto text = trim(payload);
  return text.size() >= 2 && text.front() == '{' && text.back() == '}';
}

void append_document(std::string& out, std::string_view payload, bool strip) {
  if (!has_controls(payload)) {
    out += payload;
    return;
  }
  for (const char c : payload) {
    if (!is_control(c)) {
      out += c;
    } else if (!strip) {
      out += c == '\n' || c == '\r' ? ' ' : c;
    }
  }
}

void append_action(std::string& out, std::string_view action, std::string_view quoted_index,
                   const std::optional<std::string>& id) {
  out += "{\"";
  out += action;
  out += "\":{\"_index\":";
  out += quoted_index;
  if (id) {
    out += ",\"_id\":";
    out += json_quote(*id);
  }
  out += "}}\n";
}

std::string id_of_place(std::string_view bus_id, std::string_view topic, const MessageId& place) {
  // All topics that can be read again are persistent.
  constexpr std::string_view kScheme = "persistent://";
  if (topic.starts_with(kScheme)) topic.remove_prefix(kScheme.size());
  auto id = fmt::format("{}-{}-{}-{}-{}", bus_id, topic, place.ledger, place.entry,
                        std::max(place.batch_index, 0));
  return id.size() <= kIdBytesMax ? id : sha256(id);
}

Result<std::string> id_of_fields(std::string_view payload, std::span<const std::string> fields) {
  boost::system::error_code error;
  const auto document = json::parse(json::string_view(payload.data(), payload.size()), error);
  if (error || !document.is_object()) {
    return Error(Code::invalid, "its id cannot be made of primaryFields: it is not a JSON object");
  }
  const auto& object = document.get_object();
  for (const auto& field : fields) {
    if (!object.contains(field)) {
      return Error(Code::invalid,
                   fmt::format("its id cannot be made of primaryFields: it has no {}", field));
    }
  }
  if (fields.size() == 1) {
    const auto& value = object.at(fields[0]);
    return value.is_string() ? std::string(value.get_string()) : json::serialize(value);
  }
  json::array values;
  for (const auto& [name, value] : object) {
    const bool wanted =
        std::find(fields.begin(), fields.end(), std::string_view(name)) != fields.end();
    if (wanted) values.push_back(value);
  }
  return json::serialize(values);
}

}  // namespace hulse::connectors::elastic_search

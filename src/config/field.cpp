#include "config/field.h"

#include <fmt/format.h>

#include <boost/json/serialize.hpp>
#include <charconv>
#include <cmath>

#include "base/log.h"
#include "base/text.h"

namespace hulse::config {

namespace json = boost::json;

namespace {

// A long value says no more than its beginning, and an error is read on a terminal.
constexpr size_t kQuotedBytesMax = 60;

std::string quoted(std::string_view text) {
  if (text.size() <= kQuotedBytesMax) return json_quote(text);
  size_t length = kQuotedBytesMax;
  while (length > 0 && (static_cast<uint8_t>(text[length]) & 0xc0) == 0x80) --length;
  return json_quote(std::string(text.substr(0, length)) + "...");
}

std::string quoted(const json::value& value) {
  if (const auto* text = value.if_string()) return quoted(std::string_view(*text));
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  if (const auto* real = value.if_double()) return fmt::format("{}", *real);
  return json::serialize(value);
}

Error wrong(const json::value& value, std::string_view what) {
  return Error(Code::invalid, fmt::format("{} is not {}", quoted(value), what));
}

template <class Number>
std::optional<Number> number_in(std::string_view text) {
  text = trim(text);
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// Booleans and numbers are text to whoever asks for text: YAML makes them out of unquoted words.
std::optional<std::string> scalar_text(const json::value& value) {
  if (const auto* text = value.if_string()) return std::string(*text);
  if (value.is_number() || value.is_bool()) return json::serialize(value);
  return std::nullopt;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return to_lower(a) == to_lower(b);
}

std::string joined(std::span<const std::string_view> words) {
  std::string out;
  for (const auto word : words) {
    if (!out.empty()) out += ", ";
    out += word;
  }
  return out;
}

}  // namespace

namespace detail {

Result<std::string> to_text(const json::value& value) {
  auto text = scalar_text(value);
  if (!text) return wrong(value, "text");
  return std::move(*text);
}

Result<int64_t> to_integer(const Field& field, const json::value& value) {
  std::optional<int64_t> number;
  if (const auto* integer = value.if_int64()) {
    number = *integer;
  } else if (const auto* natural = value.if_uint64()) {
    if (*natural <= uint64_t(std::numeric_limits<int64_t>::max())) {
      number = static_cast<int64_t>(*natural);
    }
  } else if (const auto* real = value.if_double()) {
    if (std::trunc(*real) == *real && std::fabs(*real) < 9e15) number = static_cast<int64_t>(*real);
  } else if (const auto* text = value.if_string()) {
    number = number_in<int64_t>(*text);
  }
  if (!number) return wrong(value, "a whole number");
  if (*number >= field.min && *number <= field.max) return *number;
  // Where the type alone bounds the field above, that bound is of no use to a reader.
  const bool open_above = field.max == std::numeric_limits<int64_t>::max() ||
                          field.max == std::numeric_limits<int32_t>::max();
  if (open_above && *number < field.min) {
    return Error(Code::invalid, fmt::format("{} is too small; at least {}", *number, field.min));
  }
  return Error(Code::invalid,
               fmt::format("{} is not in the range {} to {}", *number, field.min, field.max));
}

Result<double> to_real(const Field& field, const json::value& value) {
  std::optional<double> number;
  if (value.is_number()) {
    number = value.to_number<double>();
  } else if (const auto* text = value.if_string()) {
    number = number_in<double>(*text);
  }
  if (!number || !std::isfinite(*number)) return wrong(value, "a number");
  if (*number < static_cast<double>(field.min)) {
    return Error(Code::invalid, fmt::format("{} is too small; at least {}", *number, field.min));
  }
  if (*number > static_cast<double>(field.max)) {
    return Error(Code::invalid, fmt::format("{} is too large; at most {}", *number, field.max));
  }
  return *number;
}

Result<bool> to_boolean(const json::value& value) {
  if (const auto* boolean = value.if_bool()) return *boolean;
  if (const auto* text = value.if_string()) {
    const auto word = to_lower(trim(*text));
    if (word == "true") return true;
    if (word == "false") return false;
  }
  return wrong(value, "true or false");
}

Result<size_t> to_choice(const Field& field, const json::value& value) {
  const auto text = scalar_text(value);
  if (text) {
    const auto word = trim(*text);
    for (size_t i = 0; i < field.choices.size(); ++i) {
      if (word == field.choices[i]) return i;
      if (field.any_case && equal_ignoring_case(word, field.choices[i])) return i;
    }
  }
  return wrong(value, "one of " + joined(field.choices));
}

Result<std::vector<std::string>> to_list(const json::value& value) {
  std::vector<std::string> out;
  if (const auto* array = value.if_array()) {
    for (const auto& item : *array) {
      auto text = scalar_text(item);
      if (!text) return wrong(item, "text, as every item of this list is");
      out.push_back(std::move(*text));
    }
    return out;
  }
  const auto text = scalar_text(value);
  if (!text) return wrong(value, "a list");
  for (const auto part : split(*text, ',')) {
    const auto item = trim(part);
    if (!item.empty()) out.emplace_back(item);
  }
  return out;
}

Result<std::map<std::string, std::string>> to_map(const json::value& value) {
  const auto* object = value.if_object();
  if (object == nullptr) return wrong(value, "a map of texts");
  std::map<std::string, std::string> out;
  for (const auto& [key, item] : *object) {
    auto text = scalar_text(item);
    if (!text)
      return Error(Code::invalid,
                   fmt::format("the value of {} is not text", quoted(std::string_view(key))));
    out.emplace(key, std::move(*text));
  }
  return out;
}

Result<Secret> to_secret(const json::value& value) {
  auto text = scalar_text(value);
  if (!text) return Error(Code::invalid, "the value is not text");
  return Secret(std::move(*text));
}

std::string shown(const std::string& value) { return value; }
std::string shown(int64_t value) { return std::to_string(value); }
std::string shown(double value) { return fmt::format("{}", value); }
std::string shown(bool value) { return value ? "true" : "false"; }
std::string shown(const std::vector<std::string>& value) {
  return fmt::format("{}", fmt::join(value, ","));
}
std::string shown(const std::map<std::string, std::string>& value) {
  std::string out;
  for (const auto& [key, item] : value) {
    if (!out.empty()) out += ',';
    out += key + "=" + item;
  }
  return out;
}

namespace {

// How `key` names a field.
enum class Spelling { none, exact, alias, deprecated };

Spelling spelling_of(const Field& field, std::string_view key) {
  const auto is_in = [&](std::span<const std::string_view> keys) {
    return std::find(keys.begin(), keys.end(), key) != keys.end();
  };
  if (key == field.key) return Spelling::exact;
  if (is_in(field.alias_keys)) return Spelling::alias;
  if (is_in(field.deprecated_keys)) return Spelling::deprecated;
  return Spelling::none;
}

const Field* find(std::span<const Field> fields, std::string_view key) {
  for (const auto& field : fields) {
    if (spelling_of(field, key) != Spelling::none) return &field;
  }
  return nullptr;
}

bool is_prefix_of_a_key(std::span<const Field> fields, std::string_view prefix) {
  return std::any_of(fields.begin(), fields.end(), [&](const Field& field) {
    return field.key.size() > prefix.size() && field.key.starts_with(prefix) &&
           field.key[prefix.size()] == '.';
  });
}

using Flat = std::vector<std::pair<std::string, const json::value*>>;

// {"ssl": {"enabled": true}} as "ssl.enabled", where the table has such keys.
void flatten(std::span<const Field> fields, const std::string& prefix, const json::object& object,
             Flat& out) {
  for (const auto& [name, value] : object) {
    const std::string key = prefix + std::string(name);
    const auto* nested = value.if_object();
    if (nested != nullptr && find(fields, key) == nullptr && is_prefix_of_a_key(fields, key)) {
      flatten(fields, key + ".", *nested, out);
    } else {
      out.emplace_back(key, &value);
    }
  }
}

std::string unknown_key(std::span<const Field> fields, std::string_view key) {
  std::vector<std::string_view> known;
  for (const auto& field : fields) {
    if (field.kind != Kind::unsupported) known.push_back(field.key);
  }
  // The same letters in another spelling ("elastic_search_url") are nearer than any edit distance.
  const auto bare = [](std::string_view text) {
    std::string out = to_lower(text);
    std::erase_if(out, [](char c) { return c == '_' || c == '-' || c == '.'; });
    return out;
  };
  auto meant = nearest(key, known);
  for (const auto candidate : known) {
    if (bare(candidate) == bare(key)) meant = candidate;
  }
  if (meant) return fmt::format("unknown key; did you mean {}?", *meant);
  if (known.empty()) return "unknown key; this connector has none";
  return "unknown key; known are " + joined(known);
}

bool is_empty(const Field& field, const json::value& value) {
  if (field.kind == Kind::list && value.is_array()) return value.get_array().empty();
  if (field.kind == Kind::map) return value.is_object() && value.get_object().empty();
  return value.is_string() && trim(value.get_string()).empty();
}

void take(const Field& field, const json::value& value, bool secret, void* object,
          Problems& problems) {
  if (field.kind == Kind::unsupported) {
    // Tools send empty maps and lists for what was not given.
    const bool nothing = (value.is_object() && value.get_object().empty()) ||
                         (value.is_array() && value.get_array().empty());
    if (nothing) return;
    if (scalar_text(value) != field.example_text) problems.add(field.key, field.help);
    return;
  }
  if (field.is_required && is_empty(field, value)) {
    problems.add(field.key, "required, but empty");
    return;
  }
  auto done = field.assign(field, value, object);
  if (done && field.kind == Kind::text && !field.choices.empty()) {
    // The struct gets the declared spelling, so that nobody compares letter cases later.
    auto choice = to_choice(field, value);
    if (choice) {
      done = field.assign(field, json::value(field.choices[*choice]), object);
    } else {
      done = std::move(choice).error();
    }
  }
  // The words of an error quote the value: not where the value is a secret.
  if (!done)
    problems.add(field.key, secret ? "the secret's value cannot be used" : done.error().text());
}

}  // namespace

void fill(std::span<const Field> fields, const Given& given, void* object, Problems& problems) {
  Flat flat;
  flatten(fields, "", given.values, flat);
  Flat flat_secrets;
  flatten(fields, "", given.secrets, flat_secrets);

  struct Chosen {
    std::string key;
    const json::value* value = nullptr;
    bool secret = false;
  };
  std::map<const Field*, Chosen> chosen;
  const auto choose = [&](const std::string& key, const json::value* value, bool secret) {
    const Field* field = find(fields, key);
    if (field == nullptr) {
      problems.add(key, unknown_key(fields, key));
      return;
    }
    if (value->is_null()) return;  // YAML's "key:" and Jackson's null: not given
    auto& slot = chosen[field];
    if (slot.value != nullptr && slot.secret == secret) {
      problems.add(field->key, fmt::format("given twice, as {} and as {}", slot.key, key));
      return;
    }
    if (spelling_of(*field, key) == Spelling::deprecated) {
      log::warn("config", "{} is an old name of {}; please use {}", key, field->key, field->key);
    }
    slot = {key, value, secret};
  };
  for (const auto& [key, value] : flat) choose(key, value, false);
  for (const auto& [key, value] : flat_secrets) choose(key, value, true);

  for (const auto& field : fields) {
    const auto found = chosen.find(&field);
    const bool present = found != chosen.end() && found->second.value != nullptr;
    if (present) {
      const bool secret = found->second.secret || field.sensitive();
      take(field, *found->second.value, secret, object, problems);
    } else if (field.is_required) {
      problems.add(field.key, "required, but missing");
    }
  }
}

}  // namespace detail

void Problems::add(std::string_view key, std::string_view text) {
  if (!keys_.insert(std::string(key)).second) return;
  lines_.push_back(fmt::format("{}: {}", key, text));
}

Error Problems::error() const {
  return Error(Code::invalid, fmt::format("{}", fmt::join(lines_, "\n")));
}

json::array definition(std::span<const Field> fields) {
  json::array out;
  for (const auto& field : fields) {
    if (field.kind == Kind::unsupported) continue;
    json::object attributes;
    attributes["required"] = field.is_required ? "true" : "false";
    attributes["defaultValue"] = field.default_value();
    attributes["sensitive"] = field.sensitive() ? "true" : "false";
    attributes["help"] = field.help;
    json::object row;
    row["fieldName"] = field.key;
    row["typeName"] = field.type_name;
    row["attributes"] = std::move(attributes);
    out.push_back(std::move(row));
  }
  return out;
}

namespace {
// "http://user:password@host/" as "http://********@host/", wherever it stands in `text`.
std::string without_credentials(std::string_view text) {
  std::string out;
  for (;;) {
    const size_t scheme = text.find("://");
    if (scheme == std::string_view::npos) return out += text;
    const size_t host = scheme + 3;
    const size_t end = text.find_first_of("/?#, ", host);
    const size_t at = text.substr(0, end).rfind('@');
    out += text.substr(0, host);
    const bool has = at != std::string_view::npos && at >= host;
    if (has) out += kRedacted;
    text.remove_prefix(has ? at : host);
  }
}

json::value without_credentials(const json::value& value) {
  if (const auto* text = value.if_string()) {
    return json::value(without_credentials(std::string_view(*text)));
  }
  if (const auto* list = value.if_array()) {
    json::array out;
    for (const auto& item : *list) out.push_back(without_credentials(item));
    return out;
  }
  if (const auto* object = value.if_object()) {
    json::object out;
    for (const auto& [key, item] : *object) out[key] = without_credentials(item);
    return out;
  }
  return value;
}

json::object redacted_under(std::span<const Field> fields, const std::string& prefix,
                            const json::object& values) {
  json::object out;
  for (const auto& [name, value] : values) {
    const std::string key = prefix + std::string(name);
    const Field* field = detail::find(fields, key);
    if (field == nullptr && value.is_object() && detail::is_prefix_of_a_key(fields, key)) {
      out[name] = redacted_under(fields, key + ".", value.get_object());
    } else if (field == nullptr || field->sensitive()) {
      out[name] = value.is_null() ? json::value(nullptr) : json::value(kRedacted);
    } else {
      out[name] = without_credentials(value);
    }
  }
  return out;
}
}  // namespace

json::object redacted(std::span<const Field> fields, const json::object& values) {
  return redacted_under(fields, "", values);
}

}  // namespace hulse::config

#include "config/secret_reference.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/object.hpp>

namespace hulse::config {

namespace json = boost::json;

namespace {

constexpr std::string_view kEnvironment = "env:";
constexpr std::string_view kFile = "file:";
constexpr std::string_view kLiteral = "literal:";
constexpr const char* kEscape =
    "; a secret that begins like this is written with literal: before it";

bool is_name_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

Result<std::optional<SecretReference>> of_object(const json::object& object) {
  const auto* path = object.if_contains("path");
  const auto* key = object.if_contains("key");
  const bool complete = object.size() == 2 && path != nullptr && path->is_string() &&
                        key != nullptr && key->is_string();
  if (!complete) {
    return Error(
        Code::invalid,
        "a secret is text, or {path, key}: a folder and a file in it, or a JSON file and a "
        "member of it");
  }
  SecretReference out{SecretReference::From::file, std::string(path->get_string()),
                      std::string(key->get_string())};
  if (!out.name.starts_with('/')) {
    return Error(Code::invalid,
                 "path: the folder (or JSON file) the secret lies in, as an absolute path");
  }
  if (out.key.empty() || out.key.find('/') != std::string::npos)
    return Error(Code::invalid, "key: the name of a file in path, without a slash");
  return std::optional(std::move(out));
}

}  // namespace

std::string SecretReference::text() const {
  switch (from) {
    case From::environment: return fmt::format("env:{}", name);
    case From::file: return key.empty() ? "file:" + name : fmt::format("file:{} key {}", name, key);
    case From::literal: return "literal";
  }
  return {};
}

Result<std::optional<SecretReference>> parse_reference(const json::value& value) {
  using From = SecretReference::From;
  if (const auto* object = value.if_object()) return of_object(*object);
  const auto* given = value.if_string();
  if (given == nullptr) return std::optional<SecretReference>();
  const std::string_view text = *given;
  if (text.starts_with(kLiteral))
    return std::optional(
        SecretReference{From::literal, std::string(text.substr(kLiteral.size())), {}});
  if (text.starts_with(kEnvironment)) {
    const auto name = text.substr(kEnvironment.size());
    const bool fits = !name.empty() && (name[0] < '0' || name[0] > '9') &&
                      std::all_of(name.begin(), name.end(), is_name_byte);
    if (!fits) {
      return Error(
          Code::invalid,
          fmt::format("what follows env: is no name of an environment variable{}", kEscape));
    }
    return std::optional(SecretReference{From::environment, std::string(name), {}});
  }
  if (text.starts_with(kFile)) {
    auto path = text.substr(kFile.size());
    if (path.starts_with("///")) path.remove_prefix(2);  // file:///path
    if (!path.starts_with('/') || path.starts_with("//"))
      return Error(Code::invalid, fmt::format("what follows file: is no absolute path{}", kEscape));
    return std::optional(SecretReference{From::file, std::string(path), {}});
  }
  return std::optional<SecretReference>();
}

bool is_reference(const json::value& value) {
  const auto parsed = parse_reference(value);
  return parsed && *parsed && (*parsed)->from != SecretReference::From::literal;
}

Given without_references(std::span<const Field> fields, Given given, Problems& problems) {
  const auto replace = [&](const std::string& key, json::value& value) {
    const auto parsed = parse_reference(value);
    if (!parsed) {
      problems.add(key, parsed.error().text());
      value = kRedacted;
    } else if (*parsed) {
      value = kRedacted;
    }
  };
  visit_secrets(fields, given.values, replace);
  for (auto& [name, value] : given.secrets) {
    const std::string key(name);
    const auto* field = detail::find(fields, key);
    const bool takes_text = field == nullptr || field->kind == Kind::secret ||
                            (field->kind == Kind::text && field->choices.empty());
    if (is_reference(value) && !takes_text) {
      problems.add(key, "only a text can be given as a secret's reference; write it into configs");
      value = nullptr;
      continue;
    }
    replace(key, value);
  }
  return given;
}

}  // namespace hulse::config

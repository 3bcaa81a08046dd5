#include "runtime/secrets.h"

#include <boost/json.hpp>
#include <cstdlib>
#include <filesystem>

#include "aio/small_file.h"
#include "config/secret_reference.h"

namespace hulse::runtime {
namespace {

namespace json = boost::json;
namespace fs = std::filesystem;

// Links are followed first: Kubernetes mounts secrets as links within their folder.
Result<void> check_inside(const std::string& path, const std::string& directory) {
  if (directory.empty()) return {};
  std::error_code error;
  const auto inside = fs::weakly_canonical(path, error);
  if (error) return Error(Code::invalid, fmt::format("cannot read {}: {}", path, error.message()));
  const auto root = fs::weakly_canonical(directory, error);
  if (error)
    return Error(Code::invalid, fmt::format("secretsDirectory {}: {}", directory, error.message()));
  const auto relative = inside.lexically_relative(root);
  if (relative.empty() || *relative.begin() == "..") {
    return Error(Code::invalid, fmt::format("{} is not below {}, where this server's secrets lie "
                                            "(secretsDirectory)",
                                            path, directory));
  }
  return {};
}

Result<std::string> read_file(std::string path, std::string key, const SecretSources& sources) {
  std::error_code ignored;
  if (!key.empty() && fs::is_directory(path, ignored)) {
    path += "/" + key;
    key.clear();
  }
  const auto inside = check_inside(path, sources.directory);
  if (!inside) return inside.error();
  // A pipe would hold whoever opens it until somebody writes.
  if (fs::exists(path, ignored) && !fs::is_regular_file(path, ignored))
    return Error(Code::invalid, fmt::format("{} is no regular file", path));
  auto text = aio::read_small_file(path);
  if (!text) return Error(Code::invalid, text.error().text());
  if (!key.empty()) {
    boost::system::error_code error;
    const auto value = json::parse(*text, error);
    const auto* found = !error && value.is_object() ? value.get_object().if_contains(key) : nullptr;
    if (found == nullptr || !found->is_string()) {
      return Error(Code::invalid,
                   fmt::format("{} is neither a folder nor a JSON file with a text {}", path, key));
    }
    return std::string(found->get_string());
  }
  // Editors end a file with a line's end; no password does.
  if (text->ends_with('\n')) text->pop_back();
  if (text->ends_with('\r')) text->pop_back();
  if (text->empty()) return Error(Code::invalid, fmt::format("{} is empty", path));
  return text;
}

}  // namespace

Result<std::string> resolve_secret(const json::value& value, const SecretSources& sources) {
  using From = config::SecretReference::From;
  const auto reference = config::parse_reference(value);
  if (!reference) return reference.error();
  if (!*reference) {
    if (value.is_string()) return std::string(value.get_string());
    return json::serialize(value);
  }
  const auto& where = **reference;
  if (where.from == From::literal) return where.name;
  if (where.from == From::file) return read_file(where.name, where.key, sources);
  if (!where.name.starts_with(sources.environment_prefix)) {
    return Error(Code::invalid,
                 fmt::format("the environment variable {} does not begin with {}, as those of this "
                             "server's secrets do (secretsEnvironmentPrefix)",
                             where.name, sources.environment_prefix));
  }
  const char* text = std::getenv(where.name.c_str());
  if (text == nullptr || *text == '\0') {
    return Error(
        Code::invalid,
        fmt::format("the environment variable {} is not set where the connector runs", where.name));
  }
  return std::string(text);
}

Result<config::Given> resolve_secrets(std::span<const config::Field> fields, config::Given given,
                                      const SecretSources& sources) {
  config::Problems problems;
  const auto look_up = [&](const std::string& key, json::value& value) {
    if (value.is_null()) return;
    auto secret = resolve_secret(value, sources);
    if (secret) {
      value = *secret;
    } else {
      problems.add(key, secret.error().text());
    }
  };
  config::visit_secrets(fields, given.values, look_up);
  for (auto& [name, value] : given.secrets) look_up(std::string(name), value);
  if (!problems.empty()) return problems.error();
  return given;
}

}  // namespace hulse::runtime

#include "cli/component_files.h"

#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>

#include "cli/yaml.h"
#include "runtime/component.h"

namespace hulse::cli {

std::string ComponentFile::text(const char* key, const char* otherwise) const {
  const auto* value = config.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string())
                                                : std::string(otherwise);
}

std::string ComponentFile::label() const {
  return fmt::format("{} {}/{}/{}", connect::to_string(kind), text("tenant", "public"),
                     text("namespace", "default"), text("name", "(without a name)"));
}

Result<ComponentFile> read_component_file(const std::string& path) {
  auto object = read_yaml_object(path);
  if (!object) return object.error();
  constexpr connect::Kind kKinds[] = {connect::Kind::source, connect::Kind::sink,
                                      connect::Kind::function};
  std::vector<std::string_view> keys[3];
  for (size_t i = 0; i < 3; ++i) keys[i] = runtime::component_keys(kKinds[i]);
  size_t votes[3] = {};
  for (const auto& [key, value] : *object) {
    bool has[3];
    for (size_t i = 0; i < 3; ++i)
      has[i] = std::find(keys[i].begin(), keys[i].end(), std::string_view(key)) != keys[i].end();
    // A key that two of them have speaks against the third.
    for (size_t i = 0; i < 3; ++i) votes[i] += has[i] && !(has[0] && has[1] && has[2]) ? 1 : 0;
  }
  const auto* most = std::max_element(std::begin(votes), std::end(votes));
  if (std::count(std::begin(votes), std::end(votes), *most) != 1) {
    return Error(Code::invalid,
                 fmt::format("{}: it cannot be told whether this is a sink (sinkType), a source "
                             "(topicName, sourceType) or a function (functionType, output)",
                             path));
  }
  return ComponentFile{path, kKinds[most - votes], std::move(*object)};
}

Result<std::vector<std::string>> component_files(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return std::vector{path};
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    const auto ending = entry.path().extension();
    if (ending == ".yaml" || ending == ".yml" || ending == ".json")
      out.push_back(entry.path().string());
  }
  if (error) return Error(Code::io, fmt::format("{}: {}", path, error.message()));
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace hulse::cli

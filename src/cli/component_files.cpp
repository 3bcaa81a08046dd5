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
  const auto sink_keys = runtime::component_keys(connect::Kind::sink);
  const auto source_keys = runtime::component_keys(connect::Kind::source);
  const auto has = [](const std::vector<std::string_view>& keys, std::string_view key) {
    return std::find(keys.begin(), keys.end(), key) != keys.end();
  };
  size_t of_sink = 0;
  size_t of_source = 0;
  for (const auto& [key, value] : *object) {
    const bool sink = has(sink_keys, key);
    const bool source = has(source_keys, key);
    if (sink && !source) ++of_sink;
    if (source && !sink) ++of_source;
  }
  if (of_sink == of_source) {
    return Error(Code::invalid,
                 fmt::format("{}: it cannot be told whether this is a sink (inputs, sinkType) or a "
                             "source (topicName, sourceType)",
                             path));
  }
  return ComponentFile{path, of_sink > of_source ? connect::Kind::sink : connect::Kind::source,
                       std::move(*object)};
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

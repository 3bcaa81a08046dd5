#include "cli/yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <boost/json.hpp>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/text.h"

namespace hulse::cli {
namespace {

namespace json = boost::json;

constexpr int kDepthMax = 100;

Error at(const std::string& name, const YAML::Mark& mark, std::string_view what) {
  if (mark.is_null()) return Error(Code::invalid, fmt::format("{}: {}", name, what));
  return Error(Code::invalid, fmt::format("{}, line {}, column {}: {}", name, mark.line + 1,
                                          mark.column + 1, what));
}

json::value scalar(const YAML::Node& node) {
  const std::string& text = node.Scalar();
  if (node.Tag() == "!") return json::value(text);  // it was quoted
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL")
    return nullptr;
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  const char* end = text.data() + text.size();
  int64_t whole = 0;
  if (const auto [stop, error] = std::from_chars(text.data(), end, whole);
      error == std::errc() && stop == end) {
    return whole;
  }
  double real = 0;
  const bool looks_real = text.find_first_not_of("0123456789+-.eE") == std::string::npos;
  if (const auto [stop, error] = std::from_chars(text.data(), end, real);
      looks_real && error == std::errc() && stop == end) {
    return real;
  }
  return json::value(text);
}

Result<json::value> convert(const YAML::Node& node, const std::string& name, int depth) {
  if (depth > kDepthMax) return at(name, node.Mark(), "nested too deeply");
  switch (node.Type()) {
    case YAML::NodeType::Undefined:
    case YAML::NodeType::Null: return json::value(nullptr);
    case YAML::NodeType::Scalar: return scalar(node);
    case YAML::NodeType::Sequence: {
      json::array array;
      for (const auto& item : node) {
        auto value = convert(item, name, depth + 1);
        if (!value) return value.error();
        array.push_back(std::move(*value));
      }
      return json::value(std::move(array));
    }
    case YAML::NodeType::Map: {
      json::object object;
      for (const auto& item : node) {
        if (!item.first.IsScalar())
          return at(name, item.first.Mark(), "a key that is not a plain word");
        const std::string key = item.first.Scalar();
        if (object.contains(key))
          return at(name, item.first.Mark(), fmt::format("the key {} stands twice", key));
        auto value = convert(item.second, name, depth + 1);
        if (!value) return value.error();
        object[key] = std::move(*value);
      }
      return json::value(std::move(object));
    }
  }
  return at(name, node.Mark(), "cannot be read");
}

}  // namespace

Result<json::object> parse_yaml_object(const std::string& text, const std::string& name) {
  YAML::Node node;
  try {
    node = YAML::Load(text);
  } catch (const YAML::Exception& exception) {
    return at(name, exception.mark, exception.msg);
  }
  auto value = convert(node, name, 0);
  if (!value) return value.error();
  if (value->is_null()) return json::object();
  if (!value->is_object())
    return Error(Code::invalid, fmt::format("{}: a map of keys and values is expected", name));
  return std::move(value->get_object());
}

Result<json::object> read_yaml_object(const std::string& path) {
  if (std::filesystem::is_directory(path)) {
    return Error(Code::invalid, fmt::format("{} is a directory; a file is expected", path));
  }
  std::ifstream file(path);
  if (!file)
    return Error(Code::not_found, fmt::format("cannot read {}: {}", path, errno_text(errno)));
  std::stringstream text;
  text << file.rdbuf();
  if (trim(text.str()).empty()) return Error(Code::invalid, fmt::format("{} is empty", path));
  return parse_yaml_object(text.str(), path);
}

Result<json::object> inline_or_file(const std::string& option, const std::string& text) {
  if (!trim(text).starts_with('{')) {
    auto read = read_yaml_object(text);
    if (!read) return read.error().with(option);
    return read;
  }
  boost::system::error_code error;
  auto value = json::parse(text, error);
  if (error || !value.is_object()) {
    return Error(Code::invalid, fmt::format("{}: not a JSON object: {}", option,
                                            error ? error.message() : "another kind of value"));
  }
  return std::move(value.get_object());
}

}  // namespace hulse::cli

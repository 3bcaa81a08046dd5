// Files that describe a sink, a source or a function each: a SinkConfig, a SourceConfig or a
// FunctionConfig, in YAML or JSON.
#pragma once

#include <boost/json/object.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "connect/descriptor.h"

namespace hulse::cli {

struct ComponentFile {
  std::string path;
  connect::Kind kind = connect::Kind::sink;
  boost::json::object config;

  std::string text(const char* key, const char* otherwise) const;  // a field that is a text
  // "sink public/default/x"
  std::string label() const;
};

// Which of the three it is, from the keys only one of them has. Code::invalid when that cannot be
// told.
Result<ComponentFile> read_component_file(const std::string& path);

// The files of a folder that end in .yaml, .yml or .json, sorted; a file stands for itself.
Result<std::vector<std::string>> component_files(const std::string& path);

}  // namespace hulse::cli

// The flags that describe a sink, a source or a function, as pulsar-admin has them, and the
// SinkConfig, SourceConfig or FunctionConfig they make.
#pragma once

#include <boost/json/object.hpp>
#include <map>
#include <string>
#include <vector>

#include "connect/descriptor.h"

namespace CLI {
class App;
}

namespace hulse::cli {

// How the value of a flag gets into the configuration.
enum class Shape { text, list, object, flag, resource, window };

struct Flag {
  const char* names;
  const char* key;
  const char* help;
  Shape shape = Shape::text;
};

// What was typed. Lives as long as the command.
struct ComponentWords {
  connect::Kind kind;
  std::vector<Flag> flags;
  std::map<std::string, std::string> values;  // by configuration key
  std::map<std::string, bool> switches;
  std::string config;
  std::string config_file;

  // What takes the connector's or function's own configuration.
  const char* config_option() const {
    constexpr const char* kOptions[] = {"--source-config", "--sink-config", "--user-config"};
    return kOptions[static_cast<size_t>(kind)];
  }
  // What takes a file of the whole.
  const char* file_option() const {
    constexpr const char* kOptions[] = {"--source-config-file", "--sink-config-file",
                                        "--function-config-file"};
    return kOptions[static_cast<size_t>(kind)];
  }
};

void add_component_flags(CLI::App& app, ComponentWords& words);

// The flags over the file, field by field. What cannot be read is added to `problems`, a line each;
// what was decided on the way to `notes`.
boost::json::object gather(ComponentWords& words, std::string& problems,
                           std::vector<std::string>& notes);

void collect(std::string& problems, const std::string& text);

// "name: required" becomes "name (--name): required": who types flags looks for flags.
std::string with_flags(const ComponentWords& words, const std::string& problems);

}  // namespace hulse::cli

// What the files that read configurations of components share. Internal.
#pragma once

#include <boost/json/object.hpp>
#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/text.h"
#include "runtime/component.h"

namespace hulse::runtime {

inline constexpr std::string_view kGuarantees[] = {"ATMOST_ONCE", "ATLEAST_ONCE",
                                                   "EFFECTIVELY_ONCE"};
inline constexpr std::string_view kPositions[] = {"Latest", "Earliest"};
inline constexpr std::string_view kBatchBuilders[] = {"", "DEFAULT", "KEY_BASED"};
inline constexpr std::string_view kLater = "this version of Hulse does not have it yet";

enum class Position { latest, earliest };

struct Common {
  std::string tenant = "public";
  std::string name_space = "default";
  std::string name;
  std::string class_name;
  std::string archive;
  int64_t parallelism = 1;
  connect::Guarantee guarantee = connect::Guarantee::at_least_once;
  std::string runtime_flags;
  std::string log_topic;
};

// Of what reads topics: sinks and functions.
struct ReadingFields : Common {
  std::string subscription;
  Position position = Position::latest;
  std::vector<std::string> inputs;
  std::string topics_pattern;
  bool retain_ordering = false;
  bool retain_key_ordering = false;
  std::optional<int64_t> retries;
  std::string dead_letter_topic;
  bool auto_ack = true;
  bool cleanup = true;
  std::optional<int64_t> timeout_ms;
};

// Collects the lines of several errors.
struct Problems {
  std::string text;
  void add(std::string_view prefix, const Error& error) {
    const std::string lines = error.text();
    for (const auto line : split(lines, '\n')) {
      if (!text.empty()) text += '\n';
      text += prefix;
      text += line;
    }
  }
  void add(std::string line) { add("", Error(Code::invalid, std::move(line))); }
};

// ---- component.cpp

std::string text_of(const boost::json::object& object, std::string_view key);  // or empty
// An object, or text that is one in JSON.
Result<boost::json::object> object_of(std::string_view key, const boost::json::value& value);
void check_topic(std::string_view key, const std::string& topic, Problems& problems);
// The name of the component becomes part of topic and subscription names.
void check_names(const Common& common, Problems& problems);
void fill(const Common& common, Component& component);
// inputs, topicsPattern and inputSpecs name the topics together.
void take_inputs(const boost::json::object& specs, const ReadingFields& fields,
                 Component& component, Problems& problems);
// Everything else of ReadingFields.
void take_reading(const ReadingFields& fields, Component& component, Problems& problems);
void take_producer(const boost::json::object& given, Component& component, Problems& problems);

// ---- component_function.cpp

std::span<const config::Field> function_fields();
// `object` is a FunctionConfig without its objects, which are handed in.
void parse_function(const boost::json::object& object, const boost::json::object& specs,
                    Component& component, std::vector<std::string>& notes, Problems& problems);

}  // namespace hulse::runtime

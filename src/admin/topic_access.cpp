// Whether who creates a component may use its topics: a component runs with the worker's rights,
// and must not lend them.
#include "admin/rest_common.h"
#include "base/text.h"

namespace hulse::admin {
namespace {

struct Topics {
  std::vector<std::string> read;
  std::vector<std::string> written;
};

void add(std::vector<std::string>& to, std::string_view topic) {
  if (!trim(topic).empty()) to.emplace_back(trim(topic));
}

// A pattern is as wide as its namespace.
void add_pattern(std::vector<std::string>& to, std::string_view pattern) {
  const auto parts = split(pattern, '/');
  if (parts.size() >= 5 && pattern.find("://") != std::string_view::npos) {
    to.push_back(fmt::format("{}//{}/{}/*", parts[0], parts[2], parts[3]));
  } else if (parts.size() >= 3) {
    to.push_back(fmt::format("persistent://{}/{}/*", parts[0], parts[1]));
  } else if (!pattern.empty()) {
    to.emplace_back("persistent://public/default/*");
  }
}

std::string_view text_of(const json::value& value) {
  return value.is_string() ? std::string_view(value.get_string()) : std::string_view();
}

// Every key of Pulsar's configurations that names topics, of all kinds of components.
Topics topics_of(const json::object& config) {
  Topics out;
  for (const auto& [key, value] : config) {
    const std::string_view name = key;
    if (name == "inputs") {
      if (value.is_array()) {
        for (const auto& one : value.get_array()) add(out.read, text_of(one));
      } else {
        for (const auto one : split(text_of(value), ',')) add(out.read, one);
      }
    } else if (name == "topicsPattern") {
      add_pattern(out.read, text_of(value));
    } else if (name == "inputSpecs" || name == "topicToSerdeClassName" ||
               name == "topicToSchemaType" || name == "customSerdeInputs" ||
               name == "customSchemaInputs") {
      json::value object = value;
      if (value.is_string()) {
        boost::system::error_code error;
        object = json::parse(text_of(value), error);
      }
      if (!object.is_object()) continue;
      for (const auto& [topic, spec] : object.get_object()) {
        bool pattern = false;
        for (const char* flag : {"isRegexPattern", "regexPattern"}) {
          const auto* given = spec.is_object() ? spec.get_object().if_contains(flag) : nullptr;
          pattern = pattern || (given != nullptr && *given != false && *given != "false");
        }
        if (pattern) {
          add_pattern(out.read, topic);
        } else {
          add(out.read, topic);
        }
      }
    } else if (name == "topicName" || name == "output" || name == "deadLetterTopic" ||
               name == "logTopic") {
      add(out.written, text_of(value));
    }
  }
  return out;
}

}  // namespace

aio::Task<std::optional<aio::HttpResponse>> forbid_topics(const Call& call, json::object config) {
  if (!call.caller.may_use) co_return std::nullopt;
  const auto topics = topics_of(config);
  for (const bool write : {false, true}) {
    for (const auto& topic : write ? topics.written : topics.read) {
      const bool may = co_await call.caller.may_use(topic, write);
      if (may) continue;
      co_return refuse(
          403, fmt::format("the role \"{}\" may not {} {}, so it may not let a component do it",
                           call.caller.role, write ? "produce to" : "consume from", topic));
    }
  }
  co_return std::nullopt;
}

}  // namespace hulse::admin

#include "runtime/component_edit.h"

#include <boost/json.hpp>

#include "base/secret.h"
#include "config/secret_reference.h"
#include "wire/topic_name.h"

namespace hulse::runtime {
namespace {

namespace json = boost::json;

// Topic names are equal in every spelling.
std::string full_topic(std::string_view text) {
  const auto name = wire::TopicName::parse(text);
  return name ? name->text() : std::string(text);
}

std::vector<std::string> full_topics(const std::vector<std::string>& topics) {
  std::vector<std::string> out;
  for (const auto& topic : topics) out.push_back(full_topic(topic));
  std::sort(out.begin(), out.end());
  return out;
}

// Values that stand for the same setting: 2 and "2".
bool same(const json::value& a, const json::value& b) {
  if (a == b) return true;
  const auto text = [](const json::value& value) {
    return value.is_string() ? std::string(value.get_string()) : json::serialize(value);
  };
  return !a.is_object() && !b.is_object() && text(a) == text(b);
}

// Values that were shown redacted stay what they are.
void keep_secrets(const json::value* stored, json::value& given) {
  if (!given.is_object() || stored == nullptr || !stored->is_object()) return;
  for (auto& [key, value] : given.get_object()) {
    const auto* before = stored->get_object().if_contains(key);
    if (before == nullptr) continue;
    if (value == kRedacted) {
      value = *before;
    } else {
      keep_secrets(before, value);
    }
  }
}

// Keys that each name the code: one given replaces the others.
std::span<const std::string_view> code_keys(connect::Kind kind) {
  static constexpr std::string_view kSink[] = {"archive", "sinkType"};
  static constexpr std::string_view kSource[] = {"archive", "sourceType"};
  static constexpr std::string_view kFunction[] = {"jar", "py", "go", "functionType"};
  switch (kind) {
    case connect::Kind::sink: return kSink;
    case connect::Kind::source: return kSource;
    case connect::Kind::function: return kFunction;
  }
  return {};
}

std::string told(const json::value* value) {
  return value == nullptr ? "not set" : json::serialize(*value);
}

void compare(const std::string& prefix, const json::object& before, const json::object& after,
             std::vector<std::string>& changes) {
  for (const auto& [key, value] : after) {
    const auto* old = before.if_contains(key);
    if (old != nullptr && same(*old, value)) continue;
    const std::string name = prefix + std::string(key);
    if (old != nullptr && old->is_object() && value.is_object()) {
      compare(name + ".", old->get_object(), value.get_object(), changes);
    } else {
      changes.push_back(fmt::format("{}: {} -> {}", name, told(old), told(&value)));
    }
  }
  for (const auto& [key, value] : before) {
    if (!after.contains(key)) {
      changes.push_back(
          fmt::format("{}{}: {} -> not set", prefix, std::string_view(key), told(&value)));
    }
  }
}

}  // namespace

json::object merge_component(connect::Kind kind, const json::object& stored,
                             const json::object& given) {
  json::object out = stored;
  for (const auto& [key, given_value] : given) {
    const std::string_view name = key;
    if (name == "tenant" || name == "namespace" || name == "name") continue;
    if (given_value.is_null()) {
      out.erase(key);
      continue;
    }
    json::value value = given_value;
    const auto* before = stored.if_contains(key);
    if (name == settings_key(kind) || name == "secrets") keep_secrets(before, value);
    if (name == "resources" && before != nullptr && before->is_object() && value.is_object()) {
      json::object merged = before->get_object();
      for (const auto& [part, amount] : value.get_object()) merged[part] = amount;
      value = std::move(merged);
    }
    const auto code = code_keys(kind);
    if (std::find(code.begin(), code.end(), name) != code.end()) {
      for (const auto other : code) out.erase(other);
    }
    out[key] = std::move(value);
  }
  return out;
}

Result<std::vector<std::string>> component_changes(const Configured& before,
                                                   const Configured& after) {
  const auto& was = before.component;
  const auto& now = after.component;
  std::string problems;
  const auto refuse = [&](const std::string& text) {
    problems += problems.empty() ? text : "\n" + text;
  };
  const auto kAnew = fmt::format("delete the {} and create it again", connect::to_string(was.kind));
  if (connect::reads_topics(was.kind)) {
    if (full_topics(was.inputs) != full_topics(now.inputs)) {
      refuse(fmt::format("inputs: Input Topics cannot be altered ({} -> {}); {}",
                         fmt::join(was.inputs, ","), fmt::join(now.inputs, ","), kAnew));
    }
    if (was.topics_pattern != now.topics_pattern) {
      refuse(fmt::format("topicsPattern: Input Topics cannot be altered ({} -> {}); {}",
                         was.topics_pattern, now.topics_pattern, kAnew));
    }
    if (was.subscription != now.subscription) {
      refuse(fmt::format("{}: Subscription Name cannot be altered ({} -> {}); {}",
                         was.function == nullptr ? "sourceSubscriptionName" : "subName",
                         was.subscription, now.subscription, kAnew));
    }
  }
  if (!problems.empty()) return Error(Code::invalid, problems);
  std::vector<std::string> changes;
  compare("", shown_component(was, before.config), shown_component(now, after.config), changes);
  if (changes.empty()) {
    const auto of = [](const json::object& config, std::string_view key) {
      return config.contains(key) ? config.at(key) : json::value(nullptr);
    };
    for (const std::string_view key : {settings_key(was.kind), std::string_view("secrets")}) {
      if (of(before.config, key) != of(after.config, key))
        changes.push_back(fmt::format("{}: a secret", key));
    }
  }
  if (changes.empty()) return Error(Code::invalid, "Update contains no change");
  return changes;
}

json::object without_secrets(std::span<const config::Field> fields, const json::object& stored) {
  json::object out = stored;
  for (const char* part : {"configs", "userConfig", "secrets"}) {
    auto* value = out.if_contains(part);
    if (value == nullptr || value->is_null()) continue;
    const auto object = object_of(part, *value);
    if (!object) {
      *value = kRedacted;
    } else if (std::string_view(part) != "secrets") {
      *value = config::redacted(fields, *object);
    } else {
      json::object shown = *object;
      for (auto& [name, secret] : shown) {
        if (!config::is_reference(secret)) secret = kRedacted;
      }
      *value = std::move(shown);
    }
  }
  return out;
}

namespace {

json::object shown_producer(const Component& component, const json::object& stored) {
  json::object producer{{"useThreadLocalProducers", false}, {"batchBuilder", ""}};
  if (const auto* given = stored.if_contains("producerConfig"); given && given->is_object()) {
    for (const auto& [key, value] : given->get_object()) producer[key] = value;
  }
  producer["compressionType"] = component.compression;
  return producer;
}

void show_inputs(const Component& component, json::object& out) {
  json::array inputs;
  json::object specs;
  const auto spec = [](bool pattern) {
    return json::object{{"isRegexPattern", pattern},
                        {"schemaProperties", json::object()},
                        {"consumerProperties", json::object()},
                        {"poolMessages", false}};
  };
  for (const auto& input : component.inputs) {
    const auto topic = full_topic(input);
    inputs.emplace_back(topic);
    specs[topic] = spec(false);
  }
  if (!component.topics_pattern.empty()) {
    specs[component.topics_pattern] = spec(true);
    out["topicsPattern"] = component.topics_pattern;
  }
  out["inputs"] = std::move(inputs);
  out["inputSpecs"] = std::move(specs);
  out["retainOrdering"] = component.ordered();
  out["retainKeyOrdering"] = component.retain_key_ordering;
  out["autoAck"] = true;
  out["cleanupSubscription"] = component.cleanup_subscription;
}

void show_function(const Component& component, json::object& out) {
  for (const char* key : {"py", "go", "functionType", "fqfn"}) out.erase(key);
  out["jar"] = fmt::format("builtin://{}", component.function->name);
  out["runtime"] = "JAVA";  // what Pulsar's tools expect to find
  if (!out.contains("className") && !component.function->classes.empty())
    out["className"] = component.function->classes.front();
  if (!component.output.empty()) out["output"] = full_topic(component.output);
  out["subscriptionPosition"] = component.from_earliest ? "Earliest" : "Latest";
  out["skipToLatest"] = component.skip_to_latest;
  out["forwardSourceMessageProperty"] = component.forward_properties;
}

}  // namespace

json::object shown_component(const Component& component, const json::object& stored) {
  json::object out;
  out["tenant"] = component.tenant;
  out["namespace"] = component.name_space;
  out["name"] = component.name;
  // Whatever was given stands as it was given; what follows fills in or spells out.
  for (const auto& [key, value] : stored) {
    if (!value.is_null()) out[key] = value;
  }
  out["parallelism"] = component.parallelism;
  constexpr std::string_view kNames[] = {"ATMOST_ONCE", "ATLEAST_ONCE", "EFFECTIVELY_ONCE"};
  out["processingGuarantees"] = kNames[static_cast<size_t>(component.guarantee)];
  out = without_secrets(component.fields(), out);
  const auto settings = settings_key(component.kind);
  if (!out.contains(settings)) out[settings] = json::object();
  if (component.connector != nullptr)
    out["archive"] = fmt::format("builtin://{}", component.connector->name);
  out.erase("sinkType");
  out.erase("sourceType");
  json::object resources{{"cpu", 1.0}, {"ram", 1073741824}, {"disk", 10737418240}};
  if (const auto* given = stored.if_contains("resources"); given && given->is_object()) {
    for (const auto& [key, value] : given->get_object()) resources[key] = value;
  }
  out["resources"] = std::move(resources);
  if (connect::reads_topics(component.kind)) show_inputs(component, out);
  switch (component.kind) {
    case connect::Kind::sink:
      out["sourceSubscriptionPosition"] = component.from_earliest ? "Earliest" : "Latest";
      break;
    case connect::Kind::source:
      out["topicName"] = component.output;
      out["producerConfig"] = shown_producer(component, stored);
      break;
    case connect::Kind::function:
      show_function(component, out);
      out["producerConfig"] = shown_producer(component, stored);
      break;
  }
  return out;
}

}  // namespace hulse::runtime

#include "cli/component_flags.h"

#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "base/text.h"
#include "cli/yaml.h"
#include "runtime/component.h"

namespace hulse::cli {
namespace {

namespace json = boost::json;

constexpr Flag kCommon[] = {
    {"--tenant", "tenant", "Tenant of the component"},
    {"--namespace", "namespace", "Namespace of the component"},
    {"--name", "name", "Name of the component"},
    {"--classname,--className", "className", "Java class of the code"},
    {"--processing-guarantees,--processingGuarantees", "processingGuarantees",
     "ATMOST_ONCE, ATLEAST_ONCE or EFFECTIVELY_ONCE"},
    {"--parallelism", "parallelism", "Number of instances"},
    {"--log-topic", "logTopic", "Topic for log lines"},
    {"--runtime-flags", "runtimeFlags", "Flags for a JVM"},
    {"--custom-runtime-options", "customRuntimeOptions", "JSON: retry.*, restart.*, onReject"},
    {"--secrets", "secrets", "JSON map of secrets", Shape::object},
    {"--cpu", "cpu", "Cores", Shape::resource},
    {"--ram", "ram", "Bytes", Shape::resource},
    {"--disk", "disk", "Bytes", Shape::resource},
};

constexpr Flag kArchive[] = {
    {"-a,--archive", "archive",
     "Archive of the connector; an official one runs as the built-in of its name"},
};

constexpr Flag kFunction[] = {
    {"--fqfn", "fqfn", "tenant/namespace/name in one"},
    {"-t,--function-type", "functionType", "Name of a built-in function"},
    {"--jar", "jar", "builtin://name"},
    {"--py", "py", "builtin://name"},
    {"--go", "go", "builtin://name"},
    {"-i,--inputs", "inputs", "Topics to read, separated by commas", Shape::list},
    {"--topics-pattern,--topicsPattern", "topicsPattern", "Topics to read, as a pattern"},
    {"-o,--output", "output", "Topic to publish to"},
    {"--producer-config", "producerConfig", "JSON map", Shape::object},
    {"--schema-type", "outputSchemaType", "Schema of the output topic"},
    {"--custom-serde-inputs,--customSerdeInputs", "customSerdeInputs", "JSON map", Shape::object},
    {"--custom-schema-inputs", "customSchemaInputs", "JSON map", Shape::object},
    {"--custom-schema-outputs", "customSchemaOutputs", "JSON map", Shape::object},
    {"--input-specs", "inputSpecs", "JSON map", Shape::object},
    {"--input-type-class-name", "inputTypeClassName", "Java class"},
    {"--output-type-class-name", "outputTypeClassName", "Java class"},
    {"--output-serde-classname,--outputSerdeClassName", "outputSerdeClassName", "Java class"},
    {"--retain-ordering,--retainOrdering", "retainOrdering", "Keep the order of each topic",
     Shape::flag},
    {"--retain-key-ordering", "retainKeyOrdering", "Keep the order of each key", Shape::flag},
    {"--batch-builder", "batchBuilder", "DEFAULT or KEY_BASED"},
    {"--forward-source-message-property", "forwardSourceMessageProperty",
     "Whether the output has the properties of the input: true or false"},
    {"--subs-name", "subName", "Name of the subscription"},
    {"--subs-position", "subscriptionPosition",
     "Where a new subscription begins: Latest or Earliest"},
    {"--skip-to-latest", "skipToLatest", "Begin each start at the latest message: true or false"},
    {"--window-length-count,--windowLengthCount", "windowLengthCount", "Messages of a window",
     Shape::window},
    {"--window-length-duration-ms,--windowLengthDurationMs", "windowLengthDurationMs",
     "Time of a window", Shape::window},
    {"--sliding-interval-count,--slidingIntervalCount", "slidingIntervalCount",
     "Messages a window moves by", Shape::window},
    {"--sliding-interval-duration-ms,--slidingIntervalDurationMs", "slidingIntervalDurationMs",
     "Time a window moves by", Shape::window},
    {"--auto-ack,--autoAck", "autoAck", "Deprecated"},
    {"--timeout-ms,--timeoutMs", "timeoutMs", "Deadline of one record, in milliseconds"},
    {"--max-message-retries", "maxMessageRetries", "Attempts before a record is rejected"},
    {"--dead-letter-topic", "deadLetterTopic", "Where rejected records go"},
    {"--cleanup-subscription", "cleanupSubscription",
     "Remove the subscription when the function is deleted", Shape::flag},
};

constexpr Flag kSink[] = {
    {"-t,--sink-type", "sinkType", "Name of a built-in sink (hulse connectors list)"},
    {"-i,--inputs", "inputs", "Topics to read, separated by commas", Shape::list},
    {"--topics-pattern,--topicsPattern", "topicsPattern", "Topics to read, as a pattern"},
    {"--subs-name,--subsName", "sourceSubscriptionName", "Name of the subscription"},
    {"--subs-position", "sourceSubscriptionPosition",
     "Where a new subscription begins: Latest or Earliest"},
    {"--custom-serde-inputs,--customSerdeInputs", "topicToSerdeClassName", "JSON map",
     Shape::object},
    {"--custom-schema-inputs", "topicToSchemaType", "JSON map", Shape::object},
    {"--input-specs", "inputSpecs", "JSON map", Shape::object},
    {"--max-redeliver-count", "maxMessageRetries",
     "Attempts at the target before a record is rejected"},
    {"--dead-letter-topic", "deadLetterTopic", "Where rejected records go"},
    {"--retain-ordering,--retainOrdering", "retainOrdering", "Keep the order of each topic",
     Shape::flag},
    {"--retain-key-ordering", "retainKeyOrdering", "Keep the order of each key", Shape::flag},
    {"--auto-ack", "autoAck", "Deprecated"},
    {"--timeout-ms", "timeoutMs", "Deadline of one write, in milliseconds"},
    {"--negative-ack-redelivery-delay-ms", "negativeAckRedeliveryDelayMs",
     "First wait before a record is tried again"},
    {"--cleanup-subscription", "cleanupSubscription",
     "Remove the subscription when the sink is deleted", Shape::flag},
    {"--transform-function", "transformFunction", "Function to apply to each record"},
    {"--transform-function-classname", "transformFunctionClassName", "Its class"},
    {"--transform-function-config", "transformFunctionConfig", "Its configuration"},
};

constexpr Flag kSource[] = {
    {"-t,--source-type", "sourceType", "Name of a built-in source (hulse connectors list)"},
    {"-o,--destination-topic-name,--destinationTopicName", "topicName", "Topic to write to"},
    {"--producer-config", "producerConfig", "JSON map", Shape::object},
    {"--batch-builder", "batchBuilder", "DEFAULT or KEY_BASED"},
    {"--deserialization-classname,--deserializationClassName", "serdeClassName", "Java class"},
    {"--schema-type", "schemaType", "Schema of the topic"},
    {"--batch-source-config", "batchSourceConfig", "JSON map", Shape::object},
};

}  // namespace

void collect(std::string& problems, const std::string& text) {
  if (!problems.empty()) problems += '\n';
  problems += text;
}

json::object gather(ComponentWords& words, std::string& problems, std::vector<std::string>& notes) {
  json::object object;
  if (!words.config_file.empty()) {
    auto file = read_yaml_object(words.config_file);
    if (!file) {
      collect(problems, file.error().with(words.file_option()).text());
    } else {
      const auto known = runtime::component_keys(words.kind);
      const bool flat = words.kind != connect::Kind::function && !file->empty() &&
                        std::none_of(file->begin(), file->end(), [&](const auto& given) {
                          return std::find(known.begin(), known.end(),
                                           std::string_view(given.key())) != known.end();
                        });
      if (flat) {
        notes.push_back(fmt::format(
            "{} holds no {} field; it is taken as the connector's own configuration (`configs`)",
            words.config_file, words.kind == connect::Kind::sink ? "SinkConfig" : "SourceConfig"));
        object["configs"] = std::move(*file);
      } else {
        object = std::move(*file);
      }
    }
  }
  if (!words.config.empty()) {
    auto config = inline_or_file(words.config_option(), words.config);
    const bool whole = config && (config->contains("configs") || config->contains("sinkType") ||
                                  config->contains("sourceType") || config->contains("inputs") ||
                                  config->contains("topicName"));
    if (whole) {
      collect(problems, fmt::format("{}: {} describes the whole component; give it as {}",
                                    words.config_option(), words.config, words.file_option()));
    } else if (config) {
      object[runtime::settings_key(words.kind)] = std::move(*config);
    } else {
      collect(problems, config.error().text());
    }
  }
  for (const auto& flag : words.flags) {
    if (flag.shape == Shape::flag) {
      if (words.switches[flag.key]) object[flag.key] = true;
      continue;
    }
    const std::string& value = words.values[flag.key];
    if (value.empty()) continue;
    switch (flag.shape) {
      case Shape::object: {
        auto parsed = inline_or_file(flag.names, value);
        if (parsed) {
          object[flag.key] = std::move(*parsed);
        } else {
          collect(problems, parsed.error().text());
        }
        break;
      }
      case Shape::resource:
      case Shape::window: {
        auto& inner = object[flag.shape == Shape::window ? "windowConfig" : "resources"];
        if (!inner.is_object()) inner = json::object();
        inner.get_object()[flag.key] = value;
        break;
      }
      default: object[flag.key] = value;
    }
  }
  return object;
}

std::string with_flags(const ComponentWords& words, const std::string& problems) {
  std::string out;
  for (const auto line : split(problems, '\n')) {
    std::string_view rest = line;
    std::string text(line);
    const size_t colon = rest.find(": required");
    for (const auto& flag : words.flags) {
      if (colon == std::string_view::npos || rest.substr(0, colon) != flag.key) continue;
      std::string_view names = flag.names;
      names = names.substr(names.find("--"));
      text =
          fmt::format("{} ({}){}", flag.key, names.substr(0, names.find(',')), rest.substr(colon));
    }
    out += out.empty() ? text : "\n" + text;
  }
  return out;
}

void add_component_flags(CLI::App& app, ComponentWords& words) {
  words.flags.assign(std::begin(kCommon), std::end(kCommon));
  const auto add = [&](const auto& some) {
    words.flags.insert(words.flags.end(), std::begin(some), std::end(some));
  };
  if (words.kind != connect::Kind::function) add(kArchive);
  switch (words.kind) {
    case connect::Kind::source: add(kSource); break;
    case connect::Kind::sink: add(kSink); break;
    case connect::Kind::function: add(kFunction); break;
  }
  for (const auto& flag : words.flags) {
    if (flag.shape == Shape::flag) {
      app.add_flag(flag.names, words.switches[flag.key], flag.help);
    } else {
      app.add_option(flag.names, words.values[flag.key], flag.help);
    }
  }
  constexpr const char* kCamel[] = {"--sourceConfig", "--sinkConfig", "--userConfig"};
  constexpr const char* kCamelFile[] = {"--sourceConfigFile", "--sinkConfigFile",
                                        "--functionConfigFile"};
  constexpr const char* kWhole[] = {"SourceConfig", "SinkConfig", "FunctionConfig"};
  const auto at = static_cast<size_t>(words.kind);
  app.add_option(fmt::format("{},{}", words.config_option(), kCamel[at]), words.config,
                 words.kind == connect::Kind::function
                     ? "The function's configuration: JSON, or the name of a YAML or JSON file"
                     : "The connector's configuration: JSON, or the name of a YAML or JSON file");
  app.add_option(fmt::format("{},{}", words.file_option(), kCamelFile[at]), words.config_file,
                 fmt::format("YAML file of a {}", kWhole[at]));
}

}  // namespace hulse::cli

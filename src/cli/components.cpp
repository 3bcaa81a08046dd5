// hulse sinks|sources …: as pulsar-admin has them.
#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <map>

#include "aio/run.h"
#include "aio/signals.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/client_settings.h"
#include "cli/command_line.h"
#include "cli/yaml.h"
#include "runtime/local_run.h"

namespace hulse::cli {
namespace {

namespace json = boost::json;

// How the value of a flag gets into the SinkConfig or SourceConfig.
enum class Shape { text, list, object, flag, resource };

struct Flag {
  const char* names;
  const char* key;
  const char* help;
  Shape shape = Shape::text;
};

constexpr Flag kCommon[] = {
    {"--tenant", "tenant", "Tenant of the component"},
    {"--namespace", "namespace", "Namespace of the component"},
    {"--name", "name", "Name of the component"},
    {"-a,--archive", "archive",
     "Archive of the connector; an official one runs as the built-in of its name"},
    {"--classname,--className", "className", "Java class in the archive"},
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

// Flags of a local run that a later version takes: refused, not ignored.
constexpr const char* kNotYet[] = {"--secrets-provider-classname", "--secrets-provider-config",
                                   "--metrics-port-start", "--state-storage-service-url"};

struct Words {
  std::map<std::string, std::string> values;  // by configuration key
  std::map<std::string, bool> flags;
  std::map<std::string, std::string> not_yet;
  std::string config;
  std::string config_file;
  ClientWords client;
};

struct Command {
  connect::Kind kind;
  std::vector<Flag> flags;
  CLI::App* app = nullptr;
  Words words;

  const char* config_option() const {
    return kind == connect::Kind::sink ? "--sink-config" : "--source-config";
  }
};

void collect(std::string& problems, const std::string& text) {
  if (!problems.empty()) problems += '\n';
  problems += text;
}

// The flags over the file, field by field.
json::object gather(Command& command, std::string& problems, std::vector<std::string>& notes) {
  json::object object;
  auto& words = command.words;
  if (!words.config_file.empty()) {
    auto file = read_yaml_object(words.config_file);
    if (!file) {
      collect(problems, file.error().with(std::string(command.config_option()) + "-file").text());
    } else {
      const auto known = runtime::component_keys(command.kind);
      const bool flat =
          !file->empty() && std::none_of(file->begin(), file->end(), [&](const auto& given) {
            return std::find(known.begin(), known.end(), std::string_view(given.key())) !=
                   known.end();
          });
      if (flat) {
        notes.push_back(fmt::format(
            "{} holds no {} field; it is taken as the connector's own configuration (`configs`)",
            words.config_file,
            command.kind == connect::Kind::sink ? "SinkConfig" : "SourceConfig"));
        object["configs"] = std::move(*file);
      } else {
        object = std::move(*file);
      }
    }
  }
  if (!words.config.empty()) {
    auto config = inline_or_file(command.config_option(), words.config);
    const bool whole = config && (config->contains("configs") || config->contains("sinkType") ||
                                  config->contains("sourceType") || config->contains("inputs") ||
                                  config->contains("topicName"));
    if (whole) {
      collect(problems,
              fmt::format("{}: {} describes the whole component; give it as {}-file",
                          command.config_option(), words.config, command.config_option()));
    } else if (config) {
      object["configs"] = std::move(*config);
    } else {
      collect(problems, config.error().text());
    }
  }
  for (const auto& flag : command.flags) {
    if (flag.shape == Shape::flag) {
      if (words.flags[flag.key]) object[flag.key] = true;
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
      case Shape::resource: {
        auto& resources = object["resources"];
        if (!resources.is_object()) resources = json::object();
        resources.get_object()[flag.key] = value;
        break;
      }
      default: object[flag.key] = value;
    }
  }
  return object;
}

// "name: required" becomes "name (--name): required": who types flags looks for flags.
std::string with_flags(const Command& command, const std::string& problems) {
  std::string out;
  for (const auto line : split(problems, '\n')) {
    std::string_view rest = line;
    std::string text(line);
    const size_t colon = rest.find(": required");
    for (const auto& flag : command.flags) {
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

Result<void> local_run(Command& command) {
  std::string problems;
  std::vector<std::string> notes;
  for (const auto& word : command.app->remaining())
    collect(problems, unknown_option(*command.app, word));
  for (const auto& [names, value] : command.words.not_yet) {
    if (!value.empty())
      collect(problems,
              fmt::format("{}: this version of Hulse does not have it yet", split(names, ',')[0]));
  }
  const auto object = gather(command, problems, notes);
  auto component = runtime::parse_component(command.kind, object, notes);
  // A configuration that could not be read is the cause; what it would have held is not missing.
  const bool unread = !problems.empty() && !component && object.empty();
  if (!component && !unread) collect(problems, with_flags(command, component.error().text()));
  auto client = client_options(command.words.client);
  if (!client) collect(problems, client.error().text());
  if (!problems.empty()) return Error(Code::invalid, problems);
  for (const auto& note : notes) log::info("localrun", "{}", note);
  aio::Threads threads(
      "worker", std::clamp<size_t>(component->parallelism, 1, std::thread::hardware_concurrency()));
  return aio::run(aio::until_signal(runtime::local_run(*component, *client, threads)));
}

void add_kind(CLI::App& app, Action& action, connect::Kind kind) {
  const bool sink = kind == connect::Kind::sink;
  const std::string word = sink ? "sink" : "source";
  auto* group =
      app.add_subcommand(word + "s", sink ? "Take records out of topics into other systems"
                                          : "Bring records from other systems into topics");
  group->alias(word);
  group->require_subcommand(1);

  auto command = std::make_shared<Command>();
  command->kind = kind;
  command->flags.assign(std::begin(kCommon), std::end(kCommon));
  if (sink) {
    command->flags.insert(command->flags.end(), std::begin(kSink), std::end(kSink));
  } else {
    command->flags.insert(command->flags.end(), std::begin(kSource), std::end(kSource));
  }
  auto* run =
      group->add_subcommand("localrun", "Run a " + word + " in this process until it is stopped");
  command->app = run;
  run->allow_extras();
  for (const auto& flag : command->flags) {
    if (flag.shape == Shape::flag) {
      run->add_flag(flag.names, command->words.flags[flag.key], flag.help);
    } else {
      run->add_option(flag.names, command->words.values[flag.key], flag.help);
    }
  }
  const std::string option = command->config_option();
  const std::string camel = sink ? "--sinkConfig" : "--sourceConfig";
  run->add_option(option + "," + camel, command->words.config,
                  "The connector's configuration: JSON, or the name of a YAML or JSON file");
  run->add_option(option + "-file," + camel + "File", command->words.config_file,
                  sink ? "YAML file of a SinkConfig" : "YAML file of a SourceConfig");
  add_local_run_flags(*run, command->words.client);
  for (const char* names : kNotYet)
    run->add_option(names, command->words.not_yet[names])->group("");
  run->callback([command, &action] { action = [command] { return local_run(*command); }; });
}

}  // namespace

void add_component_commands(CLI::App& app, Action& action) {
  add_kind(app, action, connect::Kind::sink);
  add_kind(app, action, connect::Kind::source);
}

}  // namespace hulse::cli

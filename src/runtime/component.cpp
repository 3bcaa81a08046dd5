#include "runtime/component.h"

#include <boost/json.hpp>

#include "base/text.h"
#include "client/topic_finder.h"
#include "config/secret_reference.h"
#include "runtime/component_parts.h"
#include "wire/compression.h"
#include "wire/topic_name.h"

namespace hulse::runtime {
namespace {

namespace json = boost::json;
using config::field;

constexpr std::string_view kRejects[] = {"dead-letter", "skip", "stop"};

struct SinkFields : ReadingFields {
  std::string sink_type;
  std::optional<std::chrono::milliseconds> nack_delay;
};

struct SourceFields : Common {
  std::string source_type;
  std::string topic;
  std::string batch_builder;
};

struct PolicyFields {
  std::chrono::milliseconds retry_initial{100};
  std::chrono::milliseconds retry_max{30'000};
  int64_t retry_attempts_max = 0;
  int64_t restarts_max = 0;
  std::chrono::milliseconds restart_max{60'000};
  std::optional<OnReject> on_reject;
  int64_t records_per_second = 0;
  int64_t bytes_per_second = 0;
};

// One topic of `inputSpecs`: a ConsumerConfig.
struct InputSpec {
  bool is_pattern = false;
  std::optional<int64_t> receiver_queue;
  bool pool_messages = false;
};

// `producerConfig`.
struct ProducerFields {
  std::string compression = "LZ4";
  std::string batch_builder;
  int64_t pending_messages = 0;
  bool thread_local_producers = false;
};
struct BatchingFields {
  bool enabled = true;
  std::optional<std::chrono::milliseconds> delay;
  std::optional<int64_t> messages_max;
  std::optional<int64_t> bytes_max;
  std::optional<int64_t> switch_frequency;
  std::string batch_builder;
};

constexpr config::Field kSinkFields[] = {
    field<&SinkFields::tenant>("tenant", "Tenant of the component."),
    field<&SinkFields::name_space>("namespace", "Namespace of the component."),
    field<&SinkFields::name>("name", "Name of the component.").required(),
    field<&SinkFields::class_name>("className",
                                   "Java class of the connector; only its archive counts here."),
    field<&SinkFields::archive>("archive", "Archive of the connector, or builtin://name."),
    field<&SinkFields::sink_type>("sinkType", "Name of a built-in connector."),
    field<&SinkFields::parallelism>("parallelism", "Number of instances.").range(1, 1024),
    field<&SinkFields::guarantee>("processingGuarantees", "Processing guarantee.")
        .one_of(kGuarantees),
    field<&SinkFields::inputs>("inputs", "Topics to read."),
    field<&SinkFields::subscription>("sourceSubscriptionName",
                                     "Subscription; tenant/namespace/name if empty."),
    field<&SinkFields::position>("sourceSubscriptionPosition", "Where a new subscription begins.")
        .one_of(kPositions),
    field<&SinkFields::retain_ordering>("retainOrdering", "One consumer at a time, in order."),
    field<&SinkFields::retries>("maxMessageRetries",
                                "Attempts at the target before a record is rejected.")
        .at_least(0),
    field<&SinkFields::dead_letter_topic>("deadLetterTopic", "Where rejected records go."),
    field<&SinkFields::auto_ack>("autoAck", "Deprecated; acknowledgement follows the guarantee."),
    field<&SinkFields::cleanup>("cleanupSubscription",
                                "Whether deleting the sink removes its subscription."),
    field<&SinkFields::timeout_ms>("timeoutMs", "Deadline of one write, in milliseconds.")
        .at_least(0),
    field<&SinkFields::nack_delay>("negativeAckRedeliveryDelayMs",
                                   "First wait before a record is tried again.")
        .at_least(0),
    field<&SinkFields::runtime_flags>("runtimeFlags",
                                      "Flags for a JVM; unused by built-in connectors."),
    field<&SinkFields::topics_pattern>("topicsPattern", "Topics to read, as a pattern."),
    field<&SinkFields::retain_key_ordering>("retainKeyOrdering",
                                            "The records of one key go to one instance, in order."),
    config::not_supported("topicToSerdeClassName", "", "serde classes are Java; use schemas"),
    config::not_supported("topicToSchemaType", "", kLater),
    config::not_supported("topicToSchemaProperties", "", kLater),
    config::not_supported("transformFunction", "", kLater),
    config::not_supported("transformFunctionClassName", "", kLater),
    config::not_supported("transformFunctionConfig", "", kLater),
    field<&SinkFields::log_topic>("logTopic", "Topic that gets its log lines."),
};

constexpr config::Field kSourceFields[] = {
    field<&SourceFields::tenant>("tenant", "Tenant of the component."),
    field<&SourceFields::name_space>("namespace", "Namespace of the component."),
    field<&SourceFields::name>("name", "Name of the component.").required(),
    field<&SourceFields::class_name>("className",
                                     "Java class of the connector; only its archive counts here."),
    field<&SourceFields::archive>("archive", "Archive of the connector, or builtin://name."),
    field<&SourceFields::source_type>("sourceType", "Name of a built-in connector."),
    field<&SourceFields::parallelism>("parallelism", "Number of instances.").range(1, 1024),
    field<&SourceFields::guarantee>("processingGuarantees", "Processing guarantee.")
        .one_of(kGuarantees),
    field<&SourceFields::topic>("topicName", "Topic to write to.").required(),
    field<&SourceFields::runtime_flags>("runtimeFlags",
                                        "Flags for a JVM; unused by built-in connectors."),
    config::not_supported("serdeClassName", "", "serde classes are Java; use schemas"),
    config::not_supported("schemaType", "", kLater),
    config::not_supported("batchSourceConfig", "", kLater),
    field<&SourceFields::batch_builder>("batchBuilder", "How messages are batched.")
        .one_of(kBatchBuilders),
    field<&SourceFields::log_topic>("logTopic", "Topic that gets its log lines."),
};

constexpr config::Field kPolicyFields[] = {
    field<&PolicyFields::retry_initial>("retry.initialMs",
                                        "First wait before a record is tried again.")
        .at_least(1),
    field<&PolicyFields::retry_max>("retry.maxMs", "Longest wait between tries of a record.")
        .at_least(1),
    field<&PolicyFields::retry_attempts_max>("retry.maxAttempts", "Tries of a record; 0: for ever.")
        .at_least(0),
    field<&PolicyFields::restarts_max>("restart.maxRestarts", "Restarts in a row; 0: for ever.")
        .at_least(0),
    field<&PolicyFields::restart_max>("restart.maxMs", "Longest wait between restarts.")
        .at_least(1),
    field<&PolicyFields::on_reject>("onReject",
                                    "What happens to a record that the target will never take.")
        .one_of(kRejects),
    field<&PolicyFields::records_per_second>(
        "rateLimit.recordsPerSecond", "Most records a second, of all instances; 0: no limit.")
        .at_least(0),
    field<&PolicyFields::bytes_per_second>("rateLimit.bytesPerSecond",
                                           "Most bytes a second, of all instances; 0: no limit.")
        .at_least(0),
};

constexpr std::string_view kOldPattern[] = {"regexPattern"};  // as REST spells it
constexpr config::Field kInputSpecFields[] = {
    field<&InputSpec::is_pattern>("isRegexPattern", "Whether the topic is a pattern.")
        .aliases(kOldPattern),
    field<&InputSpec::receiver_queue>("receiverQueueSize", "Messages to hold at the most.")
        .at_least(1),
    field<&InputSpec::pool_messages>("poolMessages", "Java only: it changes nothing here."),
    config::not_supported("schemaType", "", kLater),
    config::not_supported("serdeClassName", "", "serde classes are Java; use schemas"),
    config::not_supported("schemaProperties", "", kLater),
    config::not_supported("consumerProperties", "", kLater),
    config::not_supported("cryptoConfig", "", kLater),
    config::not_supported("messagePayloadProcessorConfig", "", "payload processors are Java"),
};

constexpr config::Field kProducerFields[] = {
    field<&ProducerFields::compression>("compressionType", "Compression."),
    field<&ProducerFields::batch_builder>("batchBuilder", "How messages are batched.")
        .one_of(kBatchBuilders),
    // Both bound Java's queues; here they are bounded in bytes.
    field<&ProducerFields::pending_messages>("maxPendingMessages", "Not needed: bounded in bytes."),
    field<&ProducerFields::pending_messages>("maxPendingMessagesAcrossPartitions",
                                             "Not needed: bounded in bytes."),
    field<&ProducerFields::thread_local_producers>("useThreadLocalProducers",
                                                   "Java only: it changes nothing here."),
    config::not_supported("cryptoConfig", "", kLater),
};

constexpr config::Field kBatchingFields[] = {
    field<&BatchingFields::enabled>("enabled", "Whether messages are batched."),
    field<&BatchingFields::delay>("batchingMaxPublishDelayMs",
                                  "How long a batch may wait while others are on their way.")
        .range(0, 60'000),
    field<&BatchingFields::messages_max>("batchingMaxMessages", "Messages of a batch.")
        .range(1, 1'000'000),
    field<&BatchingFields::bytes_max>("batchingMaxBytes", "Bytes of a batch.").range(1, 64 << 20),
    field<&BatchingFields::switch_frequency>("roundRobinRouterBatchingPartitionSwitchFrequency",
                                             "Not needed: a batch stays in its partition."),
    field<&BatchingFields::batch_builder>("batchBuilder", "How messages are batched.")
        .one_of(kBatchBuilders),
};

// Keys that hold an object and are looked at here.
constexpr std::string_view kObjects[] = {
    "secrets", "resources", "producerConfig", "inputSpecs", "customRuntimeOptions", "hulse"};

std::span<const config::Field> fields_of(connect::Kind kind) {
  switch (kind) {
    case connect::Kind::sink: return kSinkFields;
    case connect::Kind::source: return kSourceFields;
    case connect::Kind::function: return function_fields();
  }
  return {};
}

}  // namespace

std::string text_of(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

namespace {

const connect::Descriptor* choose_connector(connect::Kind kind, const Common& common,
                                            const std::string& type, const json::object& configs,
                                            std::vector<std::string>& notes, Problems& problems) {
  const auto word = connect::to_string(kind);
  const auto available = [&] {
    std::string names;
    for (const auto* descriptor : connect::registry()) {
      if (descriptor->kind != kind) continue;
      names += names.empty() ? "" : ", ";
      names += descriptor->name;
    }
    return names;
  };
  if (!type.empty() && !common.archive.empty()) {
    problems.add(
        fmt::format("Cannot specify both archive and {0}-type (--archive and --{0}-type)", word));
    return nullptr;
  }
  constexpr std::string_view kBuiltIn = "builtin://";
  const bool built_in = common.archive.starts_with(kBuiltIn);
  if (!type.empty() || built_in) {
    const std::string wanted = built_in ? common.archive.substr(kBuiltIn.size()) : type;
    const auto* found = connect::find(kind, wanted);
    if (found == nullptr) {
      problems.add(fmt::format("Invalid {} type '{}' -- Available {}s are: [{}]", word, wanted,
                               word, available()));
    }
    return found;
  }
  if (common.archive.empty()) {
    problems.add(fmt::format("no connector: give {}Type (--{}-type) or an archive; there are {}",
                             word, word, available()));
    return nullptr;
  }
  if (const auto* found = connect::find_archive(kind, common.archive)) {
    notes.push_back(
        fmt::format("{} runs as the built-in {} {}", common.archive, found->name, word));
    return found;
  }
  // An archive that names no connector ("pulsar-io-2.8.1.nar"): the configuration's keys may tell.
  std::vector<const connect::Descriptor*> fitting;
  for (const auto* descriptor : connect::registry()) {
    if (descriptor->kind != kind || configs.empty()) continue;
    const bool fits = std::all_of(configs.begin(), configs.end(), [&](const auto& given) {
      return std::any_of(descriptor->fields.begin(), descriptor->fields.end(),
                         [&](const config::Field& known) { return known.key == given.key(); });
    });
    if (fits) fitting.push_back(descriptor);
  }
  const bool generic = std::string_view(common.archive)
                           .substr(common.archive.rfind('/') + 1)
                           .starts_with("pulsar-io-");
  if (generic && fitting.size() == 1) {
    notes.push_back(fmt::format(
        "{} names no connector; its configuration is that of the {} {}, which runs built in",
        common.archive, fitting[0]->name, word));
    return fitting[0];
  }
  problems.add(fmt::format(
      "{}: no built-in {} replaces this archive{}; choose one with --{}-type ({})", common.archive,
      word, generic ? ", and its configuration fits none or several" : "", word, available()));
  return nullptr;
}

// Keys nobody knows are named here, since here it is known where they may belong, and taken out.
void refuse_unknown(connect::Kind kind, json::object& object, Problems& problems) {
  const auto known = component_keys(kind);
  constexpr connect::Kind kKinds[] = {connect::Kind::source, connect::Kind::sink,
                                      connect::Kind::function};
  const auto owner = [&](std::string_view key) {
    const connect::Kind* found = nullptr;
    for (const auto& other : kKinds) {
      const auto keys = component_keys(other);
      if (found == nullptr && std::find(keys.begin(), keys.end(), key) != keys.end())
        found = &other;
    }
    return found;
  };
  const auto is_in = [](const std::vector<std::string_view>& keys, std::string_view key) {
    return std::find(keys.begin(), keys.end(), key) != keys.end();
  };
  const auto connectors = connect::registry();
  std::vector<std::string> unknown;
  for (const auto& [key, value] : object) {
    if (!is_in(known, key)) unknown.emplace_back(key);
  }
  for (const auto& key : unknown) {
    object.erase(key);
    const bool of_connector = std::any_of(
        connectors.begin(), connectors.end(), [&](const connect::Descriptor* connector) {
          return connector->kind == kind &&
                 std::any_of(connector->fields.begin(), connector->fields.end(),
                             [&](const config::Field& field) { return field.key == key; });
        });
    if (const auto* other = owner(key)) {
      problems.add(fmt::format("{}: a key of a {}'s configuration; this is a {}", key,
                               connect::to_string(*other), connect::to_string(kind)));
    } else if (of_connector) {
      problems.add(fmt::format("{}: a key of the connector; it belongs under configs", key));
    } else if (const auto close = nearest(key, known)) {
      problems.add(fmt::format("{}: unknown key; did you mean {}?", key, *close));
    } else {
      problems.add(fmt::format("{}: unknown key; known are {}", key, fmt::join(known, ", ")));
    }
  }
}

}  // namespace

void check_topic(std::string_view key, const std::string& topic, Problems& problems) {
  const auto name = wire::TopicName::parse(topic);
  if (!name) {
    problems.add(fmt::format("{}: {}", key, name.error().text()));
  } else if (!name->persistent()) {
    problems.add(fmt::format("{}: {} is not persistent; sources and sinks use persistent topics",
                             key, topic));
  }
}

void check_names(const Common& common, Problems& problems) {
  if (common.name.find('/') != std::string::npos) problems.add("name: it may not hold a slash");
  const auto tried = wire::TopicName::parse(common.tenant + "/" + common.name_space + "/x");
  if (!tried) problems.add("tenant or namespace: empty, or with a forbidden character");
  if (!common.log_topic.empty()) check_topic("logTopic", common.log_topic, problems);
}

Result<json::object> take_object(json::object& from, std::string_view key, Problems& problems) {
  const auto* value = from.if_contains(key);
  if (value == nullptr) return json::object();
  auto object = object_of(key, *value);
  if (!object) problems.add("", object.error());
  from.erase(key);
  return object;
}

void apply_policy(const json::object& options, Component& component, Problems& problems) {
  const auto parsed = config::parse<PolicyFields>(kPolicyFields, {options, {}});
  if (!parsed) {
    problems.add("customRuntimeOptions: ", parsed.error());
    return;
  }
  component.policy = {.retry_initial = parsed->retry_initial,
                      .retry_max = parsed->retry_max,
                      .retry_attempts_max = parsed->retry_attempts_max,
                      .restarts_max = parsed->restarts_max,
                      .restart_max = parsed->restart_max,
                      .records_per_second = parsed->records_per_second,
                      .bytes_per_second = parsed->bytes_per_second,
                      .on_reject = parsed->on_reject};
}

namespace {

// A pattern without a namespace is one of public/default, as a topic is.
std::string full_pattern(const std::string& pattern) {
  if (pattern.empty() || pattern.find("://") != std::string::npos) return pattern;
  const bool spelled_out = std::count(pattern.begin(), pattern.end(), '/') >= 2;
  return (spelled_out ? "persistent://" : "persistent://public/default/") + pattern;
}

}  // namespace

void take_inputs(const json::object& specs, const ReadingFields& fields, Component& component,
                 Problems& problems) {
  component.inputs = fields.inputs;
  std::vector<std::string> patterns;
  if (!fields.topics_pattern.empty()) patterns.push_back(fields.topics_pattern);
  for (const auto& [topic, value] : specs) {
    const std::string key = fmt::format("inputSpecs.{}: ", std::string_view(topic));
    const auto object = object_of("it", value);
    if (!object) {
      problems.add(key, object.error());
      continue;
    }
    const auto spec = config::parse<InputSpec>(kInputSpecFields, {*object, {}});
    if (!spec) {
      problems.add(key, spec.error());
      continue;
    }
    if (spec->receiver_queue) {
      component.receiver_queue =
          std::max(component.receiver_queue, static_cast<size_t>(*spec->receiver_queue));
    }
    auto& to = spec->is_pattern ? patterns : component.inputs;
    if (std::find(to.begin(), to.end(), std::string(topic)) == to.end()) to.emplace_back(topic);
  }
  for (const auto& input : component.inputs) check_topic("inputs", input, problems);
  if (component.inputs.empty() && patterns.empty()) {
    problems.add("inputs: Must specify at least one topic of input: --inputs or --topics-pattern");
  }
  if (patterns.size() > 1 || (!patterns.empty() && !component.inputs.empty())) {
    problems.add(
        "topicsPattern: topics are read by name or by one pattern, not both; two components can");
  } else if (!patterns.empty()) {
    component.topics_pattern = full_pattern(patterns.front());
    const auto fits = client::TopicFinder::check_pattern(component.topics_pattern);
    if (!fits) problems.add("topicsPattern: ", fits.error());
  }
}

void take_reading(const ReadingFields& fields, Component& component, Problems& problems) {
  component.from_earliest = fields.position == Position::earliest;
  component.retain_ordering = fields.retain_ordering;
  component.retain_key_ordering = fields.retain_key_ordering;
  component.write_timeout = std::chrono::milliseconds(fields.timeout_ms.value_or(0));
  component.subscription =
      fields.subscription.empty() ? component.full_name() : fields.subscription;
  component.dead_letter_topic = fields.dead_letter_topic;
  component.cleanup_subscription = fields.cleanup;
  if (fields.retries) component.policy.retry_attempts_max = *fields.retries;
  if (component.retain_ordering && component.retain_key_ordering) {
    problems.add(
        "retainKeyOrdering: Only one of retain ordering or retain key ordering can be set");
  }
  if (component.retain_key_ordering &&
      component.guarantee == connect::Guarantee::effectively_once) {
    problems.add(
        "retainKeyOrdering: When effectively once processing guarantee is specified, "
        "retain Key ordering cannot be set");
  }
  if (!component.dead_letter_topic.empty())
    check_topic("deadLetterTopic", component.dead_letter_topic, problems);
  const bool at_most_once = component.guarantee == connect::Guarantee::at_most_once;
  if (at_most_once && !fields.auto_ack) problems.add("autoAck: ATMOST_ONCE needs autoAck true");
}

void take_producer(const json::object& given, Component& component, Problems& problems) {
  json::object object = given;
  const auto batching = take_object(object, "batchingConfig", problems);
  const auto parsed = config::parse<ProducerFields>(kProducerFields, {object, {}});
  if (!parsed) problems.add("producerConfig: ", parsed.error());
  const auto batches =
      config::parse<BatchingFields>(kBatchingFields, {batching ? *batching : json::object(), {}});
  if (!batches) problems.add("producerConfig.batchingConfig: ", batches.error());
  if (!parsed || !batches) return;
  component.compression = parsed->compression;
  const auto codec = wire::parse_compression(component.compression);
  if (!codec) problems.add("producerConfig.compressionType: ", codec.error());
  component.batch_by_key |=
      parsed->batch_builder == "KEY_BASED" || batches->batch_builder == "KEY_BASED";
  component.batching = batches->enabled;
  component.batch_delay = batches->delay;
  component.batch_messages_max = batches->messages_max;
  component.batch_bytes_max = batches->bytes_max;
}

void fill(const Common& common, Component& component) {
  component.tenant = common.tenant;
  component.name_space = common.name_space;
  component.name = common.name;
  component.parallelism = static_cast<unsigned>(common.parallelism);
  component.guarantee = common.guarantee;
  component.log_topic = common.log_topic;
}

std::string_view settings_key(connect::Kind kind) {
  return kind == connect::Kind::function ? "userConfig" : "configs";
}

Result<json::object> object_of(std::string_view key, const json::value& value) {
  if (value.is_object()) return value.get_object();
  if (value.is_null()) return json::object();
  if (value.is_string()) {
    const std::string_view text = trim(value.get_string());
    if (text.empty()) return json::object();
    boost::system::error_code error;
    auto parsed = json::parse(text, error);
    if (!error && parsed.is_object()) return parsed.get_object();
  }
  return Error(Code::invalid, fmt::format("{}: a map is expected", key));
}

std::string dead_letter_topic(const Component& component) {
  if (!component.dead_letter_topic.empty()) return component.dead_letter_topic;
  if (component.inputs.empty()) {
    // A pattern is no topic's name; it begins with its tenant and namespace.
    const auto parts = split(component.topics_pattern, '/');
    return fmt::format("persistent://{}/{}/{}-{}-{}-DLQ", parts[2], parts[3], component.tenant,
                       component.name_space, component.name);
  }
  // Of the unpartitioned topic; a component of another namespace carries its own names.
  const auto base = wire::TopicName::parse(component.inputs.front())->base();
  const bool at_home = base.tenant == component.tenant && base.name_space == component.name_space;
  const auto who =
      at_home ? component.name
              : fmt::format("{}-{}-{}", component.tenant, component.name_space, component.name);
  return fmt::format("{}-{}-DLQ", base.text(), who);
}

std::vector<std::string_view> component_keys(connect::Kind kind) {
  std::vector<std::string_view> keys(std::begin(kObjects), std::end(kObjects));
  keys.push_back(settings_key(kind));
  for (const auto& known : fields_of(kind)) keys.push_back(known.key);
  return keys;
}

Result<Component> parse_component(connect::Kind kind, const json::object& given,
                                  std::vector<std::string>& notes) {
  Problems problems;
  Component component;
  component.kind = kind;
  json::object object = given;
  const auto configs = take_object(object, settings_key(kind), problems);
  const auto secrets = take_object(object, "secrets", problems);
  auto options = take_object(object, "customRuntimeOptions", problems);
  const auto own = take_object(object, "hulse", problems);
  const auto producer = take_object(object, "producerConfig", problems);
  const auto specs = take_object(object, "inputSpecs", problems);
  const auto resources = take_object(object, "resources", problems);
  if (configs) component.given.values = *configs;
  if (secrets) component.given.secrets = *secrets;
  if (options && own) {
    for (const auto& [key, value] : *own) (*options)[key] = value;
    apply_policy(*options, component, problems);
  }

  refuse_unknown(kind, object, problems);

  const auto finish = [&](const Common& common, const std::string& type) {
    fill(common, component);
    check_names(common, problems);
    component.connector =
        choose_connector(kind, common, type, component.given.values, notes, problems);
  };
  if (kind == connect::Kind::function) {
    parse_function(object, specs ? *specs : json::object(), component, notes, problems);
    if (producer) take_producer(*producer, component, problems);
  } else if (kind == connect::Kind::sink) {
    const auto parsed = config::parse<SinkFields>(kSinkFields, {object, {}});
    if (!parsed) {
      problems.add("", parsed.error());
      // The rest is looked at all the same: what is missing is said in one go.
      SinkFields partial;
      partial.sink_type = text_of(object, "sinkType");
      partial.archive = text_of(object, "archive");
      component.connector = choose_connector(kind, partial, partial.sink_type,
                                             component.given.values, notes, problems);
      if (!object.contains("inputs") && !object.contains("topicsPattern") &&
          (!specs || specs->empty())) {
        problems.add(
            "inputs: Must specify at least one topic of input: --inputs or --topics-pattern");
      }
    } else {
      finish(*parsed, parsed->sink_type);
      take_inputs(specs ? *specs : json::object(), *parsed, component, problems);
      take_reading(*parsed, component, problems);
      if (parsed->nack_delay)
        component.policy.retry_initial =
            std::max(*parsed->nack_delay, std::chrono::milliseconds(1));
    }
  } else {
    const auto parsed = config::parse<SourceFields>(kSourceFields, {object, {}});
    if (!parsed) {
      problems.add("", parsed.error());
      SourceFields partial;
      partial.source_type = text_of(object, "sourceType");
      partial.archive = text_of(object, "archive");
      component.connector = choose_connector(kind, partial, partial.source_type,
                                             component.given.values, notes, problems);
    } else {
      finish(*parsed, parsed->source_type);
      component.output = parsed->topic;
      check_topic("topicName", component.output, problems);
    }
    if (parsed) component.batch_by_key = parsed->batch_builder == "KEY_BASED";
    if (producer) take_producer(*producer, component, problems);
  }

  if (component.function != nullptr) {
    config::Problems references;
    const auto checked =
        config::without_references(component.fields(), component.given, references);
    if (!references.empty()) problems.add("", references.error());
    const auto made = component.function->make(checked);
    if (!made) problems.add("", made.error());
  }
  if (component.connector != nullptr) {
    const auto& connector = *component.connector;
    config::Problems references;
    // What they lead to is looked at where it runs.
    const auto checked = config::without_references(connector.fields, component.given, references);
    if (!references.empty()) problems.add("", references.error());
    if (kind == connect::Kind::sink) {
      const auto made = connector.make_sink(checked);
      if (!made) problems.add("", made.error());
    } else {
      const auto made = connector.make_source(checked);
      if (!made) problems.add("", made.error());
    }
    if (component.guarantee == connect::Guarantee::effectively_once &&
        !connector.effectively_once) {
      problems.add(fmt::format(
          "processingGuarantees: {} cannot give EFFECTIVELY_ONCE ({}); use ATLEAST_ONCE",
          connector.name,
          kind == connect::Kind::source ? "it cannot be read again from a position"
                                        : "a repeat would be written twice"));
    }
  }
  if (!problems.text.empty()) return Error(Code::invalid, problems.text);
  return component;
}

}  // namespace hulse::runtime

// A FunctionConfig: its table, and what is particular to functions.
#include <boost/json.hpp>

#include "runtime/component_parts.h"
#include "wire/topic_name.h"

namespace hulse::runtime {
namespace {

namespace json = boost::json;
using config::field;

constexpr std::string_view kJava = "it names Java code; Hulse runs built-in functions";
constexpr std::string_view kRuntimes[] = {"JAVA", "PYTHON", "GO"};

struct FunctionFields : ReadingFields {
  std::string fqfn;
  std::string function_type;
  std::string jar;
  std::string py;
  std::string go;
  std::string runtime;
  std::string output;
  std::string batch_builder;
  bool forward = true;
  bool skip_to_latest = false;
  std::optional<int64_t> pending;
};

constexpr config::Field kFunctionFields[] = {
    field<&FunctionFields::tenant>("tenant", "Tenant of the function."),
    field<&FunctionFields::name_space>("namespace", "Namespace of the function."),
    field<&FunctionFields::name>("name", "Name; the last part of className if empty."),
    field<&FunctionFields::fqfn>("fqfn", "tenant/namespace/name in one."),
    field<&FunctionFields::class_name>("className",
                                       "Java class; one that a built-in stands for runs as that."),
    field<&FunctionFields::function_type>("functionType", "Name of a built-in function."),
    field<&FunctionFields::jar>("jar", "builtin://name."),
    field<&FunctionFields::py>("py", "builtin://name."),
    field<&FunctionFields::go>("go", "builtin://name."),
    field<&FunctionFields::runtime>("runtime", "Runtime of the code; unused by built-in functions.")
        .one_of(kRuntimes)
        .ignore_case(),
    field<&FunctionFields::inputs>("inputs", "Topics to read."),
    field<&FunctionFields::topics_pattern>("topicsPattern", "Topics to read, as a pattern."),
    field<&FunctionFields::output>("output", "Topic to publish to; empty: nothing is published."),
    field<&FunctionFields::parallelism>("parallelism", "Number of instances.").range(1, 1024),
    field<&FunctionFields::guarantee>("processingGuarantees", "Processing guarantee.")
        .one_of(kGuarantees),
    field<&FunctionFields::subscription>("subName",
                                         "Subscription; tenant/namespace/name if empty."),
    field<&FunctionFields::position>("subscriptionPosition", "Where a new subscription begins.")
        .one_of(kPositions),
    field<&FunctionFields::skip_to_latest>("skipToLatest",
                                           "Whether each start begins at the latest message."),
    field<&FunctionFields::retain_ordering>("retainOrdering", "One consumer at a time, in order."),
    field<&FunctionFields::retain_key_ordering>("retainKeyOrdering",
                                                "The records of one key go to one instance."),
    field<&FunctionFields::retries>("maxMessageRetries", "Attempts before a record is rejected.")
        .at_least(0),
    field<&FunctionFields::dead_letter_topic>("deadLetterTopic", "Where rejected records go."),
    field<&FunctionFields::auto_ack>("autoAck", "Deprecated; acknowledgement follows the result."),
    field<&FunctionFields::cleanup>("cleanupSubscription",
                                    "Whether deleting the function removes its subscription."),
    field<&FunctionFields::timeout_ms>("timeoutMs", "Deadline of one record, in milliseconds.")
        .at_least(1),
    field<&FunctionFields::forward>("forwardSourceMessageProperty",
                                    "Whether the output has the properties of the input."),
    field<&FunctionFields::batch_builder>("batchBuilder", "How messages are batched.")
        .one_of(kBatchBuilders),
    field<&FunctionFields::pending>("maxPendingAsyncRequests",
                                    "Not needed: what is under way is bounded in bytes.")
        .at_least(1),
    field<&FunctionFields::runtime_flags>("runtimeFlags",
                                          "Flags for a JVM; unused by built-in functions."),
    config::not_supported("customSerdeInputs", "", "serde classes are Java; use schemas"),
    config::not_supported("outputSerdeClassName", "", "serde classes are Java; use schemas"),
    config::not_supported("customSchemaInputs", "", kLater),
    config::not_supported("customSchemaOutputs", "", kLater),
    config::not_supported("outputSchemaType", "", kLater),
    config::not_supported("inputTypeClassName", "", kJava),
    config::not_supported("outputTypeClassName", "", kJava),
    config::not_supported("windowConfig", "", kLater),
    config::not_supported("exposePulsarAdminClientEnabled", "false",
                          "built-in functions have no use for an admin client"),
    field<&FunctionFields::log_topic>("logTopic", "Topic that gets its log lines."),
};

std::string available() {
  std::string names;
  for (const auto* known : functions::registry()) {
    names += names.empty() ? "" : ", ";
    names += known->name;
  }
  return names;
}

// tenant/namespace/name in one, where they are not given each.
void take_fqfn(const json::object& object, FunctionFields& fields, Problems& problems) {
  if (fields.fqfn.empty()) return;
  const auto parts = split(fields.fqfn, '/');
  if (parts.size() != 3) {
    problems.add(fmt::format("fqfn: \"{}\" is not tenant/namespace/name", fields.fqfn));
    return;
  }
  const std::pair<const char*, std::string*> places[] = {
      {"tenant", &fields.tenant}, {"namespace", &fields.name_space}, {"name", &fields.name}};
  for (size_t i = 0; i < 3; ++i) {
    if (!object.contains(places[i].first)) {
      *places[i].second = parts[i];
    } else if (*places[i].second != parts[i]) {
      problems.add(fmt::format("fqfn: it says {} where {} is {}", parts[i], places[i].first,
                               *places[i].second));
    }
  }
}

const functions::Descriptor* choose_function(const FunctionFields& fields,
                                             std::vector<std::string>& notes, Problems& problems) {
  constexpr std::string_view kBuiltIn = "builtin://";
  std::string code;
  for (const auto* given : {&fields.jar, &fields.py, &fields.go}) {
    if (given->empty()) continue;
    if (!code.empty()) {
      problems.add("jar, py, go: only one of them can be given");
      return nullptr;
    }
    code = *given;
  }
  std::string wanted = fields.function_type;
  if (code.starts_with(kBuiltIn)) {
    const auto named = code.substr(kBuiltIn.size());
    if (!wanted.empty() && functions::find(wanted) != functions::find(named)) {
      problems.add(fmt::format("functionType: it is {}, and the code is {}", wanted, code));
      return nullptr;
    }
    wanted = named;
  }
  if (!wanted.empty()) {
    const auto* found = functions::find(wanted);
    if (found == nullptr) {
      problems.add(fmt::format("Invalid function type '{}' -- Available functions are: [{}]",
                               wanted, available()));
    }
    return found;
  }
  if (const auto* found = functions::find_class(fields.class_name)) {
    notes.push_back(
        fmt::format("{} runs as the built-in function {}", fields.class_name, found->name));
    return found;
  }
  if (code.empty()) {
    problems.add(
        fmt::format("no function: give functionType (--function-type); there are {}", available()));
  } else {
    problems.add(fmt::format(
        "{}: this version of Hulse runs built-in functions ({}), not Java, Python or Go code", code,
        available()));
  }
  return nullptr;
}

void check_function(const FunctionFields& fields, const Component& component, Problems& problems) {
  if (!component.output.empty()) {
    check_topic("output", component.output, problems);
    const auto output = wire::TopicName::parse(component.output);
    for (const auto& input : component.inputs) {
      const auto name = wire::TopicName::parse(input);
      if (output && name && name->base().text() == output->base().text()) {
        problems.add(fmt::format("output: {} is an input as well: each record would come again",
                                 component.output));
      }
    }
  }
  if (!component.dead_letter_topic.empty() && !fields.retries) {
    problems.add(
        "deadLetterTopic: Dead Letter Topic specified, however max retries is set to infinity: "
        "give maxMessageRetries (--max-message-retries)");
  }
  const bool at_least_once = component.guarantee == connect::Guarantee::at_least_once;
  if (fields.timeout_ms && !at_least_once)
    problems.add("timeoutMs: Message timeout can only be specified with ATLEAST_ONCE");
  if (component.guarantee == connect::Guarantee::effectively_once) {
    problems.add(
        "processingGuarantees: functions cannot give EFFECTIVELY_ONCE yet (after a kill an output "
        "whose input was not acknowledged would be published again); use ATLEAST_ONCE");
  }
  if (!fields.auto_ack && component.guarantee != connect::Guarantee::at_most_once) {
    problems.add(
        "autoAck: built-in functions do not acknowledge by themselves, so it cannot be false");
  }
}

}  // namespace

std::span<const config::Field> function_fields() { return kFunctionFields; }

void parse_function(const json::object& object, const json::object& specs, Component& component,
                    std::vector<std::string>& notes, Problems& problems) {
  auto parsed = config::parse<FunctionFields>(kFunctionFields, {object, {}});
  if (!parsed) {
    problems.add("", parsed.error());
    // The rest is looked at all the same: what is missing is said in one go.
    FunctionFields partial;
    partial.function_type = text_of(object, "functionType");
    partial.jar = text_of(object, "jar");
    partial.class_name = text_of(object, "className");
    component.function = choose_function(partial, notes, problems);
    return;
  }
  auto& fields = *parsed;
  take_fqfn(object, fields, problems);
  if (fields.name.empty()) fields.name = fields.class_name.substr(fields.class_name.rfind('.') + 1);
  if (fields.name.empty()) problems.add("name: required, but missing");
  fill(fields, component);
  check_names(fields, problems);
  component.function = choose_function(fields, notes, problems);
  take_inputs(specs, fields, component, problems);
  take_reading(fields, component, problems);
  component.output = fields.output;
  component.forward_properties = fields.forward;
  component.skip_to_latest = fields.skip_to_latest;
  component.batch_by_key |= fields.batch_builder == "KEY_BASED";
  check_function(fields, component, problems);
}

}  // namespace hulse::runtime

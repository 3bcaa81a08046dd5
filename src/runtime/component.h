// What a user asks to run: a sink or a source with its connector, or a function, its topics and its
// policies. Made from Pulsar's SinkConfig, SourceConfig and FunctionConfig objects; checked before
// anything starts.
#pragma once

#include <fmt/format.h>
#include <boost/json/object.hpp>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "aio/clock.h"
#include "base/result.h"
#include "connect/descriptor.h"
#include "functions/descriptor.h"
#include "wire/frame.h"

namespace hulse::runtime {

enum class OnReject { dead_letter, skip, stop };

// How failures are handled, the same for every component. In its configuration it stands in
// `customRuntimeOptions` (a JSON object, or text that is one), in our own files also as `hulse:`.
struct Policy {
  std::chrono::milliseconds retry_initial{100};
  std::chrono::milliseconds retry_max{30'000};
  int64_t retry_attempts_max = 0;  // at the target, per record; 0: for ever
  int64_t restarts_max = 0;        // in a row; 0: for ever
  std::chrono::milliseconds restart_max{60'000};
  int64_t records_per_second = 0;  // of all instances together; 0: as fast as it goes
  int64_t bytes_per_second = 0;
  std::optional<OnReject> on_reject;  // default: dead_letter, under EFFECTIVELY_ONCE stop
};

struct Component {
  connect::Kind kind = connect::Kind::sink;
  std::string tenant = "public";
  std::string name_space = "default";
  std::string name;
  const connect::Descriptor* connector = nullptr;   // of a sink or source
  const functions::Descriptor* function = nullptr;  // of a function
  config::Given given;                              // configs or userConfig, and secrets
  connect::Guarantee guarantee = connect::Guarantee::at_least_once;
  unsigned parallelism = 1;
  Policy policy;
  std::string log_topic;  // empty: its log lines go to the log only

  // Sink and function. Either inputs or a pattern: "persistent://tenant/namespace/REGEX".
  std::vector<std::string> inputs;
  std::string topics_pattern;
  size_t receiver_queue = 0;  // messages; 0: the runtime's own
  std::string subscription;
  bool from_earliest = false;
  bool retain_ordering = false;
  bool retain_key_ordering = false;
  std::chrono::milliseconds write_timeout{0};  // for one write of a record; 0: none
  std::string dead_letter_topic;
  bool cleanup_subscription = true;  // when it is deleted
  bool skip_to_latest = false;       // at each start

  // Source and function. A function may have no output topic.
  std::string output;
  std::string compression = "LZ4";
  bool batching = true;
  bool batch_by_key = false;
  std::optional<int64_t> batch_messages_max;
  std::optional<int64_t> batch_bytes_max;
  std::optional<std::chrono::milliseconds> batch_delay;
  bool forward_properties = true;  // of a function's input to its output

  std::string full_name() const { return tenant + "/" + name_space + "/" + name; }
  // What is read, for people and for names: the first topic, or the pattern.
  const std::string& reads() const { return inputs.empty() ? topics_pattern : inputs.front(); }
  // Whether something stays behind when it is deleted: a subscription, or a source's offsets.
  bool leaves_position() const {
    return connect::reads_topics(kind) ? cleanup_subscription : connector->effectively_once;
  }
  // Whether the other one can go on where this one was.
  bool goes_on_as(const Component& other) const {
    return kind == other.kind && connector == other.connector && function == other.function &&
           inputs == other.inputs && subscription == other.subscription &&
           topics_pattern == other.topics_pattern && output == other.output;
  }
  // What its records become, for people: "file", "identity -> topic".
  std::string writes() const {
    if (function == nullptr) return std::string(connector->name);
    return output.empty() ? std::string(function->name)
                          : fmt::format("{} -> {}", function->name, output);
  }
  // Of the connector's or the function's own configuration.
  std::span<const config::Field> fields() const {
    if (function != nullptr) return function->fields;
    return connector != nullptr ? connector->fields : std::span<const config::Field>();
  }
  bool ordered() const {
    return retain_ordering || guarantee == connect::Guarantee::effectively_once;
  }
  wire::pb::CommandSubscribe::SubType subscription_type() const {
    using wire::pb::CommandSubscribe;
    if (ordered()) return CommandSubscribe::Failover;
    return retain_key_ordering ? CommandSubscribe::Key_Shared : CommandSubscribe::Shared;
  }
};

// A SinkConfig, SourceConfig or FunctionConfig object as Pulsar's files, flags and REST have it.
// Every problem is in the one error; the connector's or function's own configuration is checked as
// well. What Hulse had to decide by itself ("archive x.nar is the built-in netty source") is added
// to `notes`.
Result<Component> parse_component(connect::Kind kind, const boost::json::object& object,
                                  std::vector<std::string>& notes);

// An object, or text that is one in JSON, as Pulsar's tools send maps; null is an empty one.
Result<boost::json::object> object_of(std::string_view key, const boost::json::value& value);

// Where a sink's rejected records go: its own topic for that, or one made of its names.
std::string dead_letter_topic(const Component& component);
// What holds them there, and the property that says why.
inline constexpr const char* kDeadLetterSubscription = "dead-letters";
inline constexpr std::string_view kDeadLetterReason = "HULSE_REASON";

// Where the connector's or function's own configuration stands: "configs", "userConfig".
std::string_view settings_key(connect::Kind kind);

// The top-level keys of the configuration of that kind.
std::vector<std::string_view> component_keys(connect::Kind kind);

}  // namespace hulse::runtime

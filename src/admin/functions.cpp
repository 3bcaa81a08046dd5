// What only /admin/v3/functions has: statistics, triggering, state, and the lists of what is built
// in. State is there for sources and sinks, too.
#include <charconv>

#include "admin/multipart.h"
#include "admin/rest_common.h"
#include "base/base64.h"
#include "base/text.h"
#include "functions/descriptor.h"

namespace hulse::admin {
namespace {

using connect::Kind;
using runtime::ComponentName;

json::array function_definitions() {
  json::array out;
  for (const auto* function : functions::registry()) {
    out.push_back(json::object{
        {"name", function->name},
        {"description", function->description},
        {"functionClass", function->classes.empty() ? fmt::format("builtin://{}", function->name)
                                                    : std::string(function->classes.front())}});
  }
  return out;
}

// ---- statistics

json::value average(const runtime::Latency& latency) {
  return latency.records == 0 ? json::value(nullptr) : json::value(latency.average_ms());
}

// One instance, or several added up.
struct Counted {
  runtime::Recent ever;
  runtime::Recent minute;
  int64_t last_ms = 0;

  void add(const runtime::Status& status) {
    const auto& counters = status.counters;
    add(ever, {counters.received, counters.written, counters.failures, status.latency});
    add(minute, status.minute);
    last_ms = std::max(last_ms, status.last_received_ms);
  }
  static void add(runtime::Recent& to, const runtime::Recent& more) {
    to.received += more.received;
    to.written += more.written;
    to.failures += more.failures;
    to.latency.records += more.latency.records;
    to.latency.total += more.latency.total;
  }
};

json::object show(const runtime::Recent& counted) {
  return {{"receivedTotal", counted.received},
          {"processedSuccessfullyTotal", counted.written},
          {"systemExceptionsTotal", 0},
          {"userExceptionsTotal", counted.failures},
          {"avgProcessLatency", average(counted.latency)}};
}

json::object show(const Counted& counted) {
  auto out = show(counted.ever);
  out["1min"] = show(counted.minute);
  out["lastInvocation"] =
      counted.last_ms == 0 ? json::value(nullptr) : json::value(counted.last_ms);
  return out;
}

json::object metrics_of_instance(const runtime::Status& status) {
  Counted counted;
  counted.add(status);
  auto out = show(counted);
  out["userMetrics"] = json::object();
  return out;
}

Answer show_stats(Call& call, ComponentName name, std::optional<std::string> instance) {
  const auto all = co_await call.worker.status(Kind::function, name);
  if (!all) co_return refuse(all.error());
  if (instance) {
    size_t index = 0;
    const auto* end = instance->data() + instance->size();
    const auto [read_until, failed] = std::from_chars(instance->data(), end, index);
    if (failed != std::errc() || read_until != end || index >= all->size()) {
      co_return refuse(400, fmt::format("there is no instance {}: there are {}, counted from 0",
                                        *instance, all->size()));
    }
    co_return answer(metrics_of_instance((*all)[index].status));
  }
  Counted together;
  json::array instances;
  for (const auto& one : *all) {
    together.add(one.status);
    instances.push_back(
        json::object{{"instanceId", one.index}, {"metrics", metrics_of_instance(one.status)}});
  }
  auto out = show(together);
  out["instances"] = std::move(instances);
  co_return answer(out);
}

// ---- state

json::object show(const std::string& key, const runtime::StateStore::Stored& stored) {
  json::object out{{"key", key}};
  const auto& value = stored.value;
  if (value.number) {
    out["numberValue"] = *value.number;
  } else if (is_utf8(value.bytes)) {
    out["stringValue"] = value.bytes;
  } else {
    out["byteValue"] = base64_encode(value.bytes);
    if (const auto number = value.as_number()) out["numberValue"] = *number;
  }
  out["version"] = stored.version;
  return out;
}

// The value of a FunctionState.
Result<std::string> value_of(const std::string& key, std::string_view text) {
  boost::system::error_code error;
  const auto parsed = json::parse(text, error);
  if (error || !parsed.is_object())
    return Error(Code::invalid, "state: a JSON object is expected, with key and stringValue");
  const auto field = [&](std::string_view name) -> const json::string* {
    const auto* found = parsed.get_object().if_contains(name);
    return found == nullptr ? nullptr : found->if_string();
  };
  const auto* named = field("key");
  if (named == nullptr || *named != key)
    return Error(Code::invalid, "Path key doesn't match key in json");
  if (const auto* plain = field("stringValue")) return std::string(*plain);
  if (const auto* coded = field("byteValue")) {
    auto bytes = base64_decode(*coded);
    if (bytes) return std::move(*bytes);
    return Error(Code::invalid, "state: byteValue is not Base64");
  }
  return Error(Code::invalid,
               "state: it has neither stringValue nor byteValue; counters are the component's own");
}

Answer handle_state(Call& call, ComponentName name, std::string key) {
  if (call.get()) {
    const auto stored = co_await call.worker.state(name, key);
    co_return stored ? answer(show(key, *stored)) : refuse(stored.error());
  }
  if (!call.post()) co_return std::nullopt;
  const auto type = aio::find_header(call.request.headers, "Content-Type");
  std::string_view text = call.request.body;
  Result<std::vector<Part>> parts = std::vector<Part>();
  if (!type.starts_with("application/json")) {
    parts = parse_multipart(type, call.request.body);
    if (!parts) co_return refuse(parts.error());
    text = {};
    for (const auto& part : *parts) {
      if (part.name == "state") text = part.body;
    }
  }
  auto value = value_of(key, text);
  if (!value) co_return refuse(value.error());
  const auto put = co_await call.worker.put_state(name, key, std::move(*value));
  co_return put ? no_content() : refuse(put.error());
}

// ---- triggering

Answer handle_trigger(Call& call, ComponentName name) {
  const auto parts =
      parse_multipart(aio::find_header(call.request.headers, "Content-Type"), call.request.body);
  if (!parts) co_return refuse(parts.error());
  std::optional<std::string> value;
  std::string topic;
  for (const auto& part : *parts) {
    if (part.name == "data" || part.name == "dataStream") value = std::string(part.body);
    if (part.name == "topic") topic = part.body;
  }
  if (!value)
    co_return refuse(400, "the form has neither a part data nor a part dataStream to send");
  auto output = co_await call.worker.trigger(name, std::move(topic), std::move(*value));
  if (!output && output.error().code() == Code::timeout) co_return refuse(408, "Request Timed Out");
  if (!output) co_return refuse(output.error());
  if (!*output) co_return no_content();
  // The bytes as they are, under the type that Pulsar gives them.
  co_return aio::HttpResponse{
      .status = 200, .body = std::move(**output), .content_type = "application/json"};
}

// ---- packages

Answer handle_upload(Call& call) {
  const auto parts =
      parse_multipart(aio::find_header(call.request.headers, "Content-Type"), call.request.body);
  if (!parts) co_return refuse(parts.error());
  std::optional<std::string_view> data;
  std::string path;
  for (const auto& part : *parts) {
    if (part.name == "data") data = part.body;
    if (part.name == "path") path = part.body;
  }
  if (!data) co_return refuse(400, "Uploaded package is not provided: the form has no part data");
  if (path.empty())
    co_return refuse(400, "Function Package is not provided: the form has no part path");
  const auto stored = co_await call.worker.upload(std::move(path), *data);
  co_return stored ? no_content() : refuse(stored.error());
}

Answer handle_download(Call& call) {
  const auto path = call.query.find("path");
  if (path == call.query.end() || path->second.empty())
    co_return refuse(400, "which package? ?path= says it");
  auto bytes = co_await call.worker.download(path->second);
  if (!bytes) co_return refuse(bytes.error());
  co_return aio::HttpResponse{
      .status = 200, .body = std::move(*bytes), .content_type = "application/octet-stream"};
}

// Of a component: what runs is a part of this program.
Answer refuse_download(Call& call, ComponentName name) {
  const auto config = call.worker.config(Kind::function, name);
  if (!config) co_return refuse(config.error());
  co_return refuse(
      404, fmt::format("{} is built into Hulse: there is no file to download", name.text()));
}

}  // namespace

Answer handle_functions(Call& call) {
  const auto& parts = call.parts;
  if (call.get() && call.is(3, {"connectors"}))
    co_return answer(connector_definitions(std::nullopt));
  if (call.get() && call.is(3, {"builtins"})) co_return answer(function_definitions());
  // They are part of the program: there is nothing to read anew.
  if (call.post() && call.is(3, {"builtins", "reload"})) co_return no_content();
  if (call.post() && call.is(3, {"upload"})) co_return co_await handle_upload(call);
  if (call.get() && call.is(3, {"download"})) co_return co_await handle_download(call);
  if (parts.size() < 7) co_return std::nullopt;
  const ComponentName name{parts[3], parts[4], parts[5]};
  if (call.get() && parts.size() == 7 && parts[6] == "stats")
    co_return co_await show_stats(call, name, std::nullopt);
  if (call.get() && parts.size() == 8 && parts[7] == "stats")
    co_return co_await show_stats(call, name, parts[6]);
  if (call.get() && parts.size() == 7 && parts[6] == "download")
    co_return co_await refuse_download(call, name);
  if (call.post() && parts.size() == 7 && parts[6] == "trigger")
    co_return co_await handle_trigger(call, name);
  if (parts.size() == 8 && parts[6] == "state")
    co_return co_await handle_state(call, name, parts[7]);
  co_return std::nullopt;
}

}  // namespace hulse::admin

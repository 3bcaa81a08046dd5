// /admin/v3/sources, /admin/v3/sinks and /admin/v3/functions, in the singular too. What only
// functions have is in functions.cpp.
#include <charconv>
#include <cmath>

#include "admin/multipart.h"
#include "admin/rest_common.h"
#include "base/log.h"
#include "connect/descriptor.h"

namespace hulse::admin {
namespace {

using connect::Kind;

constexpr size_t kHeaderBytesMax = 4000;
using runtime::ComponentName;

std::optional<Kind> kind_of(std::string_view word) {
  if (word == "sources" || word == "source") return Kind::source;
  if (word == "sinks" || word == "sink") return Kind::sink;
  if (word == "functions" || word == "function") return Kind::function;
  return std::nullopt;
}

Result<json::object> parse_config(std::string_view name, std::string_view text) {
  boost::system::error_code error;
  auto value = json::parse(text, error);
  if (error) return Error(Code::invalid, fmt::format("{} is not JSON: {}", name, error.message()));
  if (!value.is_object()) return Error(Code::invalid, fmt::format("{} is no JSON object", name));
  return std::move(value.get_object());
}

// Whether the configuration says itself what runs.
bool names_code(Kind kind, const json::object& config) {
  if (kind != Kind::function)
    return config.contains("archive") ||
           config.contains(kind == Kind::sink ? "sinkType" : "sourceType");
  return config.contains("jar") || config.contains("py") || config.contains("go") ||
         config.contains("functionType");
}

// The configuration of a create or an update: Pulsar's form, or just the JSON.
Result<json::object> read_config(const Call& call, Kind kind) {
  const std::string name = fmt::format("{}Config", connect::to_string(kind));
  const auto type = aio::find_header(call.request.headers, "Content-Type");
  if (type.starts_with("application/json")) return parse_config("the body", call.request.body);
  const auto parts = parse_multipart(type, call.request.body);
  if (!parts) return parts.error();
  std::optional<json::object> config;
  std::string url;
  std::string archive;  // the file's name
  for (const auto& part : *parts) {
    if (part.name == name) {
      auto parsed = parse_config(name, part.body);
      if (!parsed) return parsed.error();
      config = std::move(*parsed);
    } else if (part.name == "url") {
      url = part.body;
    } else if (part.name == "data") {
      archive = part.file_name;
    } else if (part.name != "updateOptions") {
      return Error(Code::invalid,
                   fmt::format("the form has a part \"{}\"; {}, data, url and updateOptions are "
                               "known",
                               part.name, name));
    }
  }
  if (!config) {
    if (url.empty()) return Error(Code::invalid, fmt::format("the form has no part {}", name));
    config.emplace();
  }
  // What was sent along is known by its name: a built-in takes its place, or it is refused.
  const std::string_view code = kind == Kind::function ? "jar" : "archive";
  if (!url.empty()) {
    (*config)[code] = url;
  } else if (!archive.empty() && !names_code(kind, *config)) {
    (*config)[code] = archive;
  }
  return std::move(*config);
}

json::array failures(const runtime::Status& status) {
  json::array out;
  for (auto at = status.failures.rbegin(); at != status.failures.rend(); ++at)
    out.push_back(json::object{{"exceptionString", at->text}, {"timestampMs", at->at_ms}});
  return out;
}

// What it measures, and its last failures with what is known of each.
void show_meters(const runtime::Status& status, json::object& out) {
  const auto& meters = status.meters;
  const auto rounded = [](double value) { return std::round(value * 10) / 10; };
  out["rates"] = json::object{{"recordsInPerSecond", rounded(meters.records_in)},
                              {"recordsOutPerSecond", rounded(meters.records_out)},
                              {"bytesInPerSecond", std::round(meters.bytes_in)}};
  if (meters.lag) {
    out["lag"] = json::object{{"messages", meters.lag->messages},
                              {"bytes", meters.lag->bytes},
                              {"ageMs", meters.lag->age_ms}};
  }
  if (meters.records_limit > 0 || meters.bytes_limit > 0) {
    out["rateLimit"] = json::object{{"recordsPerSecond", meters.records_limit},
                                    {"bytesPerSecond", meters.bytes_limit},
                                    {"waitedMs", meters.limited_ms}};
  }
  json::array errors;
  for (auto at = status.failures.rbegin(); at != status.failures.rend(); ++at) {
    json::object one{{"timestampMs", at->at_ms}, {"text", at->text}};
    if (!at->message_id.empty()) {
      one["topic"] = at->topic;
      one["messageId"] = at->message_id;
      one["attempt"] = at->attempt;
    }
    if (!at->words.empty()) one["words"] = at->words;
    errors.push_back(std::move(one));
  }
  out["lastErrors"] = std::move(errors);
}

json::object own_status(const runtime::Status& status) {
  const auto& counters = status.counters;
  json::object out{{"state", runtime::to_string(status.state)},
                   {"reason", status.reason},
                   {"received", counters.received},
                   {"written", counters.written},
                   {"deadLettered", counters.dead_lettered},
                   {"skipped", counters.skipped},
                   {"returned", counters.returned},
                   {"inFlight", counters.in_flight},
                   {"alreadyStored", counters.already_stored},
                   {"retries", counters.retries},
                   {"restarts", counters.restarts}};
  show_meters(status, out);
  return out;
}

json::object show_function(const runtime::InstanceStatus& instance) {
  const auto& status = instance.status;
  const auto& counters = status.counters;
  return {{"running", status.state == runtime::State::running},
          {"error", status.state == runtime::State::running ? "" : status.reason},
          {"numRestarts", counters.restarts},
          {"numReceived", counters.received},
          {"numSuccessfullyProcessed", counters.written},
          {"numUserExceptions", counters.failures},
          {"latestUserExceptions", failures(status)},
          {"numSystemExceptions", 0},
          {"latestSystemExceptions", json::array()},
          {"averageLatency", status.latency.average_ms()},
          {"lastInvocationTime", status.last_received_ms},
          {"workerId", instance.worker},
          {"hulse", own_status(status)}};
}

// Pulsar's fields, and ours in an object of their own.
json::object show(Kind kind, const runtime::InstanceStatus& instance) {
  if (kind == Kind::function) return show_function(instance);
  const auto& status = instance.status;
  const bool sink = kind == Kind::sink;
  const auto& counters = status.counters;
  json::object out{{"running", status.state == runtime::State::running},
                   {"error", status.state == runtime::State::running ? "" : status.reason},
                   {"numRestarts", counters.restarts}};
  out[sink ? "numReadFromPulsar" : "numReceivedFromSource"] = counters.received;
  out["numSystemExceptions"] = 0;
  out["latestSystemExceptions"] = json::array();
  out[sink ? "numSinkExceptions" : "numSourceExceptions"] = counters.failures;
  out[sink ? "latestSinkExceptions" : "latestSourceExceptions"] = failures(status);
  out[sink ? "numWrittenToSink" : "numWritten"] = counters.written;
  out["lastReceivedTime"] = status.last_received_ms;
  out["workerId"] = instance.worker;
  out["hulse"] = own_status(status);
  return out;
}

Answer show_status(const Call& call, Kind kind, ComponentName name,
                   std::optional<unsigned> instance) {
  const auto all = co_await call.worker.status(kind, name);
  if (!all) co_return refuse(all.error());
  if (instance) {
    if (*instance >= all->size()) {
      co_return refuse(400, fmt::format("there is no instance {}: there are {}, counted from 0",
                                        *instance, all->size()));
    }
    co_return answer(show(kind, (*all)[*instance]));
  }
  size_t running = 0;
  json::array instances;
  for (const auto& one : *all) {
    running += one.status.state == runtime::State::running ? 1 : 0;
    instances.push_back(json::object{{"instanceId", one.index}, {"status", show(kind, one)}});
  }
  co_return answer(json::object{
      {"numInstances", all->size()}, {"numRunning", running}, {"instances", std::move(instances)}});
}

Answer handle_builtin(const Call& call, Kind kind) {
  const bool sink = kind == Kind::sink;
  const std::string_view list = sink ? "builtinsinks" : "builtinsources";
  if (call.get() && call.is(3, {list})) co_return answer(connector_definitions(kind));
  if (call.get() && call.is(3, {list, "*", "configdefinition"})) {
    const auto* connector = connect::find(kind, call.parts[4]);
    if (connector == nullptr) {
      co_return refuse(404, fmt::format("builtin {} does not exist: {}", connect::to_string(kind),
                                        call.parts[4]));
    }
    co_return answer(config::definition(connector->fields));
  }
  // They are part of the program: there is nothing to read anew.
  if (call.post() && call.is(3, {sink ? "reloadBuiltInSinks" : "reloadBuiltInSources"}))
    co_return no_content();
  co_return std::nullopt;
}

// What an update changed goes into a header: Pulsar's clients expect no body.
// A header has its limits; what does not fit is left out, and said.
aio::HttpResponse told(const std::vector<std::string>& lines, std::string_view header,
                       bool dry_run) {
  if (dry_run) {
    json::array list;
    for (const auto& line : lines) list.emplace_back(line);
    return answer(json::object{{header == "Hulse-Changes" ? "changes" : "notes", std::move(list)}});
  }
  auto response = no_content();
  if (!lines.empty()) {
    json::array list;
    size_t bytes = 0;
    for (const auto& line : lines) {
      bytes += line.size();
      if (bytes > kHeaderBytesMax) {
        list.emplace_back(fmt::format("and {} more", lines.size() - list.size()));
        break;
      }
      list.emplace_back(line);
    }
    response.headers.emplace_back(header, json::serialize(list));
  }
  return response;
}

Answer handle_one(Call& call, Kind kind, ComponentName name) {
  if (call.get()) {
    const auto shown = call.worker.config(kind, name);
    co_return shown ? answer(*shown) : refuse(shown.error());
  }
  if (call.del()) {
    const auto removed = co_await call.worker.remove(kind, name, call.flag("dropSubscription"));
    co_return removed ? no_content() : refuse(removed.error());
  }
  if (!call.post() && !call.put()) co_return std::nullopt;
  auto config = read_config(call, kind);
  if (!config) co_return refuse(config.error());
  auto forbidden = co_await forbid_topics(call, *config);
  if (!forbidden && call.put()) {
    // Changing where a sink writes to is reading what it reads.
    const auto now = call.worker.config(kind, name);
    if (now) forbidden = co_await forbid_topics(call, *now);
  }
  if (forbidden) co_return forbidden;
  for (const auto& [key, value] : *config) {
    call.noted += call.noted.empty() ? "given " : ", ";
    call.noted += std::string_view(key);
  }
  const bool dry_run = call.flag("dryRun");
  if (call.post()) {
    const auto notes = co_await call.worker.create(kind, name, std::move(*config), dry_run);
    co_return notes ? told(*notes, "Hulse-Notes", dry_run) : refuse(notes.error());
  }
  const auto changes = co_await call.worker.update(kind, name, std::move(*config), dry_run);
  if (changes) call.noted = fmt::format("{}", fmt::join(*changes, "; "));
  co_return changes ? told(*changes, "Hulse-Changes", dry_run) : refuse(changes.error());
}

// ?from=earliest|TIME|MESSAGE, &topic= for one of several.
Answer replay(Call& call, ComponentName name) {
  const auto from = call.query.find("from");
  if (from == call.query.end())
    co_return refuse(400, "from where? ?from=earliest, a message or a time");
  const auto place = runtime::parse_place(from->second, aio::wall_ms());
  if (!place) co_return refuse(place.error());
  const auto topic = call.query.find("topic");
  const auto moved = co_await call.worker.replay(
      name, *place, topic == call.query.end() ? std::string() : topic->second);
  if (!moved) co_return refuse(moved.error());
  json::array list;
  for (const auto& line : *moved) list.emplace_back(line);
  call.noted = fmt::format("{}", fmt::join(*moved, "; "));
  co_return answer(json::object{{"from", std::move(list)}});
}

std::optional<runtime::Verb> verb_of(std::string_view word) {
  if (word == "start") return runtime::Verb::start;
  if (word == "stop") return runtime::Verb::stop;
  if (word == "restart") return runtime::Verb::restart;
  return std::nullopt;
}

}  // namespace

Answer handle_components(Call& call) {
  const auto& parts = call.parts;
  if (parts.size() < 4 || parts[1] != "v3") co_return std::nullopt;
  const auto kind = kind_of(parts[2]);
  if (!kind) co_return std::nullopt;
  std::optional<aio::HttpResponse> own;
  if (*kind == Kind::function) {
    own = co_await handle_functions(call);
  } else {
    own = co_await handle_builtin(call, *kind);
  }
  if (own) co_return std::move(*own);
  if (parts.size() == 5 && call.get()) {
    const auto names = call.worker.list(*kind, parts[3], parts[4]);
    if (!names) co_return refuse(names.error());
    json::array list;
    for (const auto& name : *names) list.emplace_back(name);
    co_return answer(list);
  }
  if (parts.size() < 6) co_return std::nullopt;
  const ComponentName name{parts[3], parts[4], parts[5]};
  if (parts.size() == 6) co_return co_await handle_one(call, *kind, name);
  std::optional<unsigned> instance;
  if (parts.size() == 8) {
    unsigned index = 0;
    const auto& text = parts[6];
    const auto* end = text.data() + text.size();
    const auto [read_until, failed] = std::from_chars(text.data(), end, index);
    if (failed != std::errc() || read_until != end)
      co_return refuse(400, fmt::format("\"{}\" is no instance: a number from 0 on", text));
    instance = index;
  }
  if (parts.size() > 8) co_return std::nullopt;
  const auto& what = parts.back();
  if (call.get() && what == "status") co_return co_await show_status(call, *kind, name, instance);
  if (call.post() && what == "replay" && *kind == Kind::sink && !instance)
    co_return co_await replay(call, name);
  const auto verb = verb_of(what);
  if (!call.post() || !verb) co_return std::nullopt;
  const auto done = co_await call.worker.act(*kind, name, *verb, instance);
  co_return done ? no_content() : refuse(done.error());
}

}  // namespace hulse::admin

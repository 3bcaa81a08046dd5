// hulse preview: what a sink would write for the next records of its topics, without writing.
#include <CLI/CLI.hpp>
#include <iostream>

#include "aio/timeout.h"
#include "cli/component_flags.h"
#include "cli/data_commands.h"
#include "cli/masking.h"
#include "cli/with_client.h"
#include "client/reader.h"
#include "config/secret_reference.h"

namespace hulse::cli {
namespace {

constexpr auto kReadMax = std::chrono::seconds(10);

struct Words {
  ComponentWords component;
  ClientWords client;
  std::string from = "earliest";
  int64_t count = 10;
  CLI::App* app = nullptr;
};

std::string words_of(const connect::Outcome& outcome) {
  switch (outcome.verdict) {
    case connect::Verdict::ok: return "nothing would be written; it counts as done";
    case connect::Verdict::reject: return "it would be rejected: " + outcome.error.text();
    default: return "it would not be written: " + outcome.error.text();
  }
}

// Of one entry; gives how many were shown.
Result<int64_t> show(connect::Sink& sink, const connect::Context& context, const std::string& topic,
                     const std::shared_ptr<wire::Messages>& messages, int64_t most) {
  const auto records = std::make_shared<connect::Records>();
  records->topic = topic;
  records->records = messages->list;
  records->owner = messages;
  std::vector<uint32_t> chosen;
  for (uint32_t i = 0; i < records->records.size() && i < most; ++i) chosen.push_back(i);
  std::vector<connect::Outcome> outcomes;
  auto shown = sink.preview(
      context, connect::RecordBatch(records, chosen, [&](std::vector<connect::Outcome> given) {
        outcomes = std::move(given);
      }));
  if (!shown) return shown.error();
  for (size_t i = 0; i < chosen.size(); ++i) {
    const auto& record = records->records[chosen[i]];
    std::cout << fmt::format("-- message {} of {}\n", record.id.text(), topic);
    const auto& text = (*shown)[i];
    std::cout << (text.empty() ? words_of(outcomes[i]) : printable(text)) << "\n";
  }
  return static_cast<int64_t>(chosen.size());
}

aio::Task<Result<void>> preview(const Words& words, const runtime::Component& component,
                                runtime::Place place, client::Client& client) {
  // Nothing is opened, so no secret is needed.
  config::Problems problems;
  const auto given = config::without_references(component.fields(), component.given, problems);
  auto sink = component.connector->make_sink(given);
  if (!sink) co_return sink.error();
  connect::Context context{.executor = co_await aio::asio::this_coro::executor};
  context.tenant = component.tenant;
  context.name_space = component.name_space;
  context.name = component.name;
  context.instances = component.parallelism;
  context.guarantee = component.guarantee;
  context.bus_id = "preview";
  context.topic = component.reads();
  const auto topics = co_await find_topics(client, component.inputs, component.topics_pattern);
  if (!topics) co_return topics.error();
  int64_t left = words.count;
  Result<void> result;
  for (const auto& topic : *topics) {
    client::ReaderOptions options{.topic = topic};
    options.name = "hulse-preview";
    options.start = place.message.value_or(kEarliest);
    options.start_inclusive = place.message && *place.message != kEarliest;
    const auto reader = co_await client::Reader::open(client, std::move(options));
    if (!reader) co_return reader.error();
    if (place.time_ms) result = co_await (*reader)->seek(*place.time_ms);
    while (result && left > 0) {
      const auto more = co_await (*reader)->has_more();
      if (!more || !*more) {
        if (!more) result = more.error();
        break;
      }
      const auto messages =
          co_await aio::with_timeout(kReadMax, "reading " + topic, (*reader)->next());
      if (!messages) {
        result = messages.error();
        break;
      }
      if ((*messages)->damage || (*messages)->list.empty()) continue;
      const auto shown = show(**sink, context, topic, *messages, left);
      if (!shown) {
        result = shown.error();
        break;
      }
      left -= *shown;
    }
    co_await aio::start_cleanup();
    co_await (*reader)->close();
    if (!result) break;
  }
  std::cout << fmt::format("{} records of {} topics; nothing was written\n", words.count - left,
                           topics->size());
  co_return result;
}

Result<void> run(Words& words) {
  std::string problems;
  std::vector<std::string> notes;
  for (const auto& word : words.app->remaining())
    collect(problems, unknown_option(*words.app, word));
  const auto object = gather(words.component, problems, notes);
  if (!problems.empty()) return Error(Code::invalid, problems);
  const auto component = runtime::parse_component(connect::Kind::sink, object, notes);
  if (!component)
    return Error(Code::invalid, with_flags(words.component, component.error().text()));
  const auto place = runtime::parse_place(words.from, aio::wall_ms());
  if (!place) return place.error().with("--from");
  auto options = client_options(words.client);
  if (!options) return options.error();
  return run_with_client(std::move(*options), [&](client::Client& client) {
    return preview(words, *component, *place, client);
  });
}

}  // namespace

void add_preview_command(CLI::App& app, Action& action) {
  const auto words = std::make_shared<Words>();
  words->component.kind = connect::Kind::sink;
  auto* command = app.add_subcommand(
      "preview", "Show what a sink would write; nothing is written, acknowledged or moved");
  words->app = command;
  command->allow_extras();
  command->add_option("FILE", words->component.config_file, "YAML or JSON file of a SinkConfig");
  add_component_flags(*command, words->component);
  add_local_run_flags(*command, words->client);
  command
      ->add_option("--from", words->from,
                   "earliest, a message (12:3), a time, or how long ago (10m)")
      ->capture_default_str();
  command->add_option("-n,--limit", words->count, "How many records to show")
      ->capture_default_str()
      ->check(CLI::Range(1, 100'000));
  command->callback([words, &action] { action = [words] { return run(*words); }; });
}

}  // namespace hulse::cli

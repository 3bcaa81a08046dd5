// hulse tap: a live sample of what goes through a topic, without a subscription of its own.
#include <CLI/CLI.hpp>
#include <iostream>

#include "aio/gate.h"
#include "base/secret.h"
#include "cli/data_commands.h"
#include "cli/masking.h"
#include "cli/with_client.h"
#include "client/reader.h"

namespace hulse::cli {
namespace {

struct Words {
  ClientWords client;
  std::string what;
  std::string from = "latest";
  int64_t count = 10;
  int64_t bytes_max = 1000;
};

void show(const std::string& topic, const Message& message, size_t bytes_max) {
  std::string line =
      fmt::format("{} {} {}", runtime::time_text(message.publish_time), topic, message.id.text());
  if (message.key) line += " key=" + shown_value(*message.key, bytes_max);
  for (const auto& [name, value] : message.properties) {
    line += fmt::format(" {}={}", shown_value(name, bytes_max),
                        is_sensitive_name(name) ? kRedacted : shown_value(value, bytes_max));
  }
  std::cout << line << "\n  "
            << (message.null_value ? "null" : shown_value(message.value, bytes_max)) << "\n";
}

// One topic (partition) until all have shown enough. Lives within tap().
struct Tap {
  const Words& words;
  client::Client& client;
  aio::Event& ended;
  int64_t left;
  size_t open = 0;  // topics that are followed
  std::optional<Error> failed = {};
};

aio::Task<void> follow(Tap& tap, std::string topic, runtime::Place place) {
  client::ReaderOptions options{.topic = topic};
  options.name = "hulse-tap";
  options.start = place.message.value_or(kEarliest);
  options.start_inclusive =
      place.message && *place.message != kEarliest && *place.message != kLatest;
  const auto reader = co_await client::Reader::open(tap.client, std::move(options));
  std::optional<Error> failed;
  if (!reader) failed = reader.error();
  if (!failed && place.time_ms) {
    const auto moved = co_await (*reader)->seek(*place.time_ms);
    if (!moved) failed = moved.error();
  }
  while (!failed && tap.left > 0) {
    const auto messages = co_await (*reader)->next();
    if (!messages) {
      failed = messages.error();
      break;
    }
    if ((*messages)->damage) {
      std::cout << fmt::format("{} message {} cannot be read: {}\n", topic, (*messages)->id.text(),
                               (*messages)->damage->text());
      --tap.left;
      continue;
    }
    for (const auto& message : (*messages)->list) {
      if (tap.left == 0) break;
      --tap.left;
      show(topic, message, static_cast<size_t>(tap.words.bytes_max));
    }
    std::cout.flush();
    if (!std::cout) tap.left = 0;  // whoever read has gone
  }
  if (failed && !failed->cancelled() && failed->code() != Code::closed) tap.failed = failed;
  co_await aio::start_cleanup();
  if (reader) co_await (*reader)->close();
  --tap.open;
  tap.ended.notify();
}

aio::Task<Result<void>> tap(const Words& words, std::vector<std::string> names, std::string pattern,
                            runtime::Place place, client::Client& client) {
  const auto topics = co_await find_topics(client, std::move(names), std::move(pattern));
  if (!topics) co_return topics.error();
  const auto executor = co_await aio::asio::this_coro::executor;
  aio::Event ended(executor);
  Tap state{words, client, ended, words.count == 0 ? INT64_MAX : words.count};
  aio::Gate gate(executor);
  state.open = topics->size();
  for (const auto& topic : *topics) gate.spawn("tap", follow(state, topic, place));
  while (state.left > 0 && !state.failed && state.open > 0) {
    const bool woken = co_await ended.wait();
    if (!woken) break;
  }
  co_await aio::start_cleanup();
  co_await gate.close();
  if (state.failed) co_return *state.failed;
  co_return Result<void>();
}

Result<void> run(const Words& words, const AdminWords& admin) {
  const auto place = runtime::parse_place(words.from, aio::wall_ms());
  if (!place) return place.error().with("--from");
  std::vector<std::string> names = {words.what};
  std::string pattern;
  if (const auto ref = parse_component_ref(words.what)) {
    const auto component = fetch_component(with_login(admin, words.client), *ref);
    if (!component) return component.error();
    const bool sink = ref->kind == connect::Kind::sink;
    names = sink ? component->inputs : std::vector{component->output};
    pattern = component->topics_pattern;
  }
  auto options = client_options(words.client);
  if (!options) return options.error();
  return run_with_client(std::move(*options), [&](client::Client& client) {
    return tap(words, names, pattern, *place, client);
  });
}

}  // namespace

void add_tap_command(CLI::App& app, Action& action, const std::shared_ptr<AdminWords>& admin) {
  const auto words = std::make_shared<Words>();
  auto* command = app.add_subcommand(
      "tap", "Watch the records of a topic as they come; nothing is acknowledged or moved");
  add_client_flags(*command, words->client);
  command
      ->add_option("WHAT", words->what,
                   "A topic, or sink:NAME for what a sink reads, source:NAME for what a source "
                   "writes (sink:tenant/namespace/NAME)")
      ->required();
  command->add_option("-n,--limit", words->count, "How many to show; 0: until it is stopped")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option("--from", words->from,
                   "latest, earliest, a message (12:3), a time, or how long ago (10m)")
      ->capture_default_str();
  command->add_option("--max-bytes", words->bytes_max, "How much of each value to show")
      ->capture_default_str()
      ->check(CLI::Range(10, 10'000'000));
  command->add_option("--admin-url", admin->url, "Web interface of the server");
  command->callback(
      [words, admin, &action] { action = [words, admin] { return run(*words, *admin); }; });
}

}  // namespace hulse::cli

// hulse check FILE…: what is wrong with configurations of sinks, sources and functions, before they
// start.
#include <CLI/CLI.hpp>
#include <iostream>

#include "aio/run.h"
#include "aio/timeout.h"
#include "cli/command_line.h"
#include "cli/component_files.h"
#include "runtime/component.h"
#include "runtime/secrets.h"

namespace hulse::cli {
namespace {

constexpr auto kOpenMax = std::chrono::seconds(15);

// Opens the connector and lets go of it.
aio::Task<Result<void>> try_open(runtime::Component component) {
  const auto given = runtime::resolve_secrets(component.fields(), component.given, {});
  if (!given) co_return given.error();
  connect::Context context{.executor = co_await aio::asio::this_coro::executor};
  context.tenant = component.tenant;
  context.name_space = component.name_space;
  context.name = component.name;
  context.instances = component.parallelism;
  context.guarantee = component.guarantee;
  context.bus_id = "check";
  const bool sink = component.kind == connect::Kind::sink;
  context.topic = connect::reads_topics(component.kind) ? component.reads() : component.output;
  Result<void> opened;
  if (component.function != nullptr) {
    auto made = component.function->make(*given);
    if (!made) co_return made.error();
    opened = co_await aio::with_timeout(kOpenMax, "opening it", (*made)->open(context));
    co_await (*made)->close();
  } else if (sink) {
    auto made = component.connector->make_sink(*given);
    if (!made) co_return made.error();
    opened = co_await aio::with_timeout(kOpenMax, "opening it", (*made)->open(context));
    co_await (*made)->close();
  } else {
    auto made = component.connector->make_source(*given);
    if (!made) co_return made.error();
    opened = co_await aio::with_timeout(kOpenMax, "opening it", (*made)->open(context));
    co_await (*made)->close();
  }
  co_return opened;
}

Result<std::string> check_file(const std::string& path, bool offline) {
  const auto file = read_component_file(path);
  if (!file) return file.error();
  std::vector<std::string> notes;
  const auto component = runtime::parse_component(file->kind, file->config, notes);
  if (!component) return component.error();
  for (const auto& note : notes) std::cout << path << ": note: " << note << "\n";
  const std::string name(component->function != nullptr ? component->function->name
                                                        : component->connector->name);
  if (!offline) {
    const auto opened = aio::run(try_open(*component));
    if (!opened) return opened.error().with("opening " + name);
  }
  return fmt::format("{} ({}) is as it should be{}", file->label(), name,
                     offline ? "; not opened (--offline)" : "");
}

struct Words {
  std::vector<std::string> paths;
  bool offline = false;
};

Result<void> check(const Words& words) {
  size_t wrong = 0;
  size_t seen = 0;
  for (const auto& path : words.paths) {
    const auto files = component_files(path);
    if (!files) return files.error();
    for (const auto& file : *files) {
      ++seen;
      const auto checked = check_file(file, words.offline);
      if (checked) {
        std::cout << file << ": " << *checked << "\n";
        continue;
      }
      ++wrong;
      std::string text = checked.error().text();
      for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos; ++at)
        text.replace(at, 1, "\n" + file + ": ");
      if (!text.starts_with(file)) text = file + ": " + text;
      std::cout << text << "\n";
    }
  }
  if (wrong == 0) return {};
  return Error(Code::invalid, fmt::format("{} of {} files have problems", wrong, seen));
}

}  // namespace

void add_check_command(CLI::App& app, Action& action) {
  auto words = std::make_shared<Words>();
  auto* command =
      app.add_subcommand("check", "Say what is wrong with files of sinks, sources and functions");
  command
      ->add_option("files", words->paths,
                   "YAML or JSON files of a SinkConfig, SourceConfig or FunctionConfig, "
                   "or folders of them")
      ->required();
  command->add_flag("--offline", words->offline, "Do not open the target");
  command->callback([words, &action] { action = [words] { return check(*words); }; });
}

}  // namespace hulse::cli

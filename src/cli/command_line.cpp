#include "cli/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>

#include "base/text.h"

namespace hulse::cli {

namespace {

// Groups of pulsar-admin that Hulse serves over REST only.
bool is_pulsar_group(std::string_view word) {
  constexpr std::string_view kGroups[] = {"brokers",    "broker-stats",    "clusters",
                                          "namespaces", "schemas",         "tenants",
                                          "topics",     "functions-worker"};
  return std::find(std::begin(kGroups), std::end(kGroups), word) != std::end(kGroups);
}

}  // namespace

void print_error(const Error& error) {
  const std::string text = error.text();
  for (const auto line : split(text, '\n')) std::cerr << "hulse: " << line << '\n';
}

std::string unknown_command(const CLI::App& app, const std::vector<std::string>& words) {
  const CLI::App* group = &app;
  for (const auto& word : words) {
    const auto commands = group->get_subcommands([](const CLI::App*) { return true; });
    if (commands.empty() || word.starts_with('-')) return {};
    std::vector<std::string> names;
    const CLI::App* chosen = nullptr;
    for (const auto* command : commands) {
      names.push_back(command->get_name());
      if (command->check_name(word)) chosen = command;
    }
    if (chosen == nullptr && group == &app && is_pulsar_group(word)) {
      return fmt::format(
          "{0}: Hulse has no commands for {0} of its own; its REST has them: Apache Pulsar's own "
          "pulsar-admin works against it (--admin-url http://localhost:8080), and so does curl",
          word);
    }
    if (chosen == nullptr) {
      const std::vector<std::string_view> views(names.begin(), names.end());
      const auto close = nearest(word, views);
      return fmt::format("{}: unknown command; {}", word,
                         close ? fmt::format("did you mean {}?", *close)
                               : fmt::format("there are {}", fmt::join(names, ", ")));
    }
    group = chosen;
  }
  return {};
}

std::string unknown_option(const CLI::App& app, const std::string& word) {
  if (!word.starts_with('-')) return fmt::format("{}: an unexpected word", word);
  const std::string name = word.substr(0, word.find('='));
  std::vector<std::string> known;
  for (const auto* option : app.get_options()) {
    for (const auto& spelling : option->get_lnames()) known.push_back("--" + spelling);
  }
  const std::vector<std::string_view> views(known.begin(), known.end());
  const auto close = nearest(name, views);
  return close ? fmt::format("{}: unknown option; did you mean {}?", name, *close)
               : fmt::format("{}: unknown option; --help lists them", name);
}

}  // namespace hulse::cli

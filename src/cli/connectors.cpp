// hulse connectors …: what is built in, from the connectors' own declarations.
#include <CLI/CLI.hpp>
#include <iostream>
#include <set>

#include "base/text.h"
#include "cli/command_line.h"
#include "connect/descriptor.h"

namespace hulse::cli {
namespace {

void list() {
  for (const auto* connector : connect::registry()) {
    std::cout << fmt::format("{:<20} {:<7} {}\n", connector->name,
                             connect::to_string(connector->kind), connector->description);
  }
}

void show(const connect::Descriptor& connector) {
  std::cout << fmt::format("{} ({}): {}\n", connector.name, connect::to_string(connector.kind),
                           connector.description);
  for (const auto alias : connector.aliases) std::cout << fmt::format("  also called {}\n", alias);
  std::cout << fmt::format("  guarantees: ATMOST_ONCE, ATLEAST_ONCE{}\n",
                           connector.effectively_once ? ", EFFECTIVELY_ONCE" : "");
  for (const auto& field : connector.fields) {
    if (field.kind == config::Kind::unsupported) continue;
    std::string facts(field.type_name);
    if (field.is_required) facts += ", required";
    if (field.sensitive()) facts += ", sensitive";
    const auto value = field.default_value();
    if (!value.empty()) facts += ", default " + value;
    std::cout << fmt::format("\n  {} ({})\n      {}\n", field.key, facts, field.help);
    if (!field.choices.empty())
      std::cout << fmt::format("      one of: {}\n", fmt::join(field.choices, ", "));
    if (!field.example_text.empty())
      std::cout << fmt::format("      example: {}\n", field.example_text);
  }
}

Result<void> show_all(const std::string& name) {
  bool found = false;
  for (const auto kind : {connect::Kind::source, connect::Kind::sink}) {
    const auto* connector = connect::find(kind, name);
    if (connector == nullptr) continue;
    if (found) std::cout << '\n';
    show(*connector);
    found = true;
  }
  if (found) return {};
  std::set<std::string_view> names;
  for (const auto* connector : connect::registry()) names.insert(connector->name);
  const std::vector<std::string_view> list(names.begin(), names.end());
  const auto close = nearest(name, list);
  return Error(Code::not_found,
               fmt::format("there is no connector {}; {}", name,
                           close ? fmt::format("did you mean {}?", *close)
                                 : fmt::format("there are {}", fmt::join(list, ", "))));
}

}  // namespace

void add_connector_commands(CLI::App& app, Action& action) {
  auto* group =
      app.add_subcommand("connectors", "What connectors there are and how they are configured");
  group->require_subcommand(1);
  group->add_subcommand("list", "Every connector, one a line")->callback([&action] {
    action = []() -> Result<void> {
      list();
      return {};
    };
  });
  auto name = std::make_shared<std::string>();
  auto* one =
      group->add_subcommand("show", "The keys of a connector with types, defaults and meaning");
  one->add_option("NAME", *name, "Name of the connector")->required();
  one->callback([name, &action] { action = [name] { return show_all(*name); }; });
}

}  // namespace hulse::cli

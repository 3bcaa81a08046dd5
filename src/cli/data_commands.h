// What the commands that lay hands on the data share: tap, deadletters, preview.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/client_settings.h"
#include "cli/command_line.h"
#include "client/client.h"
#include "runtime/component.h"
#include "runtime/places.h"

namespace hulse::cli {

// A component of a server, by its words: "sink:NAME" or "source:tenant/namespace/NAME".
struct ComponentRef {
  connect::Kind kind = connect::Kind::sink;
  std::string tenant = "public";
  std::string name_space = "default";
  std::string name;
};
// Nothing when the word is no such reference.
std::optional<ComponentRef> parse_component_ref(std::string_view word);

// Who asks a broker asks its web interface too, unless that was told otherwise.
AdminWords with_login(const AdminWords& admin, const LoginWords& login);

// Its configuration as the server shows it, taken for a component again: secrets are covered.
Result<runtime::Component> fetch_component(const AdminWords& admin, const ComponentRef& ref);

// Each partition by itself.
aio::Task<Result<std::vector<std::string>>> find_topics(client::Client& client,
                                                        std::vector<std::string> topics,
                                                        std::string pattern);

void add_tap_command(CLI::App& app, Action& action, const std::shared_ptr<AdminWords>& admin);
void add_dead_letter_commands(CLI::App& app, Action& action,
                              const std::shared_ptr<AdminWords>& admin);
void add_preview_command(CLI::App& app, Action& action);

}  // namespace hulse::cli

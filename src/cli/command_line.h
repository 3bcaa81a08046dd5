// The command line: every command but those that need the broker in the same process.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

namespace CLI {
class App;
}

namespace hulse::cli {

// What a command does once the words are parsed. Its error is printed and ends the program with 1.
using Action = std::function<Result<void>()>;

struct AdminWords;  // admin_client.h

// The commands of this folder; each sets `action` when it was chosen. Those that reach a server's
// web interface share the words for it, which may stand before the command too.
std::shared_ptr<AdminWords> add_admin_words(CLI::App& app);
void add_component_commands(CLI::App& app, Action& action,
                            const std::shared_ptr<AdminWords>& admin);  // sinks, sources, functions
void add_apply_command(CLI::App& app, Action& action,
                       const std::shared_ptr<AdminWords>& admin);  // apply
void add_check_command(CLI::App& app, Action& action);             // check
void add_connector_commands(CLI::App& app, Action& action);        // connectors
void add_token_commands(CLI::App& app, Action& action);            // tokens
void add_storage_commands(CLI::App& app, Action& action);          // storage
void add_data_commands(CLI::App& app, Action& action,
                       const std::shared_ptr<AdminWords>& admin);  // tap, deadletters, preview
// produce and consume, below `app` (which is `hulse client`, or pulsar-client itself).
void add_client_commands(CLI::App& app, Action& action);

// Lines of `error`, each after "hulse: ", on standard error.
void print_error(const Error& error);

// One line for the first word that should name a command and does not; empty if there is none.
std::string unknown_command(const CLI::App& app, const std::vector<std::string>& words);

// One line for a word that no option is called, with the nearest one that is.
std::string unknown_option(const CLI::App& app, const std::string& word);

}  // namespace hulse::cli

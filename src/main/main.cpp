// Wires the parts of Hulse together; everything else lives in its own folder.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/log.h"
#include "cli/command_line.h"
#include "cli/yaml.h"
#include "config/field.h"
#include "main/standalone.h"
#include "main/worker_process.h"

namespace {

// A server's command: its flags win over its file.
struct ServerWords {
  std::string file;
  boost::json::object flags;
};

template <class Options>
void add_server(CLI::App& app, hulse::cli::Action& action, const char* name, const char* help,
                std::span<const hulse::config::Field> fields,
                hulse::Result<void> (*run)(const Options&)) {
  const auto words = std::make_shared<ServerWords>();
  auto* command = app.add_subcommand(name, help);
  command->add_option("--config", words->file,
                      "YAML file with the keys below in Pulsar's spelling");
  for (const auto& field : fields) {
    const bool is_switch = field.kind == hulse::config::Kind::boolean;
    const auto set = [words, key = field.key](const std::string& value) {
      words->flags[key] = value.empty() ? "true" : value;
    };
    auto* option = command->add_option_function<std::string>(
        hulse::server_flag(field.key), set,
        field.default_value().empty()
            ? fmt::format("{} ({})", field.help, field.key)
            : fmt::format("{} ({}; default {})", field.help, field.key, field.default_value()));
    if (is_switch) option->expected(0, 1);
  }
  const auto parse_and_run = [words, fields, run]() -> hulse::Result<void> {
    hulse::config::Given given;
    if (!words->file.empty()) {
      auto read = hulse::cli::read_yaml_object(words->file);
      if (!read) return read.error().with("--config");
      given.values = std::move(*read);
    }
    for (const auto& [key, value] : words->flags) given.values[key] = value;
    const auto options = hulse::config::parse<Options>(fields, given);
    if (!options) return options.error();
    return run(*options);
  };
  command->callback([parse_and_run, &action] { action = parse_and_run; });
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view path = argc > 0 ? argv[0] : "hulse";
  const std::string name(path.substr(path.rfind('/') + 1));
  hulse::cli::Action action;
  CLI::App app{"Hulse: Pulsar IO in one binary", name};
  app.set_version_flag("--version", "hulse " HULSE_VERSION);
  bool debug = false;
  app.add_flag("--debug", debug, "Log more");
  if (name == "pulsar-client") {
    hulse::cli::add_client_commands(app, action);
  } else {
    app.require_subcommand(1);
    add_server(app, action, "standalone", "Run broker and worker on this machine",
               hulse::kStandaloneFields, hulse::run_standalone);
    add_server(app, action, "worker", "Run sources and sinks on a bus that is elsewhere",
               hulse::kWorkerFields, hulse::run_worker);
    const auto admin = hulse::cli::add_admin_words(app);
    hulse::cli::add_component_commands(app, action, admin);
    hulse::cli::add_check_command(app, action);
    hulse::cli::add_apply_command(app, action, admin);
    hulse::cli::add_connector_commands(app, action);
    hulse::cli::add_data_commands(app, action, admin);
    hulse::cli::add_token_commands(app, action);
    hulse::cli::add_storage_commands(app, action);
    hulse::cli::add_client_commands(*app.add_subcommand("client", "Produce and consume"), action);
  }
  const auto unknown = hulse::cli::unknown_command(app, {argv + 1, argv + argc});
  if (!unknown.empty()) {
    hulse::cli::print_error(hulse::Error(hulse::Code::invalid, unknown));
    return 1;
  }
  if (argc < 2) {
    std::fprintf(stderr, "%s", app.help().c_str());
    return 1;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 1;
  }
  if (debug) hulse::log::set_level(hulse::log::Level::debug);
  const auto done = action();
  if (done) return 0;
  hulse::cli::print_error(done.error());
  return 1;
}

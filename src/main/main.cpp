// Wires the parts of Hulse together; everything else lives in its own folder.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "main/standalone.h"

int main(int argc, char** argv) {
  CLI::App app{"Hulse: Pulsar IO in one binary", "hulse"};
  app.require_subcommand(1);
  hulse::StandaloneOptions options;
  auto* standalone = app.add_subcommand("standalone", "Run broker and worker on this machine");
  standalone->add_option("--data-dir", options.data_dir, "Where everything is kept")->capture_default_str();
  standalone->add_option("--bind", options.host, "Address to listen on")->capture_default_str();
  standalone->add_option("--broker-port", options.broker_port, "Port of the Pulsar protocol")->capture_default_str();
  standalone->add_option("--web-port", options.web_port, "Port of the REST interface")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const auto done = hulse::run_standalone(options);
  if (done) return 0;
  std::fprintf(stderr, "hulse: %s\n", done.error().text().c_str());
  return 1;
}

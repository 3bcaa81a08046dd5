// How the commands reach a broker: the flags of Pulsar's tools over a client.conf.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/result.h"
#include "cli/admin_client.h"
#include "client/client.h"

namespace CLI {
class App;
}

namespace hulse::cli {

// Flags as given; nothing where there was none.
struct ClientWords {
  std::optional<std::string> url;
  std::optional<std::string> auth_plugin;
  std::optional<std::string> auth_params;
  std::optional<std::string> trust_certs;
  std::optional<bool> allow_insecure;
  std::optional<bool> verify_host;
  std::optional<std::string> listener;
  std::string conf;  // a client.conf; empty: what PULSAR_CLIENT_CONF names, if anything
  bool use_tls = false;
};

// pulsar-client's flags. Several apps may share the words.
void add_client_flags(CLI::App& app, ClientWords& words);
// Those of `sinks localrun` and `sources localrun`.
void add_local_run_flags(CLI::App& app, ClientWords& words);

// Everything put together; flags win over the file. Code::invalid names what cannot be.
Result<client::Options> client_options(const ClientWords& words);

// The web interface of a server, and who asks.
struct AdminTarget {
  std::string url;  // without a slash at the end
  client::Security security;
};
Result<AdminTarget> admin_target(const AdminWords& words);

}  // namespace hulse::cli

// How the commands reach a broker and its web interface: the flags of Pulsar's tools over a
// client.conf.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "client/client.h"

namespace CLI {
class App;
}

namespace hulse::cli {

// Flags as given; nothing where there was none. Who asks, and whom it trusts:
struct LoginWords {
  std::optional<std::string> auth_plugin;
  std::optional<std::string> auth_params;
  std::optional<std::string> trust_certs;
  std::optional<bool> allow_insecure;
  std::optional<bool> verify_host;
  std::string conf;  // a client.conf; empty: what PULSAR_CLIENT_CONF names, if anything
};

struct ClientWords : LoginWords {
  std::optional<std::string> url;
  std::optional<std::string> listener;
  bool use_tls = false;
};

struct AdminWords : LoginWords {
  std::optional<std::string> url;
  int request_seconds = 300;
};

// pulsar-client's flags. Several apps may share the words.
void add_client_flags(CLI::App& app, ClientWords& words);
// Those of `sinks localrun` and `sources localrun`.
void add_local_run_flags(CLI::App& app, ClientWords& words);

// pulsar-admin's flags. They stand before a command or among its own: several apps may share the
// words.
void add_admin_flags(CLI::App& app, AdminWords& words);

// Everything put together; flags win over the file. Code::invalid names what cannot be.
Result<client::Options> client_options(const ClientWords& words);

// The web interface of a server, and who asks.
struct AdminTarget {
  std::string url;  // without a slash at the end
  client::Security security;
};
Result<AdminTarget> admin_target(const AdminWords& words);

}  // namespace hulse::cli

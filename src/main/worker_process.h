// hulse worker: a worker in a process of its own, for a bus that is elsewhere.
#pragma once

#include "main/serving.h"

namespace hulse {

struct WorkerProcessOptions : ServingOptions {
  uint16_t web_port = 6750;
  std::string service_url = "pulsar://localhost:6650";
  std::string admin_url;
  std::string state_namespace = "public/functions";
  std::string worker_id;
  std::string auth_plugin;
  Secret auth_params;
  std::string trust_certs_file;
  bool client_insecure = false;
  std::chrono::seconds subscription_grace{3600};
};

inline constexpr auto kWorkerFields = joined(
    kServingFields,
    std::to_array<config::Field>({
        config::field<&WorkerProcessOptions::service_url>(
            "pulsarServiceUrl", "The brokers: pulsar://, pulsar+ssl://, http:// or https://"),
        config::field<&WorkerProcessOptions::admin_url>(
            "pulsarWebServiceUrl",
            "The brokers' web interface, to create the namespace of the worker's topics if "
            "it is not there; empty: somebody else does"),
        config::field<&WorkerProcessOptions::state_namespace>(
            "pulsarFunctionsNamespace", "Namespace of the topics the workers remember with"),
        config::field<&WorkerProcessOptions::web_port>("webServicePort",
                                                       "Port of the web interface")
            .aliases(kPortNames),
        config::field<&WorkerProcessOptions::worker_id>(
            "workerId", "Name of this worker; empty: from its address and port"),
        config::field<&WorkerProcessOptions::auth_plugin>(
            "clientAuthenticationPlugin",
            "How to log in to the brokers: token, basic, tls, or Pulsar's class name"),
        config::field<&WorkerProcessOptions::auth_params>(
            "clientAuthenticationParameters", "With what: file:///…, env:NAME, token:…"),
        config::field<&WorkerProcessOptions::trust_certs_file>(
            "brokerClientTrustCertsFilePath",
            "Certificates to trust for the brokers (PEM); empty: the system's"),
        config::field<&WorkerProcessOptions::client_insecure>(
            "tlsAllowInsecureBrokers", "Trust any certificate of the brokers"),
        config::field<&WorkerProcessOptions::subscription_grace>(
            "deletedSinkSubscriptionSeconds",
            "How long the subscription of a deleted sink waits for the sink to be created "
            "again")
            .at_least(0),
    }));

// Runs until SIGTERM or SIGINT, then stops cleanly. Prints one line on standard output when it
// takes orders. Fails with one sentence when it cannot start, or another worker goes by its id.
Result<void> run_worker(const WorkerProcessOptions& options);

}  // namespace hulse

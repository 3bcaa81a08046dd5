// hulse standalone: the embedded broker and the worker in one process.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/secret.h"
#include "config/field.h"
#include "main/serving.h"

namespace hulse {

struct StandaloneOptions : ServingOptions {
  std::string data_dir = "data";
  uint16_t broker_port = 6650;
  uint16_t web_port = 8080;
  std::optional<uint16_t> broker_port_tls;
  int64_t message_bytes_max = 5 << 20;
  int64_t publish_buffer_mb = 256;
  int64_t cache_mb = 32;
  std::chrono::seconds authentication_check{60};
  bool authorization = false;
  bool consistent_hashing = true;
  std::vector<std::string> entry_metadata;
  std::chrono::seconds quota_check{60};
  std::chrono::seconds inactive_check{60};
  bool worker = true;
  std::chrono::seconds subscription_grace{3600};
};

inline constexpr auto kStandaloneFields = joined(
    kServingFields,
    std::to_array<config::Field>({
        config::field<&StandaloneOptions::data_dir>("dataDir", "Where everything is kept"),
        config::field<&StandaloneOptions::broker_port>("brokerServicePort",
                                                       "Port of the Pulsar protocol"),
        config::field<&StandaloneOptions::web_port>("webServicePort", "Port of the web interface"),
        config::field<&StandaloneOptions::broker_port_tls>(
            "brokerServicePortTls", "Port of the Pulsar protocol over TLS; none without it"),
        config::field<&StandaloneOptions::message_bytes_max>("maxMessageSize",
                                                             "Largest message in bytes")
            .range(1024, 100 << 20),
        config::field<&StandaloneOptions::publish_buffer_mb>(
            "maxMessagePublishBufferSizeInMB",
            "What all connections together may have sent and not synced; above it none is read")
            .range(8, 1 << 20),
        config::field<&StandaloneOptions::cache_mb>(
            "managedLedgerCacheSizeMB",
            "Memory for the newest entries of topics, and as much again for entries read from "
            "disk")
            .range(1, 1 << 20),
        config::field<&StandaloneOptions::authentication_check>(
            "authenticationRefreshCheckSeconds", "How often tokens are looked at for expiry")
            .range(1, 86'400),
        config::field<&StandaloneOptions::authorization>(
            "authorizationEnabled", "Let roles do only what they are allowed to"),
        config::field<&StandaloneOptions::consistent_hashing>(
            "subscriptionKeySharedUseConsistentHashing",
            "Key_Shared: spread keys by a ring of hashes; if not, by ranges that are split in "
            "halves"),
        config::field<&StandaloneOptions::entry_metadata>(
            "brokerEntryMetadataInterceptors",
            "What is noted before each entry for clients that know it: "
            "AppendBrokerTimestampMetadata"
            "Interceptor, AppendIndexMetadataInterceptor (or with Pulsar's package)"),
        config::field<&StandaloneOptions::worker>(
            "functionsWorkerEnabled", "Run the sources and sinks that are created here"),
        config::field<&StandaloneOptions::subscription_grace>(
            "deletedSinkSubscriptionSeconds",
            "How long the subscription of a deleted sink waits for the sink to be created again")
            .at_least(0),
        config::field<&StandaloneOptions::quota_check>(
            "backlogQuotaCheckIntervalInSeconds", "How often backlogs are held to their quotas")
            .range(1, 86'400),
        config::field<&StandaloneOptions::inactive_check>(
            "brokerDeleteInactiveTopicsFrequencySeconds",
            "How often topics are looked at that nobody uses, where inactiveTopicPolicies ask "
            "for it")
            .range(1, 86'400),
    }));

// Runs until SIGTERM or SIGINT, then stops cleanly. Prints one line on standard output when
// clients can produce. Fails with one sentence when it cannot start.
Result<void> run_standalone(const StandaloneOptions& options);

}  // namespace hulse

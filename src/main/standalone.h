// hulse standalone: the embedded broker and the worker in one process.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/secret.h"
#include "config/field.h"

namespace hulse {

struct StandaloneOptions {
  std::string data_dir = "data";
  std::string host = "127.0.0.1";
  std::string advertised_host;
  uint16_t broker_port = 6650;
  uint16_t web_port = 8080;
  std::optional<uint16_t> broker_port_tls;
  std::optional<uint16_t> web_port_tls;
  std::string tls_cert_file;
  std::string tls_key_file;
  std::string tls_trust_file;
  bool tls_accept_any = false;
  bool tls_client_required = false;
  int64_t message_bytes_max = 5 << 20;
  int64_t publish_buffer_mb = 256;
  int64_t cache_mb = 32;
  bool authentication = false;
  std::vector<std::string> authentication_providers;
  std::chrono::seconds authentication_check{60};
  Secret token_secret_key;
  std::string token_public_key;
  std::string token_public_algorithm = "RS256";
  std::string token_role_claim = "sub";
  std::string token_audience_claim;
  std::string token_audience;
  std::chrono::seconds token_clock_skew{0};
  std::string password_file;
  std::string anonymous_role;
  bool authorization = false;
  std::vector<std::string> super_roles;
  bool unauthenticated_remote_access = false;
  bool consistent_hashing = true;
  std::vector<std::string> entry_metadata;
  std::chrono::seconds quota_check{60};
  std::chrono::seconds inactive_check{60};
  bool worker = true;
  std::chrono::seconds subscription_grace{3600};
};

inline constexpr auto kStandaloneFields = std::to_array<config::Field>({
    config::field<&StandaloneOptions::data_dir>("dataDir", "Where everything is kept"),
    config::field<&StandaloneOptions::host>("bindAddress", "Address to listen on"),
    config::field<&StandaloneOptions::advertised_host>(
        "advertisedAddress", "What clients are told to connect to; empty: bindAddress"),
    config::field<&StandaloneOptions::broker_port>("brokerServicePort",
                                                   "Port of the Pulsar protocol"),
    config::field<&StandaloneOptions::web_port>("webServicePort", "Port of the web interface"),
    config::field<&StandaloneOptions::broker_port_tls>(
        "brokerServicePortTls", "Port of the Pulsar protocol over TLS; none without it"),
    config::field<&StandaloneOptions::web_port_tls>(
        "webServicePortTls", "Port of the web interface over TLS; none without it"),
    config::field<&StandaloneOptions::tls_cert_file>(
        "tlsCertificateFilePath", "The server's certificate (PEM); read again when it changes"),
    config::field<&StandaloneOptions::tls_key_file>("tlsKeyFilePath", "Its private key (PEM)"),
    config::field<&StandaloneOptions::tls_trust_file>(
        "tlsTrustCertsFilePath", "Authorities that clients' certificates are checked with (PEM)"),
    config::field<&StandaloneOptions::tls_accept_any>(
        "tlsAllowInsecureConnection",
        "Let clients in whose certificate is not trusted (it is no identity then)"),
    config::field<&StandaloneOptions::tls_client_required>(
        "tlsRequireTrustedClientCertOnConnect", "Refuse TLS clients without a trusted certificate"),
    config::field<&StandaloneOptions::message_bytes_max>("maxMessageSize",
                                                         "Largest message in bytes")
        .range(1024, 100 << 20),
    config::field<&StandaloneOptions::publish_buffer_mb>(
        "maxMessagePublishBufferSizeInMB",
        "What all connections together may have sent and not synced; above it none is read")
        .range(8, 1 << 20),
    config::field<&StandaloneOptions::cache_mb>(
        "managedLedgerCacheSizeMB",
        "Memory for the newest entries of topics, and as much again for entries read from disk")
        .range(1, 1 << 20),
    config::field<&StandaloneOptions::authentication>("authenticationEnabled",
                                                      "Ask clients who they are"),
    config::field<&StandaloneOptions::authentication_providers>(
        "authenticationProviders",
        "token, tls, basic (or Pulsar's class names); empty: those that are configured"),
    config::field<&StandaloneOptions::authentication_check>(
        "authenticationRefreshCheckSeconds", "How often tokens are looked at for expiry")
        .range(1, 86'400),
    config::field<&StandaloneOptions::token_secret_key>(
        "tokenSecretKey", "Shared key of tokens (HS256): file:///path, data:;base64,… or Base64"),
    config::field<&StandaloneOptions::token_public_key>(
        "tokenPublicKey", "Public key of tokens (RS256, ES256), PEM or DER: file:///path, …"),
    config::field<&StandaloneOptions::token_public_algorithm>("tokenPublicAlg",
                                                              "Algorithm of the public key"),
    config::field<&StandaloneOptions::token_role_claim>("tokenAuthClaim",
                                                        "The claim that names the role"),
    config::field<&StandaloneOptions::token_audience_claim>(
        "tokenAudienceClaim", "The claim that names the audience; empty: not looked at"),
    config::field<&StandaloneOptions::token_audience>("tokenAudience",
                                                      "The audience this broker is"),
    config::field<&StandaloneOptions::token_clock_skew>(
        "tokenAllowedClockSkewSeconds", "How far clocks may differ when a token expires")
        .range(0, 86'400),
    config::field<&StandaloneOptions::password_file>(
        "basicAuthConf", "Password file of basic authentication, as htpasswd writes it"),
    config::field<&StandaloneOptions::anonymous_role>(
        "anonymousUserRole", "Role of clients that do not say who they are; empty: refused"),
    config::field<&StandaloneOptions::authorization>("authorizationEnabled",
                                                     "Let roles do only what they are allowed to"),
    config::field<&StandaloneOptions::super_roles>("superUserRoles",
                                                   "Roles that may do everything"),
    config::field<&StandaloneOptions::unauthenticated_remote_access>(
        "unauthenticatedRemoteAccess",
        "Listen on an address that others reach although nobody is asked who they are"),
    config::field<&StandaloneOptions::consistent_hashing>(
        "subscriptionKeySharedUseConsistentHashing",
        "Key_Shared: spread keys by a ring of hashes; if not, by ranges that are split in halves"),
    config::field<&StandaloneOptions::entry_metadata>(
        "brokerEntryMetadataInterceptors",
        "What is noted before each entry for clients that know it: AppendBrokerTimestampMetadata"
        "Interceptor, AppendIndexMetadataInterceptor (or with Pulsar's package)"),
    config::field<&StandaloneOptions::worker>("functionsWorkerEnabled",
                                              "Run the sources and sinks that are created here"),
    config::field<&StandaloneOptions::subscription_grace>(
        "deletedSinkSubscriptionSeconds",
        "How long the subscription of a deleted sink waits for the sink to be created again")
        .at_least(0),
    config::field<&StandaloneOptions::quota_check>("backlogQuotaCheckIntervalInSeconds",
                                                   "How often backlogs are held to their quotas")
        .range(1, 86'400),
    config::field<&StandaloneOptions::inactive_check>(
        "brokerDeleteInactiveTopicsFrequencySeconds",
        "How often topics are looked at that nobody uses, where inactiveTopicPolicies ask for it")
        .range(1, 86'400),
});

// The flag of a key: "--broker-port" of "brokerServicePort", "--tls-key-file-path" of
// "tlsKeyFilePath".
std::string standalone_flag(std::string_view key);

// Runs until SIGTERM or SIGINT, then stops cleanly. Prints one line on standard output when clients
// can produce. Fails with one sentence when it cannot start.
Result<void> run_standalone(const StandaloneOptions& options);

}  // namespace hulse

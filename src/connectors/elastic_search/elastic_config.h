// The configuration of the Elasticsearch sink: the keys of Pulsar's, with its defaults.
#pragma once

#include <string>
#include <vector>

#include "config/field.h"

namespace hulse::connectors::elastic_search {

enum class NullAction { ignore, remove, fail };
enum class MalformedAction { ignore, warn, fail };
enum class Compatibility { automatic, elasticsearch_7, elasticsearch, opensearch };

struct ElasticConfig {
  std::vector<std::string> urls;
  std::string index_name;
  std::string type_name = "_doc";
  bool create_index = false;
  int shards = 1;
  int replicas = 0;
  std::string username;
  Secret password;
  Secret token;
  Secret api_key;

  bool bulk_enabled = false;
  int bulk_actions = 1000;
  int64_t bulk_size_mb = 5;
  int bulk_concurrent_requests = 0;
  std::chrono::milliseconds bulk_flush_interval{1000};
  bool compression = false;

  int max_retries = 1;
  std::chrono::milliseconds retry_backoff{100};
  std::chrono::seconds retry_time_max{86400};
  std::chrono::milliseconds connect_time{5000};
  std::chrono::milliseconds connection_request_time{1000};
  std::chrono::milliseconds idle_time{30000};
  std::chrono::milliseconds socket_time{60000};

  bool key_ignore = true;
  std::vector<std::string> primary_fields;
  NullAction null_action = NullAction::ignore;
  MalformedAction malformed_action = MalformedAction::fail;
  bool strip_nulls = true;
  bool strip_non_printable = true;
  Compatibility compatibility = Compatibility::automatic;

  bool tls_enabled = false;
  bool tls_verify_host = true;
  bool tls_trust_all = false;
  std::string tls_truststore;
  Secret tls_truststore_password;
  std::string tls_keystore;
  Secret tls_keystore_password;
  std::vector<std::string> tls_ciphers;
  std::vector<std::string> tls_protocols = {"TLSv1.2"};

  void check(config::Problems& problems) const;

  // The ids of documents are the user's: one id stands for one thing that changes.
  bool ids_are_the_users() const { return !key_ignore || !primary_fields.empty(); }
};

inline constexpr std::string_view kNullActions[] = {"IGNORE", "DELETE", "FAIL"};
inline constexpr std::string_view kMalformedActions[] = {"IGNORE", "WARN", "FAIL"};
inline constexpr std::string_view kCompatibilities[] = {"AUTO", "ELASTICSEARCH_7", "ELASTICSEARCH",
                                                        "OPENSEARCH"};
inline constexpr std::string_view kNeedsSchemas =
    "only with documents built from the topic's schema, which do not exist here yet";

inline constexpr config::Field kFields[] = {
    config::field<&ElasticConfig::urls>(
        "elasticSearchUrl",
        "Where Elasticsearch or OpenSearch is: http:// or https://; several, with "
        "commas: the next one is used when one does not answer.")
        .as_text()
        .required()
        .example("http://localhost:9200"),
    config::field<&ElasticConfig::index_name>(
        "indexName",
        "Index to write to; may hold a date of the record's event time as "
        "%{+yyyy-MM-dd}. Not given: the topic's local name in small letters.")
        .example("documents"),
    config::field<&ElasticConfig::type_name>(
        "typeName", "Mapping type of Elasticsearch before 7; has no effect since."),
    config::field<&ElasticConfig::create_index>(
        "createIndexIfNeeded", "Make a missing index with the shards and replicas given here."),
    config::field<&ElasticConfig::shards>("indexNumberOfShards", "Shards of an index made here.")
        .at_least(1),
    config::field<&ElasticConfig::replicas>("indexNumberOfReplicas",
                                            "Replicas of an index made here.")
        .at_least(0),
    config::field<&ElasticConfig::username>("username", "User; goes with password."),
    config::field<&ElasticConfig::password>("password", "Password; goes with username."),
    config::field<&ElasticConfig::token>("token", "Bearer token, instead of a user."),
    config::field<&ElasticConfig::api_key>("apiKey",
                                           "API key in its Base64 form, instead of a user."),

    config::field<&ElasticConfig::bulk_enabled>(
        "bulkEnabled", "Has no effect: documents are always written with _bulk, as many as wait."),
    config::field<&ElasticConfig::bulk_actions>("bulkActions",
                                                "Most documents in one request; -1: no such limit.")
        .at_least(-1),
    config::field<&ElasticConfig::bulk_size_mb>("bulkSizeInMb",
                                                "Most MiB in one request; -1: no such limit.")
        .range(-1, 1024),
    config::field<&ElasticConfig::bulk_concurrent_requests>(
        "bulkConcurrentRequests",
        "Requests in flight; 0: two, as order does not matter to documents "
        "with ids of their own. Always one when ids are the user's.")
        .range(0, 64),
    config::field<&ElasticConfig::bulk_flush_interval>(
        "bulkFlushIntervalInMs",
        "Has no effect: a document never waits for others while a request is "
        "free.")
        .at_least(-1),
    config::field<&ElasticConfig::compression>("compressionEnabled",
                                               "Compress requests with gzip."),

    config::field<&ElasticConfig::max_retries>(
        "maxRetries", "Has no effect: the runtime tries again, by its policy retry.*.")
        .at_least(-1),
    config::field<&ElasticConfig::retry_backoff>("retryBackoffInMs",
                                                 "Has no effect: the policy's retry.initialMs has.")
        .at_least(0),
    config::field<&ElasticConfig::retry_time_max>("maxRetryTimeInSec",
                                                  "Has no effect: the policy's retry.maxMs has.")
        .at_least(0),
    config::field<&ElasticConfig::connect_time>("connectTimeoutInMs",
                                                "Longest wait for a connection.")
        .at_least(1),
    config::field<&ElasticConfig::connection_request_time>(
        "connectionRequestTimeoutInMs", "Has no effect: no request waits for a pooled connection.")
        .at_least(0),
    config::field<&ElasticConfig::idle_time>("connectionIdleTimeoutInMs",
                                             "How long an unused connection is kept.")
        .at_least(1),
    config::field<&ElasticConfig::socket_time>("socketTimeoutInMs", "Longest wait for an answer.")
        .at_least(1),

    config::field<&ElasticConfig::key_ignore>("keyIgnore",
                                              "false: the message's key is the document's id."),
    config::field<&ElasticConfig::primary_fields>(
        "primaryFields", "Fields of the document that make its id; they win over the key.")
        .as_text(),
    config::field<&ElasticConfig::null_action>(
        "nullValueAction",
        "What a message without a value does: IGNORE, DELETE the document of its "
        "id, or FAIL (it is rejected).")
        .one_of(kNullActions),
    config::field<&ElasticConfig::malformed_action>(
        "malformedDocAction",
        "What a document that is not accepted does: IGNORE or WARN (it counts as "
        "written), or FAIL (it is rejected).")
        .one_of(kMalformedActions),
    config::field<&ElasticConfig::strip_nulls>("stripNulls", "Has an effect only with schemas."),
    config::field<&ElasticConfig::strip_non_printable>(
        "stripNonPrintableCharacters", "Remove ASCII control characters from documents."),
    config::field<&ElasticConfig::compatibility>(
        "compatibilityMode", "Has no effect: the requests are the same for all of them.")
        .one_of(kCompatibilities),

    config::field<&ElasticConfig::tls_enabled>("ssl.enabled",
                                               "Has no effect: https:// says that TLS is used."),
    config::field<&ElasticConfig::tls_verify_host>("ssl.hostnameVerification",
                                                   "Check that the certificate is the host's."),
    config::field<&ElasticConfig::tls_trust_all>("ssl.disableCertificateValidation",
                                                 "Take any certificate. For trials only."),
    config::field<&ElasticConfig::tls_truststore>(
        "ssl.truststorePath", "PEM file of trusted certificates; not given: the system's."),
    config::field<&ElasticConfig::tls_truststore_password>(
        "ssl.truststorePassword", "Has no effect: a PEM file of certificates has no password."),
    config::field<&ElasticConfig::tls_keystore>(
        "ssl.keystorePath", "The client's certificate and key, as a PEM or a PKCS12 file."),
    config::field<&ElasticConfig::tls_keystore_password>("ssl.keystorePassword",
                                                         "Password of that file."),
    config::field<&ElasticConfig::tls_ciphers>("ssl.cipherSuites",
                                               "Ciphers, as OpenSSL names them.")
        .as_text(),
    config::field<&ElasticConfig::tls_protocols>("ssl.protocols", "TLSv1.2, TLSv1.3 or both.")
        .as_text(),
    config::not_supported("ssl.provider", "", "Java's providers do not exist here; leave it out"),

    config::not_supported(
        "schemaEnable", "false",
        "documents built from the topic's schema do not exist here yet; without it "
        "the payload is the document"),
    config::not_supported("canonicalKeyFields", "false", kNeedsSchemas),
    config::not_supported("copyKeyFields", "false", kNeedsSchemas),
    config::not_supported("idHashingAlgorithm", "NONE", kNeedsSchemas),
    config::not_supported("conditionalIdHashing", "false", kNeedsSchemas),
};

}  // namespace hulse::connectors::elastic_search

// What the servers of this program share: where they listen, whom they let in, and their words for
// that.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "aio/http_server.h"
#include "auth/authenticator.h"
#include "base/result.h"
#include "base/secret.h"
#include "config/field.h"
#include "runtime/secret_box.h"
#include "runtime/secrets.h"

namespace hulse {

struct ServingOptions {
  std::string host = "127.0.0.1";
  std::string advertised_host;
  std::optional<uint16_t> web_port_tls;
  std::string tls_cert_file;
  std::string tls_key_file;
  std::string tls_trust_file;
  bool tls_accept_any = false;
  bool tls_client_required = false;
  bool authentication = false;
  std::vector<std::string> authentication_providers;
  Secret token_secret_key;
  std::string token_public_key;
  std::string token_public_algorithm = "RS256";
  std::string token_role_claim = "sub";
  std::string token_audience_claim;
  std::string token_audience;
  std::chrono::seconds token_clock_skew{0};
  std::string password_file;
  std::string anonymous_role;
  std::vector<std::string> super_roles;
  std::string secrets_key_file;
  std::string secrets_directory;
  std::string secrets_environment_prefix;
  bool unauthenticated_remote_access = false;
  int64_t upload_mb = 128;

  // What others are told to connect to: an address of this machine if `host` stands for all.
  std::string told_host() const;
  aio::TlsServerOptions tls() const;
  auth::Options who() const;
  runtime::SecretSources secret_sources() const;
  // What no single key shows to be wrong is added. `other_tls`: a port besides the web's has TLS.
  void check(std::vector<std::string>& problems, bool other_tls) const;
};

inline constexpr std::string_view kHostNames[] = {"workerHostname"};
inline constexpr std::string_view kPortNames[] = {"workerPort"};
inline constexpr std::string_view kTlsPortNames[] = {"workerPortTls"};

inline constexpr auto kServingFields = std::to_array<config::Field>({
    config::field<&ServingOptions::host>("bindAddress", "Address to listen on"),
    config::field<&ServingOptions::advertised_host>(
        "advertisedAddress", "What clients are told to connect to; empty: bindAddress")
        .aliases(kHostNames),
    config::field<&ServingOptions::web_port_tls>(
        "webServicePortTls", "Port of the web interface over TLS; none without it")
        .aliases(kTlsPortNames),
    config::field<&ServingOptions::tls_cert_file>(
        "tlsCertificateFilePath", "The server's certificate (PEM); read again when it changes"),
    config::field<&ServingOptions::tls_key_file>("tlsKeyFilePath", "Its private key (PEM)"),
    config::field<&ServingOptions::tls_trust_file>(
        "tlsTrustCertsFilePath", "Authorities that clients' certificates are checked with (PEM)"),
    config::field<&ServingOptions::tls_accept_any>(
        "tlsAllowInsecureConnection",
        "Let clients in whose certificate is not trusted (it is no identity then)"),
    config::field<&ServingOptions::tls_client_required>(
        "tlsRequireTrustedClientCertOnConnect", "Refuse TLS clients without a trusted certificate"),
    config::field<&ServingOptions::authentication>("authenticationEnabled",
                                                   "Ask clients who they are"),
    config::field<&ServingOptions::authentication_providers>(
        "authenticationProviders",
        "token, tls, basic (or Pulsar's class names); empty: those that are configured"),
    config::field<&ServingOptions::token_secret_key>(
        "tokenSecretKey", "Shared key of tokens (HS256): file:///path, data:;base64,… or Base64"),
    config::field<&ServingOptions::token_public_key>(
        "tokenPublicKey", "Public key of tokens (RS256, ES256), PEM or DER: file:///path, …"),
    config::field<&ServingOptions::token_public_algorithm>("tokenPublicAlg",
                                                           "Algorithm of the public key"),
    config::field<&ServingOptions::token_role_claim>("tokenAuthClaim",
                                                     "The claim that names the role"),
    config::field<&ServingOptions::token_audience_claim>(
        "tokenAudienceClaim", "The claim that names the audience; empty: not looked at"),
    config::field<&ServingOptions::token_audience>("tokenAudience", "The audience this broker is"),
    config::field<&ServingOptions::token_clock_skew>(
        "tokenAllowedClockSkewSeconds", "How far clocks may differ when a token expires")
        .range(0, 86'400),
    config::field<&ServingOptions::password_file>(
        "basicAuthConf", "Password file of basic authentication, as htpasswd writes it"),
    config::field<&ServingOptions::anonymous_role>(
        "anonymousUserRole", "Role of clients that do not say who they are; empty: refused"),
    config::field<&ServingOptions::super_roles>("superUserRoles", "Roles that may do everything"),
    config::field<&ServingOptions::secrets_key_file>(
        "secretsKeyFile",
        "Key that secrets in stored configurations are encrypted with; made if it is not there; "
        "empty: secrets.key in the data directory, and with workers none: they take references "
        "only"),
    config::field<&ServingOptions::secrets_directory>(
        "secretsDirectory",
        "Where files lie that configurations may refer to with file:/…; empty: anywhere"),
    config::field<&ServingOptions::secrets_environment_prefix>(
        "secretsEnvironmentPrefix",
        "What names begin with that configurations may refer to with env:…; empty: any"),
    config::field<&ServingOptions::unauthenticated_remote_access>(
        "unauthenticatedRemoteAccess",
        "Listen on an address that others reach although nobody is asked who they are"),
    config::field<&ServingOptions::upload_mb>(
        "maxUploadSizeMb",
        "Largest archive or package that may be sent to the worker; it is held in memory meanwhile")
        .range(8, 4096),
});

// One table of two.
template <size_t A, size_t B>
consteval std::array<config::Field, A + B> joined(const std::array<config::Field, A>& first,
                                                  const std::array<config::Field, B>& second) {
  return [&]<size_t... I, size_t... J>(std::index_sequence<I...>, std::index_sequence<J...>) {
    return std::array<config::Field, A + B>{first[I]..., second[J]...};
  }(std::make_index_sequence<A>(), std::make_index_sequence<B>());
}

// The flag of a key: "--broker-port" of "brokerServicePort", "--tls-key-file-path" of
// "tlsKeyFilePath".
std::string server_flag(std::string_view key);

// The key that stored secrets are encrypted with; read, or made, on `disk`.
aio::Task<Result<std::shared_ptr<const runtime::SecretBox>>> open_secrets(std::string path,
                                                                          aio::Executor disk);

// The page of /metrics in the format the scraper asks for.
void give_as_asked(const aio::HttpHeaders& asked, aio::HttpResponse& page);

// The web interface on one or two ports. Lives on the executor it was started on.
class WebServers {
 public:
  // Fails with one sentence. Certificates are read on `disk`.
  static aio::Task<Result<std::unique_ptr<WebServers>>> start(ServingOptions options, uint16_t port,
                                                              aio::Executor disk,
                                                              aio::HttpHandler handler);
  ~WebServers();
  aio::Task<void> stop();

  uint16_t port() const { return plain_->endpoint().port(); }
  std::string url() const;           // as this machine reaches it: "http://127.0.0.1:8080"
  std::string told_url() const;      // as others are told
  std::string told_url_tls() const;  // empty: there is none

 private:
  explicit WebServers(ServingOptions options);
  const ServingOptions options_;
  std::unique_ptr<aio::HttpServer> plain_;
  std::unique_ptr<aio::HttpServer> tls_;
};

}  // namespace hulse

#include "main/serving.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>

#include <boost/asio/ip/address.hpp>
#include <cctype>

#include "admin/rest.h"
#include "aio/offload.h"
#include "metrics/page.h"

namespace hulse {
namespace {

constexpr auto kGrace = std::chrono::seconds(2);

bool is_loopback(const std::string& host) {
  if (host == "localhost") return true;
  boost::system::error_code error;
  const auto address = aio::asio::ip::make_address(host, error);
  return !error && address.is_loopback();
}

}  // namespace

// What others are told to connect to. An address that stands for all of this machine's is none of
// them: then the first that is not loopback.
std::string ServingOptions::told_host() const {
  if (!advertised_host.empty()) return advertised_host;
  boost::system::error_code error;
  const auto address = aio::asio::ip::make_address(host, error);
  if (error || !address.is_unspecified()) return host;
  std::string found = "127.0.0.1";
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return found;
  for (const auto* one = all; one != nullptr; one = one->ifa_next) {
    const bool up = (one->ifa_flags & IFF_UP) != 0 && (one->ifa_flags & IFF_LOOPBACK) == 0;
    if (!up || one->ifa_addr == nullptr || one->ifa_addr->sa_family != AF_INET) continue;
    char text[INET_ADDRSTRLEN] = {};
    const auto* in = reinterpret_cast<const sockaddr_in*>(one->ifa_addr);
    if (::inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text)) == nullptr) continue;
    found = text;
    break;
  }
  ::freeifaddrs(all);
  return found;
}

aio::TlsServerOptions ServingOptions::tls() const {
  return {.cert_file = tls_cert_file,
          .key_file = tls_key_file,
          .trust_file = tls_trust_file,
          .client_certificate_required = tls_client_required,
          .accept_any_client_certificate = tls_accept_any};
}

runtime::SecretSources ServingOptions::secret_sources() const {
  return {secrets_directory, secrets_environment_prefix};
}

auth::Options ServingOptions::who() const {
  auth::Options out;
  out.enabled = authentication;
  out.providers = authentication_providers;
  out.token = {.secret_key = token_secret_key.reveal(),
               .public_key = token_public_key,
               .public_algorithm = token_public_algorithm,
               .role_claim = token_role_claim,
               .audience_claim = token_audience_claim,
               .audience = token_audience,
               .clock_skew_seconds = token_clock_skew.count()};
  out.password_file = password_file;
  out.anonymous_role = anonymous_role;
  return out;
}

void ServingOptions::check(std::vector<std::string>& problems, bool other_tls) const {
  if (!is_loopback(host) && !authentication && !unauthenticated_remote_access) {
    problems.push_back(fmt::format(
        "bindAddress {} can be reached from other machines, and nobody is asked who they are: turn "
        "on authenticationEnabled (with tokenSecretKey, tokenPublicKey, basicAuthConf or client "
        "certificates), or say --unauthenticated-remote-access if everybody who reaches it may "
        "read and write everything",
        host));
  }
  const bool has_tls = other_tls || web_port_tls;
  if (has_tls && (tls_cert_file.empty() || tls_key_file.empty())) {
    problems.push_back("a TLS port needs tlsCertificateFilePath and tlsKeyFilePath");
  }
  if (tls_client_required && tls_trust_file.empty()) {
    problems.push_back(
        "tlsRequireTrustedClientCertOnConnect needs tlsTrustCertsFilePath: with what should "
        "certificates be checked?");
  }
  const bool has_keys = !token_secret_key.reveal().empty() || !token_public_key.empty() ||
                        !password_file.empty() || !anonymous_role.empty() ||
                        (has_tls && !tls_trust_file.empty());
  if (authentication && !has_keys) {
    problems.push_back(
        "authenticationEnabled, and nobody could log in: it needs tokenSecretKey or "
        "tokenPublicKey, "
        "basicAuthConf, or tlsTrustCertsFilePath with a TLS port");
  }
}

std::string server_flag(std::string_view key) {
  // The words users know from before come first.
  if (key == "bindAddress") return "--bind";
  if (key == "brokerServicePort") return "--broker-port";
  if (key == "brokerServicePortTls") return "--broker-port-tls";
  if (key == "webServicePort") return "--web-port";
  if (key == "webServicePortTls") return "--web-port-tls";
  if (key == "pulsarServiceUrl") return "--service-url";
  if (key == "pulsarWebServiceUrl") return "--admin-url";
  if (key == "pulsarFunctionsNamespace") return "--state-namespace";
  if (key == "clientAuthenticationPlugin") return "--auth-plugin";
  if (key == "clientAuthenticationParameters") return "--auth-params";
  if (key == "brokerClientTrustCertsFilePath") return "--tls-trust-cert-path";
  std::string flag = "--";
  for (const char c : key) {
    if (c >= 'A' && c <= 'Z') flag += '-';
    flag += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return flag;
}

WebServers::WebServers(ServingOptions options) : options_(std::move(options)) {}

WebServers::~WebServers() = default;

aio::Task<Result<std::unique_ptr<WebServers>>> WebServers::start(ServingOptions options,
                                                                 uint16_t port, aio::Executor disk,
                                                                 aio::HttpHandler handler) {
  std::unique_ptr<WebServers> made(new WebServers(std::move(options)));
  const auto& words = made->options_;
  aio::HttpServerOptions listening;
  listening.host = words.host;
  listening.port = port;
  // Archives and packages come to the worker only.
  const auto upload_max = static_cast<size_t>(words.upload_mb) << 20;
  listening.bodies_bytes_max += upload_max;
  listening.body_bytes_max_of = [upload_max,
                                 other = listening.body_bytes_max](std::string_view target) {
    return admin::serves(target.substr(0, target.find('?'))) ? std::max(other, upload_max) : other;
  };
  const auto refused = [&](const Error& error, std::string_view flag) {
    if (error.code() != Code::busy) return error;
    return Error(Code::busy,
                 fmt::format("port {} of {} is taken by another program; stop it or choose another "
                             "one with {}",
                             listening.port, words.host, flag));
  };
  auto plain = co_await aio::HttpServer::start(listening, handler);
  if (!plain) co_return refused(plain.error(), "--web-port");
  made->plain_ = std::move(*plain);
  if (words.web_port_tls) {
    listening.port = *words.web_port_tls;
    auto tls = aio::TlsServer::load(words.tls(), disk);
    Result<std::unique_ptr<aio::HttpServer>> secure(nullptr);
    if (tls) {
      listening.tls = std::move(*tls);
      secure = co_await aio::HttpServer::start(listening, handler);
    } else {
      secure = tls.error();
    }
    if (!secure) {
      co_await made->stop();
      co_return refused(secure.error(), "--web-port-tls");
    }
    made->tls_ = std::move(*secure);
  }
  co_return made;
}

aio::Task<void> WebServers::stop() {
  for (const auto& server : {plain_.get(), tls_.get()}) {
    if (server != nullptr) co_await server->stop(kGrace);
  }
}

std::string WebServers::url() const { return "http://" + aio::to_string(plain_->endpoint()); }

std::string WebServers::told_url() const {
  return fmt::format("http://{}:{}", options_.told_host(), port());
}

std::string WebServers::told_url_tls() const {
  if (!tls_) return {};
  return fmt::format("https://{}:{}", options_.told_host(), tls_->endpoint().port());
}

aio::Task<Result<std::shared_ptr<const runtime::SecretBox>>> open_secrets(std::string path,
                                                                          aio::Executor disk) {
  using Box = std::shared_ptr<const runtime::SecretBox>;
  co_return co_await aio::offload(disk, [path]() -> Result<Box> {
    auto opened = runtime::SecretBox::open(path);
    if (!opened) return opened.error();
    return std::make_shared<const runtime::SecretBox>(std::move(*opened));
  });
}

void give_as_asked(const aio::HttpHeaders& asked, aio::HttpResponse& page) {
  constexpr std::string_view kOpenMetrics = "application/openmetrics-text";
  if (aio::find_header(asked, "Accept").find(kOpenMetrics) == std::string_view::npos) return;
  page.body = metrics::to_open_metrics(page.body);
  page.content_type = fmt::format("{}; version=1.0.0; charset=utf-8", kOpenMetrics);
}

}  // namespace hulse

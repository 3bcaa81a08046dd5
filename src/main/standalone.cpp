#include "main/standalone.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <thread>

#include "admin/rest.h"
#include "aio/offload.h"
#include "aio/run.h"
#include "aio/signals.h"
#include "aio/threads.h"
#include "aio/timeout.h"
#include "base/ids.h"
#include "base/log.h"
#include "broker/broker.h"
#include "broker/rest.h"
#include "runtime/worker.h"
#include "storage/store.h"

namespace hulse {
namespace {

constexpr std::string_view kPart = "standalone";
constexpr auto kWebGrace = std::chrono::seconds(2);
const aio::HttpResponse kTurnedOff{
    .status = 404,
    .body =
        R"({"reason":"functionsWorkerEnabled is false: sources and sinks are turned off here"})",
    .content_type = "application/json"};

bool is_loopback(const std::string& host) {
  if (host == "localhost") return true;
  boost::system::error_code error;
  const auto address = aio::asio::ip::make_address(host, error);
  return !error && address.is_loopback();
}

constexpr std::string_view kTimestampInterceptor = "AppendBrokerTimestampMetadataInterceptor";
constexpr std::string_view kIndexInterceptor = "AppendIndexMetadataInterceptor";

// The class without its package.
std::string_view interceptor(std::string_view name) { return name.substr(name.rfind('.') + 1); }

// What others are told to connect to. An address that stands for all of this machine's is none of
// them: then the first that is not loopback.
std::string advertised_host(const StandaloneOptions& options) {
  if (!options.advertised_host.empty()) return options.advertised_host;
  boost::system::error_code error;
  const auto address = aio::asio::ip::make_address(options.host, error);
  if (error || !address.is_unspecified()) return options.host;
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

aio::TlsServerOptions tls_of(const StandaloneOptions& options) {
  return {.cert_file = options.tls_cert_file,
          .key_file = options.tls_key_file,
          .trust_file = options.tls_trust_file,
          .client_certificate_required = options.tls_client_required,
          .accept_any_client_certificate = options.tls_accept_any};
}

broker::Options broker_options(const StandaloneOptions& options, const Secret& own_secret,
                               const std::string& own_role) {
  broker::Options out;
  out.host = options.host;
  out.port = options.broker_port;
  out.advertised_host = advertised_host(options);
  out.tls_port = options.broker_port_tls;
  out.tls = tls_of(options);
  out.message_bytes_max = static_cast<size_t>(options.message_bytes_max);
  out.unsynced_total_bytes_max = static_cast<size_t>(options.publish_buffer_mb) << 20;
  out.cache_bytes_max = static_cast<size_t>(options.cache_mb) << 20;
  out.authentication.enabled = options.authentication;
  out.authentication.providers = options.authentication_providers;
  out.authentication.token = {.secret_key = options.token_secret_key.reveal(),
                              .public_key = options.token_public_key,
                              .public_algorithm = options.token_public_algorithm,
                              .role_claim = options.token_role_claim,
                              .audience_claim = options.token_audience_claim,
                              .audience = options.token_audience,
                              .clock_skew_seconds = options.token_clock_skew.count()};
  out.authentication.password_file = options.password_file;
  out.authentication.anonymous_role = options.anonymous_role;
  out.authentication.own_secret = own_secret;
  out.authentication.own_role = own_role;
  out.authentication_check = options.authentication_check;
  out.authorization = options.authorization;
  out.super_roles = options.super_roles;
  out.super_roles.push_back(own_role);
  out.consistent_hashing = options.consistent_hashing;
  for (const auto& name : options.entry_metadata) {
    out.note_time |= interceptor(name) == kTimestampInterceptor;
    out.note_index |= interceptor(name) == kIndexInterceptor;
  }
  out.quota_check = options.quota_check;
  out.inactive_check = options.inactive_check;
  return out;
}

// What no single key shows to be wrong. All at once.
Result<void> validate(const StandaloneOptions& options) {
  std::vector<std::string> problems;
  if (!is_loopback(options.host) && !options.authentication &&
      !options.unauthenticated_remote_access) {
    problems.push_back(fmt::format(
        "bindAddress {} can be reached from other machines, and nobody is asked who they are: turn "
        "on authenticationEnabled (with tokenSecretKey, tokenPublicKey, basicAuthConf or client "
        "certificates), or say --unauthenticated-remote-access if everybody who reaches it may "
        "read and write everything",
        options.host));
  }
  const bool tls = options.broker_port_tls || options.web_port_tls;
  if (tls && (options.tls_cert_file.empty() || options.tls_key_file.empty())) {
    problems.push_back("a TLS port needs tlsCertificateFilePath and tlsKeyFilePath");
  }
  if (options.tls_client_required && options.tls_trust_file.empty()) {
    problems.push_back(
        "tlsRequireTrustedClientCertOnConnect needs tlsTrustCertsFilePath: with what should "
        "certificates be checked?");
  }
  const bool has_keys = !options.token_secret_key.reveal().empty() ||
                        !options.token_public_key.empty() || !options.password_file.empty() ||
                        !options.anonymous_role.empty() || (tls && !options.tls_trust_file.empty());
  if (options.authentication && !has_keys) {
    problems.push_back(
        "authenticationEnabled, and nobody could log in: it needs tokenSecretKey or "
        "tokenPublicKey, "
        "basicAuthConf, or tlsTrustCertsFilePath with a TLS port");
  }
  if (options.authorization && !options.authentication) {
    problems.push_back("authorizationEnabled needs authenticationEnabled: roles come from there");
  }
  if (options.authorization && options.super_roles.empty()) {
    problems.push_back("authorizationEnabled needs superUserRoles: nobody could grant anything");
  }
  for (const auto& name : options.entry_metadata) {
    const auto known = interceptor(name);
    if (known != kTimestampInterceptor && known != kIndexInterceptor) {
      problems.push_back(fmt::format("brokerEntryMetadataInterceptors knows {} and {}, not {}",
                                     kTimestampInterceptor, kIndexInterceptor, name));
    }
  }
  if (problems.empty()) return {};
  return Error(Code::invalid, fmt::format("{}", fmt::join(problems, "; ")));
}

class Standalone {
 public:
  explicit Standalone(StandaloneOptions options) : options_(std::move(options)) {}

  aio::Task<Result<void>> run() {
    auto store = co_await aio::offload(disk_threads_.next(), [path = options_.data_dir] {
      return storage::Store::open({.path = path});
    });
    if (!store) co_return store.error();
    store_ = std::move(*store);
    const auto strand = broker_threads_.next();
    broker_ = std::make_unique<broker::Broker>(broker_options(options_, own_secret_, own_role_),
                                               *store_, strand, disk_threads_.next());
    auto started = co_await aio::on(strand, broker_->start());
    if (started) started = co_await aio::on(strand, start_web());
    if (started) {
      // After the broker serves, and whatever becomes of it.
      if (options_.worker) {
        co_await aio::on(worker_strand_, start_worker());
        co_await aio::on(strand, let_worker_answer());
      }
      std::printf("hulse standalone is ready: broker %s, web http://%s, data %s (%.2f s)\n",
                  broker_->service_url().c_str(), aio::to_string(web_->endpoint()).c_str(),
                  options_.data_dir.c_str(),
                  std::chrono::duration<double>(aio::process_age()).count());
      std::fflush(stdout);
      const int number = co_await aio::wait_for_signal();
      log::info(kPart, "stopping on {}", ::strsignal(number));
    }
    for (const auto& web : {web_.get(), web_tls_.get()}) {
      if (web != nullptr) co_await aio::on(strand, web->stop(kWebGrace));
    }
    if (worker_) co_await aio::on(worker_strand_, worker_->stop());
    co_await aio::on(strand, broker_->stop());
    const auto closed =
        co_await aio::offload(disk_threads_.next(), [this] { return store_->close(); });
    if (!started) co_return started.error();
    co_return closed;
  }

 private:
  aio::Task<void> start_worker() {
    runtime::WorkerOptions options;
    const std::string host = advertised_host(options_);
    options.host = host;
    options.port = web_->endpoint().port();
    options.id = fmt::format("c-standalone-fw-{}-{}", host, options.port);
    options.client.service_url = broker_->service_url();
    options.subscription_grace = options_.subscription_grace;
    if (options_.authentication) {
      options.client.security.method = auth::kOwnMethod;
      options.client.security.data = own_secret_;
    }
    worker_ =
        std::make_unique<runtime::Worker>(std::move(options), worker_strand_, worker_threads_);
    worker_->start();
    co_return;
  }

  // Requests are answered on the broker's strand, and come before the worker is there.
  aio::Task<void> let_worker_answer() {
    worker_answers_ = true;
    co_return;
  }

  aio::Task<aio::HttpResponse> answer(aio::HttpRequest request) {
    const bool metrics = request.path() == "/metrics" || request.path() == "/metrics/";
    if (admin::serves(request.path()) && !options_.worker) co_return kTurnedOff;
    if (!admin::serves(request.path())) {
      auto page = co_await broker::handle(*broker_, std::move(request));
      if (metrics && page.status == 200 && worker_answers_)
        page.body += co_await aio::on(worker_strand_, admin::metrics_of(*worker_));
      co_return page;
    }
    auto refused = co_await broker::refuse_stranger(*broker_, request);
    if (refused) co_return std::move(*refused);
    if (!worker_answers_) {
      co_return aio::HttpResponse{.status = 503,
                                  .body = R"({"reason":"starting; please retry again"})",
                                  .content_type = "application/json"};
    }
    co_return co_await aio::on(worker_strand_, admin::handle(*worker_, std::move(request)));
  }

  // On the broker's strand, where topics can be looked at.
  aio::Task<Result<void>> start_web() {
    auto plain = co_await listen(options_.web_port, std::nullopt);
    if (!plain) co_return plain.error();
    web_ = std::move(*plain);
    if (options_.web_port_tls) {
      auto tls = aio::TlsServer::load(tls_of(options_), disk_threads_.next());
      if (!tls) co_return tls.error();
      auto secure = co_await listen(*options_.web_port_tls, std::move(*tls));
      if (!secure) co_return secure.error();
      web_tls_ = std::move(*secure);
    }
    const std::string host = advertised_host(options_);
    broker_->set_web_urls(
        fmt::format("http://{}:{}", host, web_->endpoint().port()),
        web_tls_ ? fmt::format("https://{}:{}", host, web_tls_->endpoint().port()) : "");
    co_return Result<void>();
  }

  aio::Task<Result<std::unique_ptr<aio::HttpServer>>> listen(uint16_t port,
                                                             std::optional<aio::TlsServer> tls) {
    aio::HttpServerOptions options;
    options.host = options_.host;
    options.port = port;
    const bool secure = tls.has_value();
    options.tls = std::move(tls);
    auto server = co_await aio::HttpServer::start(
        options, [this](aio::HttpRequest request) { return answer(std::move(request)); });
    if (!server && server.error().code() == Code::busy) {
      co_return Error(Code::busy,
                      fmt::format("port {} of {} is taken by another program; stop it or choose "
                                  "another one with --web-port{}",
                                  port, options_.host, secure ? "-tls" : ""));
    }
    co_return server;
  }

  const StandaloneOptions options_;
  // Threads go last: what they run has ended by then.
  aio::Threads broker_threads_{"broker", 1};
  aio::Threads disk_threads_{"disk", 2};
  aio::Threads worker_threads_{"worker",
                               std::clamp<size_t>(std::thread::hardware_concurrency(), 1, 8)};
  const aio::Executor worker_strand_ = worker_threads_.next();
  // How the worker shows the broker that it is part of this process. A role nobody else can have
  // been given.
  const Secret own_secret_{random_hex(32)};
  const std::string own_role_ = "hulse-worker-" + random_hex(8);
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<broker::Broker> broker_;
  std::unique_ptr<runtime::Worker> worker_;
  bool worker_answers_ = false;  // the broker's strand's
  std::unique_ptr<aio::HttpServer> web_;
  std::unique_ptr<aio::HttpServer> web_tls_;
};

}  // namespace

std::string standalone_flag(std::string_view key) {
  // The words users know from before come first.
  if (key == "bindAddress") return "--bind";
  if (key == "brokerServicePort") return "--broker-port";
  if (key == "brokerServicePortTls") return "--broker-port-tls";
  if (key == "webServicePort") return "--web-port";
  if (key == "webServicePortTls") return "--web-port-tls";
  std::string flag = "--";
  for (const char c : key) {
    if (c >= 'A' && c <= 'Z') flag += '-';
    flag += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return flag;
}

Result<void> run_standalone(const StandaloneOptions& options) {
  const auto valid = validate(options);
  if (!valid) return valid;
  Standalone standalone(options);
  return aio::run(standalone.run());
}

}  // namespace hulse

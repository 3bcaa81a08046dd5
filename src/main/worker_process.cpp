#include "main/worker_process.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <thread>

#include "admin/rest.h"
#include "aio/clock.h"
#include "aio/http_client.h"
#include "aio/offload.h"
#include "aio/rest.h"
#include "aio/run.h"
#include "aio/signals.h"
#include "aio/threads.h"
#include "auth/authenticator.h"
#include "base/log.h"
#include "metrics/page.h"
#include "runtime/worker.h"

namespace hulse {
namespace {

constexpr std::string_view kPart = "worker";
constexpr auto kLook = std::chrono::milliseconds(500);

Result<client::Options> client_options(const WorkerProcessOptions& options) {
  client::Options out;
  out.service_url = options.service_url;
  out.security.tls.ca_file = options.trust_certs_file;
  out.security.tls.verify_certificate = !options.client_insecure;
  out.security.tls.verify_host = !options.client_insecure;
  const auto set = out.security.set_plugin(options.auth_plugin, options.auth_params.reveal());
  if (!set) return set.error();
  return out;
}

class WorkerProcess {
 public:
  explicit WorkerProcess(WorkerProcessOptions options) : options_(std::move(options)) {}

  aio::Task<Result<void>> run() {
    const auto client = client_options(options_);
    if (!client) co_return client.error();
    auto who = auth::Authenticator::load(options_.who());
    if (!who) co_return who.error();
    who_ = std::move(*who);
    if (!options_.admin_url.empty()) {
      const auto made = co_await make_namespace(client->security);
      if (!made) co_return made.error();
    }
    std::shared_ptr<const runtime::SecretBox> secrets;
    if (!options_.secrets_key_file.empty()) {
      auto box = co_await open_secrets(options_.secrets_key_file, disk_threads_.next());
      if (!box) co_return box.error();
      secrets = std::move(*box);
    }
    auto web = co_await aio::on(
        strand_,
        WebServers::start(options_, options_.web_port, disk_threads_.next(),
                          [this](aio::HttpRequest request) { return answer(std::move(request)); }));
    if (!web) co_return web.error();
    web_ = std::move(*web);
    runtime::WorkerOptions options;
    options.client = *client;
    options.host = options_.told_host();
    options.port = web_->port();
    options.id = options_.worker_id.empty()
                     ? fmt::format("c-hulse-fw-{}-{}", options.host, options.port)
                     : options_.worker_id;
    options.name_space = options_.state_namespace;
    options.subscription_grace = options_.subscription_grace;
    options.secret_sources = options_.secret_sources();
    options.secrets = secrets;
    const std::string id = options.id;
    worker_ = std::make_unique<runtime::Worker>(std::move(options), strand_, worker_threads_);
    co_await aio::on(strand_, begin());
    std::printf("hulse worker %s is ready: web %s, brokers %s (%.2f s)\n", id.c_str(),
                web_->url().c_str(), options_.service_url.c_str(),
                std::chrono::duration<double>(aio::process_age()).count());
    std::fflush(stdout);
    Result<void> ended;
    const auto superseded = co_await wait_for_the_end();
    if (superseded) ended = *superseded;
    co_await aio::start_cleanup();
    co_await aio::on(strand_, web_->stop());
    co_await aio::on(strand_, worker_->stop());
    co_return ended;
  }

 private:
  aio::Task<void> begin() {
    worker_->start();
    // Ready means that it takes orders, or that it has said why not.
    co_await worker_->wait_ready();
    answers_ = true;
  }

  // A signal, or the error that ends it by itself.
  aio::Task<std::optional<Error>> wait_for_the_end() {
    using namespace aio::asio::experimental::awaitable_operators;
    const auto which = co_await (aio::wait_for_signal() || aio::on(strand_, watch()));
    if (which.index() == 1) co_return std::get<1>(which);
    log::info(kPart, "stopping on {}", ::strsignal(std::get<0>(which)));
    co_return std::nullopt;
  }

  aio::Task<Error> watch() {
    while (!worker_->superseded()) {
      const bool slept = co_await aio::sleep(kLook);
      if (!slept) co_return Error(Code::cancelled, "stopped");
    }
    co_return *worker_->superseded();
  }

  Result<auth::Identity> identify(const aio::HttpRequest& request) const {
    const auto shown = auth::Authenticator::from_http(
        aio::find_header(request.headers, "Authorization"), request.peer_common_name);
    if (!shown) return shown.error();
    return who_->check(*shown, aio::wall_ms());
  }

  // Of who was let in; nobody is asked without authentication.
  std::string role_of(const aio::HttpRequest& request) const {
    if (!who_->enabled()) return {};
    const auto identity = identify(request);
    return identity ? identity->role : std::string();
  }

  // Whoever manages is asked who it is, and has to be a super user: what a role may do in a
  // namespace is known by the brokers only.
  std::optional<aio::HttpResponse> refuse_stranger(const aio::HttpRequest& request) const {
    if (!who_->enabled()) return std::nullopt;
    const auto identity = identify(request);
    if (!identity) {
      auto refused = aio::refuse(401, identity.error().text());
      refused.headers.emplace_back("WWW-Authenticate", "Bearer");
      return refused;
    }
    const auto& roles = options_.super_roles;
    if (std::find(roles.begin(), roles.end(), identity->role) != roles.end()) return std::nullopt;
    return aio::refuse(403, fmt::format("the role \"{}\" is none of superUserRoles of this worker",
                                        identity->role));
  }

  aio::Task<aio::HttpResponse> answer(aio::HttpRequest request) {
    if (!answers_) co_return aio::refuse(503, "starting; please retry again");
    if (request.path() == "/metrics" || request.path() == "/metrics/") {
      aio::HttpResponse page;
      page.body = co_await admin::metrics_of(*worker_);
      page.content_type = metrics::kContentType;
      give_as_asked(request.headers, page);
      co_return page;
    }
    if (!admin::serves(request.path()))
      co_return aio::refuse(404,
                            "a worker answers for sources, sinks and functions; what "
                            "concerns topics is the brokers' business");
    auto refused = refuse_stranger(request);
    if (refused) co_return std::move(*refused);
    admin::Caller caller;
    caller.role = role_of(request);
    co_return co_await admin::handle(*worker_, std::move(request), std::move(caller));
  }

  // With the rights to do so; without them its words are those an administrator needs.
  aio::Task<Result<void>> make_namespace(client::Security security) {
    const auto executor = co_await aio::asio::this_coro::executor;
    auto headers = security.http_headers();
    if (!headers) co_return headers.error();
    aio::HttpClientOptions http_options;
    http_options.tls = security.tls;
    aio::HttpClient http(executor, std::move(http_options));
    std::string base = options_.admin_url;
    while (base.ends_with('/')) base.pop_back();
    const auto made = co_await make_namespace_with(http, base, *headers);
    http.close();
    co_return made;
  }

  aio::Task<Result<void>> make_namespace_with(aio::HttpClient& http, std::string base,
                                              aio::HttpHeaders headers) {
    const std::string url = base + "/admin/v2/namespaces/" + options_.state_namespace;
    aio::HttpCall look{.url = url, .headers = headers};
    const auto there = co_await http.send(std::move(look));
    if (!there) co_return there.error().with("--admin-url");
    if (there->status == 200) co_return Result<void>();
    headers.emplace_back("Content-Type", "application/json");
    aio::HttpCall make{.method = "PUT", .url = url, .headers = std::move(headers), .body = "{}"};
    const auto made = co_await http.send(std::move(make));
    if (!made) co_return made.error().with("--admin-url");
    if (made->status < 300 || made->status == 409) {
      log::info(kPart, "the namespace {} was created", options_.state_namespace);
      co_return Result<void>();
    }
    const std::string tenant =
        options_.state_namespace.substr(0, options_.state_namespace.find('/'));
    co_return Error(Code::permission,
                    fmt::format("the namespace {0} cannot be created at {1} (HTTP {2}: {3}). An "
                                "administrator creates it with\n"
                                "  pulsar-admin tenants create {4}\n"
                                "  pulsar-admin namespaces create {0}\n"
                                "and this worker needs the rights to produce and consume there",
                                options_.state_namespace, base, made->status,
                                made->body.substr(0, 200), tenant));
  }

  const WorkerProcessOptions options_;
  // Threads go last: what they run has ended by then.
  aio::Threads disk_threads_{"disk", 1};
  aio::Threads worker_threads_{"worker",
                               std::clamp<size_t>(std::thread::hardware_concurrency(), 1, 8)};
  const aio::Executor strand_ = worker_threads_.next();
  std::optional<auth::Authenticator> who_;
  std::unique_ptr<WebServers> web_;
  std::unique_ptr<runtime::Worker> worker_;
  bool answers_ = false;  // the strand's
};

}  // namespace

Result<void> run_worker(const WorkerProcessOptions& options) {
  std::vector<std::string> problems;
  options.check(problems, false);
  if (options.authentication && options.super_roles.empty())
    problems.push_back("authenticationEnabled needs superUserRoles: nobody could manage anything");
  const auto& name_space = options.state_namespace;
  if (std::count(name_space.begin(), name_space.end(), '/') != 1)
    problems.push_back(
        fmt::format("pulsarFunctionsNamespace {}: tenant/namespace is expected", name_space));
  if (!problems.empty()) return Error(Code::invalid, fmt::format("{}", fmt::join(problems, "; ")));
  WorkerProcess process(options);
  return aio::run(process.run());
}

}  // namespace hulse

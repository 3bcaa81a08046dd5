#include "main/standalone.h"

#include <algorithm>
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
const aio::HttpResponse kTurnedOff{
    .status = 404,
    .body =
        R"({"reason":"functionsWorkerEnabled is false: sources and sinks are turned off here"})",
    .content_type = "application/json"};

constexpr std::string_view kTimestampInterceptor = "AppendBrokerTimestampMetadataInterceptor";
constexpr std::string_view kIndexInterceptor = "AppendIndexMetadataInterceptor";

// The class without its package.
std::string_view interceptor(std::string_view name) { return name.substr(name.rfind('.') + 1); }

broker::Options broker_options(const StandaloneOptions& options, const Secret& own_secret,
                               const std::string& own_role) {
  broker::Options out;
  out.host = options.host;
  out.port = options.broker_port;
  out.advertised_host = options.told_host();
  out.tls_port = options.broker_port_tls;
  out.tls = options.tls();
  out.message_bytes_max = static_cast<size_t>(options.message_bytes_max);
  out.unsynced_total_bytes_max = static_cast<size_t>(options.publish_buffer_mb) << 20;
  out.cache_bytes_max = static_cast<size_t>(options.cache_mb) << 20;
  out.authentication = options.who();
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
  options.check(problems, options.broker_port_tls.has_value());
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
    if (started && options_.worker) {
      const std::string path = options_.secrets_key_file.empty()
                                   ? options_.data_dir + "/secrets.key"
                                   : options_.secrets_key_file;
      auto box = co_await open_secrets(path, disk_threads_.next());
      if (box) {
        secrets_ = std::move(*box);
      } else {
        started = box.error();
      }
    }
    if (started) started = co_await aio::on(strand, start_web());
    if (started) {
      // After the broker serves, and whatever becomes of it.
      if (options_.worker) {
        co_await aio::on(worker_strand_, start_worker());
        co_await aio::on(strand, let_worker_answer());
      }
      std::printf("hulse standalone is ready: broker %s, web %s, data %s (%.2f s)\n",
                  broker_->service_url().c_str(), web_->url().c_str(), options_.data_dir.c_str(),
                  std::chrono::duration<double>(aio::process_age()).count());
      std::fflush(stdout);
      const int number = co_await aio::wait_for_signal();
      log::info(kPart, "stopping on {}", ::strsignal(number));
    }
    if (web_) co_await aio::on(strand, web_->stop());
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
    options.secrets = secrets_;
    options.secret_sources = options_.secret_sources();
    options.host = options_.told_host();
    options.port = web_->port();
    options.id = fmt::format("c-standalone-fw-{}-{}", options.host, options.port);
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
    const auto asked = metrics ? request.headers : aio::HttpHeaders();
    if (admin::serves(request.path()) && !options_.worker) co_return kTurnedOff;
    if (!admin::serves(request.path())) {
      auto page = co_await broker::handle(*broker_, std::move(request));
      if (metrics && page.status == 200 && worker_answers_)
        page.body += co_await aio::on(worker_strand_, admin::metrics_of(*worker_));
      if (metrics && page.status == 200) give_as_asked(asked, page);
      co_return page;
    }
    auto refused = co_await broker::refuse_stranger(*broker_, request);
    if (refused) co_return std::move(*refused);
    if (!worker_answers_) {
      co_return aio::HttpResponse{.status = 503,
                                  .body = R"({"reason":"starting; please retry again"})",
                                  .content_type = "application/json"};
    }
    admin::Caller caller;
    caller.role = co_await broker::role_of(*broker_, request);
    const auto here = co_await aio::asio::this_coro::executor;
    caller.may_use = [this, here, role = caller.role](std::string topic, bool write) {
      return aio::on(here, broker::may_use(*broker_, role, std::move(topic), write));
    };
    co_return co_await aio::on(worker_strand_,
                               admin::handle(*worker_, std::move(request), std::move(caller)));
  }

  // On the broker's strand, where topics can be looked at.
  aio::Task<Result<void>> start_web() {
    auto web = co_await WebServers::start(
        options_, options_.web_port, disk_threads_.next(),
        [this](aio::HttpRequest request) { return answer(std::move(request)); });
    if (!web) co_return web.error();
    web_ = std::move(*web);
    broker_->set_web_urls(web_->told_url(), web_->told_url_tls());
    co_return Result<void>();
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
  std::shared_ptr<const runtime::SecretBox> secrets_;
  std::unique_ptr<runtime::Worker> worker_;
  bool worker_answers_ = false;  // the broker's strand's
  std::unique_ptr<WebServers> web_;
};

}  // namespace

Result<void> run_standalone(const StandaloneOptions& options) {
  const auto valid = validate(options);
  if (!valid) return valid;
  Standalone standalone(options);
  return aio::run(standalone.run());
}

}  // namespace hulse

#include "runtime/local_run.h"

#include "aio/offload.h"
#include "base/log.h"
#include "runtime/bus_id.h"

namespace hulse::runtime {
namespace {

aio::Task<Result<std::string>> reach(client::Options options) {
  const auto executor = co_await aio::asio::this_coro::executor;
  auto client = client::Client::make(executor, options);
  if (!client) co_return client.error();
  Result<std::string> id = std::string();
  const auto connected = co_await (*client)->connect();
  if (!connected && connected.error().code() == Code::permission) {
    id = connected.error();
  } else if (!connected) {
    id = Error(
        Code::unavailable,
        fmt::format("no broker answers at {} ({}); start one with `hulse standalone`, or name "
                    "another with --broker-service-url",
                    options.service_url, connected.error().text()));
  } else {
    id = co_await bus_id(**client, kStateNamespace);
  }
  co_await (*client)->stop();
  co_return id;
}

aio::Task<void> forward(std::shared_ptr<Instance> instance) { co_await instance->run(); }

aio::Task<Status> status_of(std::shared_ptr<Instance> instance) { co_return instance->status(); }

}  // namespace

aio::Task<Result<void>> local_run(const Component& component, client::Options client,
                                  aio::Threads& threads) {
  co_await aio::asio::this_coro::throw_if_cancelled(false);
  const auto executor = co_await aio::asio::this_coro::executor;
  const auto secrets = resolve_secrets(component.fields(), component.given, {});
  if (!secrets) co_return secrets.error();
  const auto id = co_await reach(client);
  if (!id) co_return id.error();
  const auto clients = std::make_shared<Clients>(client);
  Bus bus{clients, *id};
  const auto shared = std::make_shared<const Component>(component);
  if (connect::reads_topics(component.kind) && !component.from_earliest) {
    log::info(
        "localrun",
        "if the subscription {} is new, it begins at Latest: what was published before is not read "
        "(--subs-position Earliest reads it); one that exists goes on where it was",
        component.subscription);
  }

  aio::Gate gate(executor);
  aio::Event ended(executor);
  size_t running = component.parallelism;
  std::vector<std::pair<aio::Executor, std::shared_ptr<Instance>>> instances;
  const auto serve = [&](aio::Executor strand,
                         std::shared_ptr<Instance> instance) -> aio::Task<void> {
    co_await aio::on(strand, forward(instance));
    --running;
    ended.notify();
  };
  for (unsigned i = 0; i < component.parallelism; ++i) {
    const auto strand = threads.next();
    instances.emplace_back(strand, make_instance(shared, i, bus, strand));
    gate.spawn("instance", serve(strand, instances.back().second));
  }
  bool stopped = false;
  // One that failed for good ends the others: a part of what was asked for is not what was asked
  // for.
  while (running == component.parallelism && !stopped) {
    const bool woken = co_await ended.wait();
    stopped = !woken && running == component.parallelism;
  }
  co_await gate.close();
  co_await clients->stop();

  std::string reasons;
  for (const auto& [strand, instance] : instances) {
    const auto status = co_await aio::on(strand, status_of(instance));
    const auto& counters = status.counters;
    log::info(instance->label(),
              "{}: received {}, written {}, dead-lettered {}, skipped {}, returned {}, retries {}",
              to_string(status.state), counters.received, counters.written, counters.dead_lettered,
              counters.skipped, counters.returned, counters.retries);
    if (status.state != State::failed) continue;
    if (!reasons.empty()) reasons += '\n';
    reasons += fmt::format("{} failed: {}", instance->label(), status.reason);
  }
  if (!stopped && !reasons.empty()) co_return Error(Code::unavailable, reasons);
  co_return Result<void>();
}

}  // namespace hulse::runtime

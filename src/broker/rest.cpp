#include "broker/rest.h"

#include <zlib.h>

#include "aio/clock.h"
#include "aio/offload.h"
#include "base/log.h"
#include "broker/rest_common.h"
#include "broker/stats.h"
#include "broker/subscription.h"
#include "metrics/page.h"

namespace hulse::broker {
namespace {

std::string metrics_of(Broker& broker) {
  using metrics::Type;
  metrics::Page page;
  for (const auto& [name, topic] : broker.loaded()) {
    const metrics::Labels labels{{"cluster", "standalone"}, {"topic", name}};
    const auto& counters = topic->counters();
    page.add("pulsar_in_messages_total", Type::counter, "Messages published to the topic.", labels,
             counters.in.messages);
    page.add("pulsar_in_bytes_total", Type::counter, "Bytes published to the topic.", labels,
             counters.in.bytes);
    page.add("pulsar_out_messages_total", Type::counter, "Messages given to consumers.", labels,
             counters.out.messages);
    page.add("pulsar_out_bytes_total", Type::counter, "Bytes given to consumers.", labels,
             counters.out.bytes);
    page.add("pulsar_producers_count", Type::gauge, "Producers of the topic.", labels,
             topic->producers().size());
    page.add("pulsar_subscriptions_count", Type::gauge, "Subscriptions of the topic.", labels,
             topic->subscriptions().size());
    for (const auto& [subscription, state] : topic->subscriptions()) {
      auto own = labels;
      own.emplace_back("subscription", subscription);
      page.add("pulsar_subscription_back_log", Type::gauge,
               "Entries the subscription has not acknowledged.", own,
               topic->backlog(state->cursor()));
    }
  }
  const auto store = broker.shared().store.stats();
  page.add("hulse_storage_syncs_total", Type::counter, "Syncs of the log.", {}, store.syncs);
  page.add("hulse_storage_records_total", Type::counter, "Records written to the log.", {},
           store.records);
  page.add("hulse_storage_written_bytes_total", Type::counter, "Bytes written to the log.", {},
           store.bytes);
  page.add("hulse_storage_disk_bytes", Type::gauge, "Bytes of the log on disk.", {},
           store.disk_bytes);
  page.add("hulse_storage_live_bytes", Type::gauge, "Bytes of it that are needed.", {},
           store.live_bytes);
  return page.text();
}

aio::Task<Result<auth::Identity>> identify(Broker& broker, const aio::HttpRequest& request) {
  auto credentials = auth::Authenticator::from_http(
      aio::find_header(request.headers, "Authorization"), request.peer_common_name);
  if (!credentials) co_return credentials.error();
  const auto& authenticator = broker.authenticator();
  const int64_t now = aio::wall_ms();
  if (credentials->method != "basic") co_return authenticator.check(*credentials, now);
  // A strong password hash takes its time on purpose.
  const auto identity = co_await aio::offload(
      broker.shared().disk, [&authenticator, shown = std::move(*credentials), now] {
        return authenticator.check(shown, now);
      });
  co_return identity;
}

// The quarter of the hash range a topic falls into, as Pulsar's four default bundles.
std::string bundle_of(const std::string& topic) {
  const auto hash = static_cast<uint32_t>(
      ::crc32(0, reinterpret_cast<const Bytef*>(topic.data()), static_cast<uInt>(topic.size())));
  const uint32_t low = hash & 0xc0000000;
  return fmt::format("0x{:08x}_0x{:08x}", low, low == 0xc0000000 ? 0xffffffff : low + 0x40000000);
}

// /admin/v2/brokers/…: there is one broker in one cluster.
std::optional<aio::HttpResponse> handle_brokers(const Call& call) {
  auto& broker = call.broker;
  const std::string id = broker.shared().broker_id;
  if (call.is(3, {"standalone"})) return answer(json::array{id});
  if (call.is(3, {"leaderBroker"}))
    return answer(json::object{{"serviceUrl", broker.web_url()}, {"brokerId", id}});
  if (call.is(3, {"internal-configuration"})) {
    // Where Pulsar's worker looks for its metadata; here that is the broker itself.
    return answer(json::object{{"zookeeperServers", broker.web_url()},
                               {"configurationStoreServers", broker.web_url()},
                               {"metadataStoreUrl", broker.web_url()},
                               {"configurationMetadataStoreUrl", broker.web_url()},
                               {"ledgersRootPath", "/ledgers"}});
  }
  if (call.is(3, {"configuration", "runtime"}) || call.is(3, {"configuration", "values"})) {
    const auto& options = broker.options();
    return answer(
        json::object{{"clusterName", "standalone"},
                     {"bindAddress", options.host},
                     {"advertisedAddress", options.advertised_host},
                     {"maxMessageSize", std::to_string(options.message_bytes_max)},
                     {"authenticationEnabled", options.authentication.enabled ? "true" : "false"},
                     {"authorizationEnabled", options.authorization ? "true" : "false"}});
  }
  if (call.is(3, {"standalone", "*", "ownedNamespaces"})) {
    json::object out;
    for (const auto& [tenant, info] : broker.namespaces().tenants()) {
      for (const auto& name_space : broker.namespaces().of_tenant(tenant)) {
        out[name_space + "/0x00000000_0xffffffff"] = json::object{
            {"broker_assignment", "shared"}, {"is_controlled", false}, {"is_active", true}};
      }
    }
    return answer(out);
  }
  return std::nullopt;
}

// /admin/v2/broker-stats/…
std::optional<aio::HttpResponse> handle_broker_stats(const Call& call) {
  auto& broker = call.broker;
  if (call.parts[3] == "topics" || call.parts[3] == "destinations") {
    json::object out;
    for (const auto& [name, topic] : broker.loaded()) {
      auto& bundles = out[topic->name().namespace_text()];
      if (!bundles.is_object()) bundles = json::object();
      auto& domains = bundles.get_object()[bundle_of(name)];
      if (!domains.is_object()) domains = json::object{{"persistent", json::object()}};
      domains.get_object()["persistent"].get_object()[name] = topic_stats(*topic);
    }
    return answer(out);
  }
  const auto store = broker.shared().store.stats();
  if (call.parts[3] == "metrics") {
    json::object numbers{{"hulse_topics", broker.loaded().size()},
                         {"hulse_storage_disk_bytes", store.disk_bytes},
                         {"hulse_storage_written_bytes", store.bytes},
                         {"hulse_storage_syncs", store.syncs}};
    return answer(json::array{json::object{
        {"metrics", std::move(numbers)},
        {"dimensions", {{"cluster", "standalone"}, {"broker", broker.shared().broker_id}}}}});
  }
  if (call.parts[3] == "load-report") {
    return answer(json::object{{"webServiceUrl", broker.web_url()},
                               {"webServiceUrlTls", broker.web_url_tls()},
                               {"pulsarServiceUrl", broker.service_url()},
                               {"pulsarServiceUrlTls", broker.service_url_tls()},
                               {"brokerVersionString", kServerVersion},
                               {"numTopics", broker.loaded().size()}});
  }
  return std::nullopt;
}

std::optional<aio::HttpResponse> handle_broker(Call& call) {
  auto& broker = call.broker;
  if (!call.get()) return std::nullopt;
  if (call.is(0, {"ready"}) || call.is(0, {"admin", "v2", "brokers", "ready"}) ||
      call.is(0, {"admin", "v2", "brokers", "health"})) {
    if (const auto trouble = broker.shared().store.trouble()) return refuse(503, trouble->text());
    return aio::HttpResponse{.body = "ok"};
  }
  if (call.is(0, {"metrics"}) || call.is(0, {"metrics", ""})) {
    return aio::HttpResponse{.body = metrics_of(broker), .content_type = metrics::kContentType};
  }
  if (call.is(0, {"admin", "v2", "clusters"})) return answer(json::array{"standalone"});
  if (call.is(0, {"admin", "v2", "clusters", "standalone"})) {
    return answer(json::object{{"serviceUrl", broker.web_url()},
                               {"serviceUrlTls", broker.web_url_tls()},
                               {"brokerServiceUrl", broker.service_url()},
                               {"brokerServiceUrlTls", broker.service_url_tls()},
                               {"brokerClientTlsEnabled", false},
                               {"tlsAllowInsecureConnection", false},
                               {"brokerClientTlsEnabledWithKeyStore", false}});
  }
  if (call.is(0, {"admin", "v2", "brokers", "version"}))
    return aio::HttpResponse{.body = kServerVersion};
  if (call.parts.size() >= 4 && call.parts[1] == "v2" && call.parts[2] == "brokers")
    return handle_brokers(call);
  if (call.parts.size() == 4 && call.parts[1] == "v2" && call.parts[2] == "broker-stats")
    return handle_broker_stats(call);
  if (call.is(0, {"lookup", "v2", "topic", "*", "*", "*", "*", "bundle"})) {
    const auto bundle = bundle_of(
        fmt::format("{}://{}/{}/{}", call.parts[3], call.parts[4], call.parts[5], call.parts[6]));
    return aio::HttpResponse{.body = bundle};
  }
  if (call.is(0, {"lookup", "v2", "topic", "*", "*", "*", "*"})) {
    const auto url = broker.service_url();
    return answer(json::object{{"brokerUrl", url},
                               {"brokerUrlTls", broker.service_url_tls()},
                               {"httpUrl", broker.web_url()},
                               {"httpUrlTls", broker.web_url_tls()},
                               {"nativeUrl", url},
                               {"brokerUrlSsl", ""}});
  }
  return std::nullopt;
}

}  // namespace

aio::HttpResponse done(const Result<void>& result) {
  return result ? no_content() : refuse(500, result.error().text());
}

namespace {

aio::Task<Call> take_apart(Broker& broker, const aio::HttpRequest& request) {
  auto identity = co_await identify(broker, request);
  co_return Call(broker, request, std::move(identity));
}

std::optional<aio::HttpResponse> admit(const Call& call) {
  const auto& request = call.request;
  if (auto forbidden = forbid(call)) {
    log::info("http", "{} {} {} from {}: {}", forbidden->status, request.method, request.path(),
              request.peer, forbidden->body);
    return forbidden;
  }
  if (!call.get() && request.method != "HEAD") {
    log::info("http", "{} {} by {} from {}", request.method, request.path(),
              call.identity && !call.identity->role.empty() ? call.identity->role : "anybody",
              request.peer);
  }
  return std::nullopt;
}

}  // namespace

aio::Task<std::optional<aio::HttpResponse>> refuse_stranger(Broker& broker,
                                                            const aio::HttpRequest& request) {
  const auto call = co_await take_apart(broker, request);
  co_return admit(call);
}

aio::Task<std::string> role_of(Broker& broker, const aio::HttpRequest& request) {
  const auto identity = co_await identify(broker, request);
  co_return identity ? identity->role : std::string();
}

aio::Task<bool> may_use(Broker& broker, std::string role, std::string topic, bool write) {
  const auto name = wire::TopicName::parse(topic);
  // One that cannot be is refused by whoever looks at it.
  co_return !name ||
      broker.authorization().may(write ? Action::produce : Action::consume, *name, role);
}

aio::Task<aio::HttpResponse> handle(Broker& broker, aio::HttpRequest request) {
  Call call = co_await take_apart(broker, request);
  if (auto refused = admit(call)) co_return std::move(*refused);
  if (auto own = handle_broker(call)) co_return std::move(*own);
  auto answered = co_await handle_namespaces(call);
  if (!answered) answered = co_await handle_topics(call);
  if (!answered) answered = co_await handle_schemas(call);
  if (!answered) answered = co_await handle_storage(call);
  if (answered) co_return std::move(*answered);
  co_return refuse(404, fmt::format("{} {} is not served by this version of Hulse", request.method,
                                    request.target));
}

}  // namespace hulse::broker

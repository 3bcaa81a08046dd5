#include "broker/rest.h"

#include <boost/json.hpp>
#include <boost/url/parse.hpp>
#include <boost/url/url_view.hpp>

#include "broker/subscription.h"

namespace hulse::broker {
namespace {

namespace json = boost::json;

aio::HttpResponse answer(const json::value& value) {
  return {.status = 200, .body = json::serialize(value), .content_type = "application/json"};
}
aio::HttpResponse refuse(unsigned status, std::string reason) {
  return {.status = status,
          .body = json::serialize(json::object{{"reason", std::move(reason)}}),
          .content_type = "application/json"};
}

json::object stats(Topic& topic) {
  const auto& counters = topic.counters();
  json::object subscriptions;
  for (const auto& [name, subscription] : topic.subscriptions()) {
    json::array consumers;
    for (const auto& consumer : subscription->consumers()) {
      consumers.push_back(json::object{{"consumerName", consumer->name},
                                       {"availablePermits", consumer->permits},
                                       {"unackedMessages", consumer->unacked},
                                       {"blockedConsumerOnUnackedMsgs", consumer->blocked},
                                       {"address", consumer->link->address()}});
    }
    subscriptions[name] =
        json::object{{"type", pb::CommandSubscribe::SubType_Name(subscription->type())},
                     // Entries, as Pulsar counts them.
                     {"msgBacklog", topic.backlog(subscription->cursor())},
                     {"unackedMessages", subscription->unacked_messages()},
                     {"isDurable", subscription->durable()},
                     {"consumers", std::move(consumers)}};
  }
  return {{"msgInCounter", counters.messages_in},   {"bytesInCounter", counters.bytes_in},
          {"msgOutCounter", counters.messages_out}, {"bytesOutCounter", counters.bytes_out},
          {"publishers", topic.producers()},        {"subscriptions", std::move(subscriptions)}};
}

std::string label(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

std::string metrics(Broker& broker) {
  std::string out;
  const auto line = [&](std::string_view name, const std::string& labels, uint64_t value) {
    out += fmt::format("{}{{{}}} {}\n", name, labels, value);
  };
  for (const auto& [name, topic] : broker.loaded()) {
    const std::string labels = fmt::format("cluster=\"standalone\",topic=\"{}\"", label(name));
    const auto& counters = topic->counters();
    line("pulsar_in_messages_total", labels, counters.messages_in);
    line("pulsar_in_bytes_total", labels, counters.bytes_in);
    line("pulsar_out_messages_total", labels, counters.messages_out);
    line("pulsar_out_bytes_total", labels, counters.bytes_out);
    line("pulsar_producers_count", labels, topic->producers());
    line("pulsar_subscriptions_count", labels, topic->subscriptions().size());
    for (const auto& [subscription, state] : topic->subscriptions()) {
      line("pulsar_subscription_back_log",
           labels + fmt::format(",subscription=\"{}\"", label(subscription)),
           topic->backlog(state->cursor()));
    }
  }
  const auto store = broker.shared().store.stats();
  line("hulse_storage_syncs_total", "", store.syncs);
  line("hulse_storage_records_total", "", store.records);
  line("hulse_storage_written_bytes_total", "", store.bytes);
  line("hulse_storage_disk_bytes", "", store.disk_bytes);
  return out;
}

// The decoded segments of a path.
std::vector<std::string> segments(std::string_view path) {
  std::vector<std::string> out;
  const auto parsed = boost::urls::parse_origin_form(path);
  if (!parsed) return out;
  for (const auto& segment : parsed->segments()) out.push_back(segment);
  return out;
}

}  // namespace

aio::Task<aio::HttpResponse> handle(Broker& broker, aio::HttpRequest request) {
  const auto parts = segments(request.path());
  const auto is = [&](std::initializer_list<std::string_view> words) {
    return std::equal(parts.begin(), parts.end(), words.begin(), words.end());
  };
  if (request.method != "GET") co_return refuse(405, request.method + " is not possible here");
  if (is({"ready"}) || is({"admin", "v2", "brokers", "ready"}) ||
      is({"admin", "v2", "brokers", "health"})) {
    if (const auto broken = broker.shared().store.broken()) co_return refuse(503, broken->text());
    co_return aio::HttpResponse{.body = "ok"};
  }
  if (is({"metrics"}) || is({"metrics", ""})) {
    co_return aio::HttpResponse{.body = metrics(broker),
                                .content_type = "text/plain; version=0.0.4"};
  }
  if (is({"admin", "v2", "clusters"})) co_return answer(json::array{"standalone"});
  const bool of_topic =
      parts.size() >= 6 && parts[0] == "admin" && parts[1] == "v2" && parts[2] == "persistent";
  if (of_topic && parts.size() == 7 && parts[6] == "stats") {
    const auto found =
        broker.topic(fmt::format("persistent://{}/{}/{}", parts[3], parts[4], parts[5]), false);
    if (found.refusal) co_return refuse(404, found.refusal->message);
    co_return answer(stats(*found.topic));
  }
  if (parts.size() == 5 && parts[0] == "admin" && parts[1] == "v2" && parts[2] == "persistent") {
    json::array names;
    for (auto& name : broker.topics(parts[3] + "/" + parts[4])) names.emplace_back(std::move(name));
    co_return answer(names);
  }
  if (parts.size() == 7 && parts[0] == "lookup" && parts[1] == "v2" && parts[2] == "topic") {
    const auto url = broker.service_url();
    co_return answer(json::object{{"brokerUrl", url},
                                  {"brokerUrlTls", ""},
                                  {"httpUrl", ""},
                                  {"httpUrlTls", ""},
                                  {"nativeUrl", url}});
  }
  co_return refuse(404, request.target + " is not served by this version of Hulse");
}

}  // namespace hulse::broker

#include "client/client.h"
#include "client/lookup.h"

namespace hulse::client {
namespace {

constexpr unsigned kRedirectsMax = 20;

class BinaryLookup : public Lookup {
 public:
  explicit BinaryLookup(Client& client) : client_(client) {}

  aio::Task<Result<Place>> find(std::string topic) override {
    auto connection = co_await client_.service_connection();
    if (!connection) co_return connection.error();
    const bool tls = (*connection)->address().tls;
    bool authoritative = false;
    for (unsigned redirects = 0; redirects <= kRedirectsMax; ++redirects) {
      const uint64_t request_id = client_.next_id();
      pb::BaseCommand ask;
      ask.set_type(pb::BaseCommand::LOOKUP);
      ask.mutable_lookuptopic()->set_topic(topic);
      ask.mutable_lookuptopic()->set_request_id(request_id);
      ask.mutable_lookuptopic()->set_authoritative(authoritative);
      if (!client_.options().listener_name.empty())
        ask.mutable_lookuptopic()->set_advertised_listener_name(client_.options().listener_name);
      const auto answer =
          co_await (*connection)->request(ask, request_id, client_.options().operation_timeout);
      if (!answer) co_return answer.error();
      const auto& found = answer->lookuptopicresponse();
      const auto& text = tls ? found.brokerserviceurltls() : found.brokerserviceurl();
      if (text.empty())
        co_return Error(Code::unavailable, fmt::format("the broker of {} has no address {} TLS",
                                                       topic, tls ? "under" : "without"));
      const auto url = ServiceUrl::parse(text);
      if (!url) co_return url.error();
      Address address = url->addresses.front();
      if (found.response() == pb::CommandLookupTopicResponse::Connect) {
        if (!found.proxy_through_service_url()) co_return Place{std::move(address), ""};
        const Address& service = (*connection)->address();
        const std::string target = address == service ? "" : address.text();
        co_return Place{service, target};
      }
      authoritative = found.authoritative();
      connection = co_await client_.connection_to(std::move(address), "");
      if (!connection) co_return connection.error();
    }
    co_return Error(Code::unavailable, fmt::format("more than {} redirects", kRedirectsMax));
  }

  aio::Task<Result<unsigned>> partitions(std::string topic) override {
    const auto connection = co_await client_.service_connection();
    if (!connection) co_return connection.error();
    const uint64_t request_id = client_.next_id();
    pb::BaseCommand ask;
    ask.set_type(pb::BaseCommand::PARTITIONED_METADATA);
    ask.mutable_partitionmetadata()->set_topic(topic);
    ask.mutable_partitionmetadata()->set_request_id(request_id);
    const auto answer =
        co_await (*connection)->request(ask, request_id, client_.options().operation_timeout);
    if (!answer) co_return answer.error();
    co_return answer->partitionmetadataresponse().partitions();
  }

  aio::Task<Result<TopicList>> topics(std::string name_space, std::string hash) override {
    const auto connection = co_await client_.service_connection();
    if (!connection) co_return connection.error();
    const uint64_t request_id = client_.next_id();
    pb::BaseCommand ask;
    ask.set_type(pb::BaseCommand::GET_TOPICS_OF_NAMESPACE);
    auto* topics = ask.mutable_gettopicsofnamespace();
    topics->set_request_id(request_id);
    topics->set_namespace_(name_space);
    topics->set_mode(pb::CommandGetTopicsOfNamespace::PERSISTENT);
    if (!hash.empty()) topics->set_topics_hash(hash);
    const auto answer =
        co_await (*connection)->request(ask, request_id, client_.options().operation_timeout);
    if (!answer) co_return answer.error();
    const auto& given = answer->gettopicsofnamespaceresponse();
    TopicList list;
    list.names.assign(given.topics().begin(), given.topics().end());
    list.hash = given.topics_hash();
    list.changed = given.changed();
    co_return list;
  }

 private:
  Client& client_;
};

}  // namespace

std::unique_ptr<Lookup> make_binary_lookup(Client& client) {
  return std::make_unique<BinaryLookup>(client);
}

}  // namespace hulse::client

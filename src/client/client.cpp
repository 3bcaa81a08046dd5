#include "client/client.h"

#include "aio/backoff.h"
#include "base/text.h"
#include "wire/topic_name.h"

namespace hulse::client {
namespace {

constexpr unsigned kRedirectsMax = 20;
constexpr aio::BackoffPolicy kCreateBackoff{std::chrono::milliseconds(100),
                                            std::chrono::seconds(5)};

}  // namespace

Result<Client::Address> Client::parse_address(std::string_view text) {
  constexpr std::string_view kScheme = "pulsar://";
  if (text.starts_with(kScheme)) text.remove_prefix(kScheme.size());
  while (!text.empty() && text.back() == '/') text.remove_suffix(1);
  const size_t colon = text.rfind(':');
  const size_t bracket = text.rfind(']');
  Address address;
  if (colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket)) {
    address.host = text.substr(0, colon);
    address.port = text.substr(colon + 1);
  } else {
    address.host = text;
    address.port = "6650";
  }
  if (address.host.starts_with('[') && address.host.ends_with(']')) {
    address.host = address.host.substr(1, address.host.size() - 2);
  }
  const bool number = !address.port.empty() && address.port.size() <= 5 &&
                      address.port.find_first_not_of("0123456789") == std::string::npos;
  if (address.host.empty() || !number || address.host.find("//") != std::string::npos) {
    return Error(Code::invalid, fmt::format("\"{}\" is not host:port", text));
  }
  return address;
}

Result<std::unique_ptr<Client>> Client::make(aio::Executor executor, Options options) {
  const auto refuse = [&](std::string_view why) {
    return Error(Code::invalid,
                 fmt::format("broker service URL \"{}\": {}", options.service_url, why));
  };
  std::string_view url = options.service_url;
  if (url.starts_with("pulsar+ssl://")) return refuse("TLS is not supported yet; use pulsar://");
  if (url.starts_with("http://") || url.starts_with("https://")) {
    return refuse("use the broker's binary address, pulsar://host:6650");
  }
  if (!url.starts_with("pulsar://")) return refuse("it does not begin with pulsar://");
  url.remove_prefix(std::string_view("pulsar://").size());
  std::vector<Address> addresses;
  for (const auto part : split(url, ',')) {
    auto address = parse_address(part);
    if (!address) return refuse(address.error().text());
    addresses.push_back(std::move(*address));
  }
  return std::unique_ptr<Client>(new Client(executor, std::move(options), std::move(addresses)));
}

Client::Client(aio::Executor executor, Options options, std::vector<Address> addresses)
    : executor_(executor),
      options_(std::move(options)),
      addresses_(std::move(addresses)),
      gate_(executor) {}

Client::~Client() = default;

aio::Task<void> Client::stop() { co_await gate_.close(); }

aio::Task<Result<std::shared_ptr<Connection>>> Client::connection_to(Address address) {
  const std::string key = address.text();
  for (;;) {
    const auto known = connections_.find(key);
    if (known != connections_.end() && !known->second->closed()) co_return known->second;
    // Whoever comes while one is being opened waits for that one.
    const auto opening = opening_.find(key);
    if (opening == opening_.end()) break;
    const auto event = opening->second;
    const bool woken = co_await event->wait();
    if (!woken) co_return Error(Code::cancelled, "stopped");
  }
  if (gate_.closing()) co_return Error(Code::cancelled, "stopped");
  const auto event = std::make_shared<aio::Event>(executor_);
  opening_[key] = event;
  auto connection = std::make_shared<Connection>(executor_);
  const auto opened =
      co_await connection->open(address.host, address.port, options_.connect_timeout);
  opening_.erase(key);
  if (opened) {
    connections_[key] = connection;
    gate_.spawn("connection to " + key, connection->run());
  }
  event->notify();
  if (!opened) co_return opened.error();
  co_return connection;
}

aio::Task<Result<std::shared_ptr<Connection>>> Client::any_connection() {
  std::optional<Error> last;
  for (size_t tries = 0; tries < addresses_.size(); ++tries) {
    const Address address = addresses_[next_address_ % addresses_.size()];
    auto connection = co_await connection_to(address);
    if (connection) co_return connection;
    last = connection.error();
    if (last->cancelled()) break;
    ++next_address_;
  }
  co_return *last;
}

aio::Task<Result<void>> Client::connect() {
  const auto connection = co_await any_connection();
  if (!connection) co_return connection.error();
  co_return Result<void>();
}

aio::Task<Result<std::shared_ptr<Connection>>> Client::connection_for(std::string topic) {
  auto connection = co_await any_connection();
  if (!connection) co_return connection.error();
  bool authoritative = false;
  for (unsigned redirects = 0; redirects < kRedirectsMax; ++redirects) {
    const uint64_t request_id = next_id();
    pb::BaseCommand ask;
    ask.set_type(pb::BaseCommand::LOOKUP);
    ask.mutable_lookuptopic()->set_topic(topic);
    ask.mutable_lookuptopic()->set_request_id(request_id);
    ask.mutable_lookuptopic()->set_authoritative(authoritative);
    const auto answer =
        co_await (*connection)->request(ask, request_id, options_.operation_timeout);
    if (!answer) co_return answer.error().with("looking up " + topic);
    const auto& found = answer->lookuptopicresponse();
    const bool connect = found.response() == pb::CommandLookupTopicResponse::Connect;
    if (connect && found.proxy_through_service_url()) co_return connection;
    auto address = parse_address(found.brokerserviceurl());
    if (!address) co_return address.error().with("looking up " + topic);
    authoritative = found.authoritative();
    connection = co_await connection_to(std::move(*address));
    if (!connection) co_return connection.error().with("looking up " + topic);
    if (connect) co_return connection;
  }
  co_return Error(Code::unavailable,
                  fmt::format("looking up {}: more than {} redirects", topic, kRedirectsMax));
}

aio::Task<Result<unsigned>> Client::partitions(std::string topic) {
  const auto name = wire::TopicName::parse(topic);
  if (!name) co_return name.error();
  const std::string full = name->text();
  aio::Backoff backoff(kCreateBackoff);
  const auto deadline = aio::Clock::now() + options_.operation_timeout;
  for (;;) {
    auto connection = co_await any_connection();
    Result<pb::BaseCommand> answer = connection ? Result<pb::BaseCommand>(pb::BaseCommand())
                                                : Result<pb::BaseCommand>(connection.error());
    if (connection) {
      const uint64_t request_id = next_id();
      pb::BaseCommand ask;
      ask.set_type(pb::BaseCommand::PARTITIONED_METADATA);
      ask.mutable_partitionmetadata()->set_topic(full);
      ask.mutable_partitionmetadata()->set_request_id(request_id);
      answer = co_await (*connection)->request(ask, request_id, options_.operation_timeout);
    }
    if (answer) co_return answer->partitionmetadataresponse().partitions();
    if (!can_pass(answer.error()) || aio::Clock::now() >= deadline)
      co_return answer.error().with(full);
    const auto wait = backoff.next();
    const bool slept = co_await aio::sleep(wait);
    if (!slept) co_return Error(Code::cancelled, "stopped");
  }
}

aio::Task<Result<std::shared_ptr<Producer>>> Client::create_producer(ProducerOptions options) {
  const auto name = wire::TopicName::parse(options.topic);
  if (!name) co_return name.error();
  options.topic = name->text();
  auto producer = std::make_shared<Producer>(*this, std::move(options));
  const auto opened = co_await producer->open();
  if (!opened) co_return opened.error();
  co_return producer;
}

aio::Task<Result<std::shared_ptr<TopicProducer>>> Client::create_topic_producer(
    ProducerOptions options) {
  const auto name = wire::TopicName::parse(options.topic);
  if (!name) co_return name.error();
  const auto count = co_await partitions(options.topic);
  if (!count) co_return count.error();
  std::vector<std::shared_ptr<Producer>> made;
  std::optional<Error> failed;
  for (unsigned i = 0; i < std::max(1u, *count) && !failed; ++i) {
    if (*count > 0) options.topic = name->partition_of(static_cast<int>(i)).text();
    auto producer = co_await create_producer(options);
    if (producer) {
      made.push_back(std::move(*producer));
    } else {
      failed = producer.error();
    }
  }
  if (failed) {
    for (const auto& producer : made) co_await producer->close();
    co_return *failed;
  }
  co_return std::make_shared<TopicProducer>(name->text(), std::move(made));
}

aio::Task<Result<std::shared_ptr<Consumer>>> Client::subscribe(ConsumerOptions options) {
  const auto name = wire::TopicName::parse(options.topic);
  if (!name) co_return name.error();
  options.topic = name->text();
  auto consumer = std::make_shared<Consumer>(*this, std::move(options));
  const auto opened = co_await consumer->open();
  if (!opened) co_return opened.error();
  co_return consumer;
}

}  // namespace hulse::client

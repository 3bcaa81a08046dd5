#include "client/client.h"

#include "aio/backoff.h"
#include "wire/topic_name.h"

namespace hulse::client {
namespace {

constexpr aio::BackoffPolicy kBackoff{std::chrono::milliseconds(100), std::chrono::seconds(5)};
constexpr size_t kSchemasMax = 10'000;

}  // namespace

Result<std::unique_ptr<Client>> Client::make(aio::Executor executor, Options options) {
  auto url = ServiceUrl::parse(options.service_url);
  if (!url) return url.error();
  return std::unique_ptr<Client>(new Client(executor, std::move(options), std::move(*url)));
}

Client::Client(aio::Executor executor, Options options, ServiceUrl service_url)
    : executor_(executor),
      options_(std::move(options)),
      service_url_(std::move(service_url)),
      memory_given_(executor),
      gate_(executor) {
  lookup_ = service_url_.http ? make_http_lookup(*this) : make_binary_lookup(*this);
}

Client::~Client() = default;

aio::Task<void> Client::stop() {
  lookup_->close();
  co_await gate_.close();
}

void Client::give_memory(size_t bytes) {
  memory_bytes_ -= std::min(memory_bytes_, bytes);
  if (has_memory()) memory_given_.notify();
}

// ---- connections

aio::Task<Result<std::shared_ptr<Connection>>> Client::connection_to(Address address,
                                                                     std::string target) {
  const std::string key = target + "|" + address.text();
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
  auto connection = std::make_shared<Connection>(executor_, options_.security);
  const std::string where = address.text();
  const auto opened =
      co_await connection->open(std::move(address), std::move(target), options_.connect_timeout);
  opening_.erase(key);
  if (opened) {
    connections_[key] = connection;
    gate_.spawn("connection to " + where, connection->run());
  }
  event->notify();
  if (!opened) co_return opened.error();
  co_return connection;
}

aio::Task<Result<std::shared_ptr<Connection>>> Client::service_connection() {
  std::optional<Error> last;
  for (size_t tries = 0; tries < service_url_.addresses.size(); ++tries) {
    Address address = service_url_.addresses[next_address_ % service_url_.addresses.size()];
    auto connection = co_await connection_to(std::move(address), "");
    if (connection) co_return connection;
    last = connection.error();
    if (last->cancelled()) break;
    ++next_address_;
  }
  co_return *last;
}

aio::Task<Result<void>> Client::connect() {
  if (service_url_.http) {
    const auto asked = co_await lookup_->topics("public/default", "");
    if (!asked && asked.error().code() != Code::not_found) co_return asked.error();
    co_return Result<void>();
  }
  const auto connection = co_await service_connection();
  if (!connection) co_return connection.error();
  co_return Result<void>();
}

aio::Task<Result<std::shared_ptr<Connection>>> Client::connection_for(std::string topic) {
  auto place = co_await lookup_->find(topic);
  if (!place) co_return place.error().with("looking up " + topic);
  auto connection = co_await connection_to(std::move(place->address), std::move(place->target));
  if (!connection) co_return connection.error().with("looking up " + topic);
  co_return connection;
}

// ---- questions

template <class T>
aio::Task<Result<T>> Client::persist(std::string what, Attempt<T> attempt) {
  aio::Backoff backoff(kBackoff);
  const auto deadline = aio::Clock::now() + options_.operation_timeout;
  for (;;) {
    auto answer = co_await attempt();
    if (answer) co_return answer;
    if (!can_pass(answer.error()) || aio::Clock::now() >= deadline)
      co_return answer.error().with(what);
    const auto wait = backoff.next();
    const bool slept = co_await aio::sleep(wait);
    if (!slept) co_return Error(Code::cancelled, "stopped");
  }
}

aio::Task<Result<unsigned>> Client::partitions(std::string topic) {
  const auto name = wire::TopicName::parse(topic);
  if (!name) co_return name.error();
  const std::string full = name->text();
  Attempt<unsigned> attempt = [&] { return lookup_->partitions(full); };
  co_return co_await persist<unsigned>(full, std::move(attempt));
}

aio::Task<Result<TopicList>> Client::topics(std::string name_space, std::string hash) {
  Attempt<TopicList> attempt = [&] { return lookup_->topics(name_space, hash); };
  co_return co_await persist<TopicList>("asking for the topics of " + name_space,
                                        std::move(attempt));
}

aio::Task<Result<pb::BaseCommand>> Client::ask_broker(std::string topic, pb::BaseCommand command,
                                                      uint64_t request_id) {
  const auto connection = co_await connection_for(std::move(topic));
  if (!connection) co_return connection.error();
  co_return co_await (*connection)
      ->request(std::move(command), request_id, options_.operation_timeout);
}

aio::Task<Result<KnownSchema>> Client::schema(std::string topic, std::string version) {
  const auto name = wire::TopicName::parse(topic);
  if (!name) co_return name.error();
  const std::string base = name->base().text();
  const auto known = schemas_.find({base, version});
  if (!version.empty() && known != schemas_.end()) co_return known->second;
  Attempt<pb::BaseCommand> attempt = [&] {
    const uint64_t request_id = next_id();
    pb::BaseCommand ask;
    ask.set_type(pb::BaseCommand::GET_SCHEMA);
    ask.mutable_getschema()->set_request_id(request_id);
    ask.mutable_getschema()->set_topic(base);
    if (!version.empty()) ask.mutable_getschema()->set_schema_version(version);
    return ask_broker(base, std::move(ask), request_id);
  };
  const auto answer =
      co_await persist<pb::BaseCommand>("asking for the schema of " + base, std::move(attempt));
  if (!answer) co_return answer.error();
  const auto& given = answer->getschemaresponse();
  KnownSchema found{given.schema(), version.empty() ? given.schema_version() : version};
  if (schemas_.size() >= kSchemasMax) schemas_.clear();
  schemas_[{base, found.version}] = found;
  co_return found;
}

aio::Task<Result<std::string>> Client::register_schema(std::string topic, pb::Schema schema) {
  const auto name = wire::TopicName::parse(topic);
  if (!name) co_return name.error();
  const std::string base = name->base().text();
  Attempt<pb::BaseCommand> attempt = [&] {
    const uint64_t request_id = next_id();
    pb::BaseCommand ask;
    ask.set_type(pb::BaseCommand::GET_OR_CREATE_SCHEMA);
    ask.mutable_getorcreateschema()->set_request_id(request_id);
    ask.mutable_getorcreateschema()->set_topic(base);
    *ask.mutable_getorcreateschema()->mutable_schema() = schema;
    return ask_broker(base, std::move(ask), request_id);
  };
  const auto answer =
      co_await persist<pb::BaseCommand>("giving " + base + " a schema", std::move(attempt));
  if (!answer) co_return answer.error();
  co_return answer->getorcreateschemaresponse().schema_version();
}

// ---- producers and consumers

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
  options.topic = name->text();
  auto producer = std::make_shared<TopicProducer>(*this, std::move(options));
  const auto opened = co_await producer->open();
  if (!opened) co_return opened.error();
  co_return producer;
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

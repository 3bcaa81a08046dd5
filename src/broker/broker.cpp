#include "broker/broker.h"

#include <boost/asio/ip/address.hpp>
#include <charconv>

#include "aio/offload.h"
#include "base/log.h"
#include "broker/session.h"
#include "broker/subscription.h"

namespace hulse::broker {
namespace {

constexpr std::string_view kPart = "broker";
constexpr int kListenBacklog = 1024;

// The namespaces a new broker has. More can be made when the admin interface comes.
constexpr std::string_view kNamespaces[] = {"public/default", "public/functions", "pulsar/system"};

}  // namespace

Broker::Broker(Options options, storage::Store& store, aio::Executor executor, aio::Executor disk)
    : options_(std::move(options)), shared_{store, executor, disk}, gate_(executor) {}

Broker::~Broker() = default;

Result<void> Broker::load() {
  const auto number = [](const std::string& text) {
    uint64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
  };
  const auto ledger = shared_.store.get("broker/next_ledger");
  if (!ledger) return ledger.error();
  shared_.next_ledger = *ledger ? number(**ledger) : 1;
  boot_ = shared_.next_ledger;
  const auto topics = shared_.store.scan("topic/");
  if (!topics) return topics.error();
  for (const auto& [key, value] : *topics) {
    auto record = TopicRecord::decode(value);
    if (!record) return record.error().with(key);
    next_topic_ = std::max(next_topic_, record->id + 1);
    records_[key.substr(std::string_view("topic/").size())] = std::move(*record);
  }
  const auto cursors = shared_.store.scan("cursor/");
  if (!cursors) return cursors.error();
  for (const auto& [key, value] : *cursors) {
    const std::string_view rest = std::string_view(key).substr(std::string_view("cursor/").size());
    uint64_t id = 0;
    const auto [end, failed] = std::from_chars(rest.data(), rest.data() + 16, id, 16);
    if (rest.size() < 18 || failed != std::errc() || end != rest.data() + 16) {
      return Error(Code::corrupt, "a stored cursor has the key " + key);
    }
    cursors_[id].emplace_back(rest.substr(17), value);
  }
  return {};
}

aio::Task<Result<void>> Broker::start() {
  const auto loaded = co_await aio::offload(shared_.disk, [this] { return load(); });
  if (!loaded) co_return loaded.error();
  const std::string where = fmt::format("{}:{}", options_.host, options_.port);
  boost::system::error_code error;
  const auto address = aio::asio::ip::make_address(
      options_.host == "localhost" ? "127.0.0.1" : options_.host, error);
  if (error) {
    co_return Error(Code::invalid,
                    fmt::format("\"{}\" is not an address to listen on", options_.host));
  }
  const aio::Endpoint endpoint(address, options_.port);
  auto acceptor = std::make_unique<aio::Acceptor>(shared_.executor);
  acceptor->open(endpoint.protocol(), error);
  if (!error) acceptor->set_option(aio::Acceptor::reuse_address(true), error);
  if (!error) acceptor->bind(endpoint, error);
  if (!error) acceptor->listen(kListenBacklog, error);
  if (error == boost::system::errc::address_in_use) {
    co_return Error(Code::busy,
                    fmt::format("port {} of {} is taken by another program; stop it or choose "
                                "another one with --broker-port",
                                options_.port, options_.host));
  }
  if (error) co_return aio::to_error(error).with("listening on " + where);
  port_ = acceptor->local_endpoint().port();
  acceptor_ = std::move(acceptor);
  gate_.spawn("accept", accept());
  co_return Result<void>();
}

aio::Task<void> Broker::accept() {
  for (;;) {
    aio::Socket socket(shared_.executor);
    const auto [error] = co_await acceptor_->async_accept(socket, aio::as_values);
    if (error == aio::asio::error::operation_aborted) co_return;
    if (error) {
      // Out of descriptors, for one: what is there goes on, and new ones get in when it is over.
      log::warn(kPart, "cannot accept a connection: {}", error.message());
      const bool slept = co_await aio::sleep(std::chrono::milliseconds(100));
      if (!slept) co_return;
      continue;
    }
    boost::system::error_code ignored;
    socket.set_option(aio::asio::ip::tcp::no_delay(true), ignored);
    const auto peer = socket.remote_endpoint(ignored);
    auto session = std::make_shared<Session>(*this, std::move(socket), aio::to_string(peer));
    gate_.spawn("connection of " + session->address(), session->run());
  }
}

aio::Task<void> Broker::stop() {
  if (acceptor_) {
    boost::system::error_code ignored;
    acceptor_->close(ignored);
  }
  const auto topics = std::move(topics_);
  topics_.clear();
  for (const auto& [name, topic] : topics) co_await topic->stop();
  co_await gate_.close();
  // What topics asked of the store may ask for one more write; completions keep topics alive, which
  // must not outlive what they share.
  co_await settle();
  co_await settle();
}

// Until everything asked of the store so far has been answered here: answers keep the order of
// requests.
aio::Task<void> Broker::settle() {
  aio::Event answered(shared_.executor);
  bool done = false;
  shared_.store.change({}, shared_.executor, [&](const Result<void>&) {
    done = true;
    answered.notify();
  });
  while (!done) co_await answered.wait_uncancelled();
}

std::string Broker::service_url() const {
  return fmt::format("pulsar://{}:{}", options_.host, port_);
}

std::optional<Topic::Refusal> Broker::refuse(const wire::TopicName& name) const {
  if (!name.persistent()) {
    return Topic::Refusal{pb::NotAllowedError,
                          "non-persistent topics are not supported by this broker: " + name.text()};
  }
  const auto name_space = name.namespace_text();
  if (std::find(std::begin(kNamespaces), std::end(kNamespaces), name_space) ==
      std::end(kNamespaces)) {
    return Topic::Refusal{pb::TopicNotFound, fmt::format("Namespace not found: {}", name_space)};
  }
  return std::nullopt;
}

Broker::Found Broker::topic(const std::string& text, bool create) {
  const auto name = wire::TopicName::parse(text);
  if (!name) return {nullptr, Topic::Refusal{pb::InvalidTopicName, name.error().text()}};
  if (const auto refusal = refuse(*name)) return {nullptr, refusal};
  const std::string full = name->text();
  const auto loaded = topics_.find(full);
  if (loaded != topics_.end()) return {loaded->second, std::nullopt};
  auto known = records_.find(full);
  if (known == records_.end()) {
    if (!create)
      return {nullptr, Topic::Refusal{pb::TopicNotFound, "Topic does not exist: " + full}};
    known = records_.emplace(full, TopicRecord{next_topic_++, {}}).first;
  }
  auto topic = std::make_shared<Topic>(shared_, *name, known->second);
  topic->open();
  for (const auto& [subscription, bytes] : cursors_[known->second.id]) {
    auto cursor = Cursor::decode(bytes);
    if (!cursor) {
      log::error(kPart, "{}, subscription {}: {}", full, subscription, cursor.error().text());
      return {nullptr, Topic::Refusal{pb::PersistenceError,
                                      fmt::format("{}, subscription {}: {}", full, subscription,
                                                  cursor.error().text())}};
    }
    topic->restore(subscription, std::move(*cursor));
  }
  cursors_.erase(known->second.id);
  topic->trim();
  topics_[full] = topic;
  return {topic, std::nullopt};
}

int Broker::partitions(const wire::TopicName&) const { return 0; }

std::vector<std::string> Broker::topics(const std::string& name_space) const {
  const std::string prefix = "persistent://" + name_space + "/";
  std::vector<std::string> out;
  for (auto at = records_.lower_bound(prefix);
       at != records_.end() && at->first.starts_with(prefix); ++at) {
    // Names that begin with two underscores are the system's own.
    if (!std::string_view(at->first).substr(prefix.size()).starts_with("__"))
      out.push_back(at->first);
  }
  return out;
}

std::string Broker::next_producer_name() {
  return fmt::format("standalone-{}-{}", boot_, producers_named_++);
}

}  // namespace hulse::broker

#include "broker/session.h"

#include "base/log.h"
#include "broker/subscription.h"

namespace hulse::broker {
namespace {

constexpr std::string_view kPart = "broker";
constexpr auto kKeepAlive = std::chrono::seconds(30);
// Above what consumers may have waiting, one large message included: then answers are the cause.
constexpr size_t kUnwrittenTimes = 4;
constexpr uint64_t kNoRequest = UINT64_MAX;  // request id -1: the broker speaks on its own

}  // namespace

Session::Session(Broker& broker, aio::Socket socket, std::string address)
    : broker_(broker),
      stream_(std::move(socket)),
      address_(std::move(address)),
      gate_(broker.shared().executor),
      reader_(stream_, broker.options().message_bytes_max + wire::kFrameOverheadMax),
      writer_(stream_, broker.shared().executor),
      synced_(broker.shared().executor) {}

Session::~Session() = default;

aio::Task<void> Session::run() {
  const auto self = shared_from_this();
  gate_.spawn("writer", write());
  gate_.spawn("refill", refill());
  gate_.spawn("keep-alive", keep_alive());
  const auto ended = co_await read();
  if (!ended && ended.error().code() != Code::cancelled) {
    log::debug(kPart, "connection of {} ended: {}", address_, ended.error().text());
    if (ended.error().code() != Code::unavailable) {
      log::warn(kPart, "closed the connection of {} ({}): {}", address_, client_version_,
                ended.error().text());
    }
  }
  let_go();
  co_await gate_.close();
}

void Session::let_go() {
  ended_ = true;
  stream_.close();
  const auto producers = std::move(producers_);
  producers_.clear();
  for (const auto& [id, producer] : producers) producer->topic->remove_producer(producer);
  const auto consumers = std::move(consumers_);
  consumers_.clear();
  for (const auto& [id, consumer] : consumers) consumer->subscription->remove(consumer);
}

aio::Task<Result<void>> Session::read() {
  for (;;) {
    const auto bytes = co_await reader_.next();
    if (!bytes) co_return bytes.error();
    heard_ = true;
    auto frame = wire::parse_frame(*bytes);
    if (!frame) co_return frame.error();
    const auto handled = handle(std::move(*frame));
    if (!handled) co_return handled.error();
    // Who does not read its answers is not listened to: they would pile up here.
    while (writer_.queued_bytes() > kUnwrittenTimes * broker_.options().unwritten_bytes_max) {
      const bool woken = co_await writer_.drained().wait();
      if (!woken) co_return Error(Code::cancelled, "stopped");
    }
    while (unsynced_bytes_ > broker_.options().unsynced_bytes_max) {
      const bool woken = co_await synced_.wait();
      if (!woken) co_return Error(Code::cancelled, "stopped");
    }
  }
}

aio::Task<void> Session::write() {
  const auto ended = co_await writer_.run();
  if (!ended && ended.error().code() != Code::cancelled) {
    stream_.close();  // ends the reader
  }
}

// Hands on messages that waited for room on this connection.
aio::Task<void> Session::refill() {
  for (;;) {
    const bool woken = co_await writer_.drained().wait();
    if (!woken) co_return;
    if (!writable()) continue;
    const auto consumers = consumers_;
    for (const auto& [id, consumer] : consumers) consumer->subscription->dispatch();
  }
}

aio::Task<void> Session::keep_alive() {
  for (;;) {
    const bool slept = co_await aio::sleep(kKeepAlive);
    if (!slept) co_return;
    closed_producers_.clear();
    if (!heard_ || !connected_) {
      log::info(kPart, "closing the connection of {}: {}", address_,
                connected_ ? "nothing was heard of it, not even the answer to a ping"
                           : "it did not say CONNECT");
      stream_.close();
      co_return;
    }
    heard_ = false;
    pb::BaseCommand ping;
    ping.set_type(pb::BaseCommand::PING);
    ping.mutable_ping();
    send(ping);
  }
}

// ---- what topics call

void Session::send(const pb::BaseCommand& command) {
  if (!ended_) writer_.send(wire::encode_frame(command));
}
void Session::send(const pb::BaseCommand& command, const Bytes& entry) {
  if (!ended_) writer_.send(wire::encode_frame_head(command, entry.size()), entry);
}
bool Session::writable() const {
  return !ended_ && writer_.queued_bytes() < broker_.options().unwritten_bytes_max;
}
void Session::published(size_t bytes) {
  unsynced_bytes_ -= bytes;
  if (unsynced_bytes_ <= broker_.options().unsynced_bytes_max / 2) synced_.notify();
}
void Session::error(uint64_t request_id, pb::ServerError code, const std::string& message) {
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::ERROR);
  command.mutable_error()->set_request_id(request_id);
  command.mutable_error()->set_error(code);
  command.mutable_error()->set_message(message);
  send(command);
}
void Session::success(uint64_t request_id) {
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::SUCCESS);
  command.mutable_success()->set_request_id(request_id);
  send(command);
}
void Session::drop_consumer(uint64_t consumer_id) {
  const auto known = consumer(consumer_id);
  if (!known) return;
  consumers_.erase(consumer_id);
  known->subscription->remove(known);
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::CLOSE_CONSUMER);
  command.mutable_close_consumer()->set_consumer_id(consumer_id);
  command.mutable_close_consumer()->set_request_id(kNoRequest);
  send(command);
}
void Session::drop_producer(uint64_t producer_id) {
  if (producers_.erase(producer_id) == 0) return;
  closed_producers_.insert(producer_id);
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::CLOSE_PRODUCER);
  command.mutable_close_producer()->set_producer_id(producer_id);
  command.mutable_close_producer()->set_request_id(kNoRequest);
  send(command);
}

void Session::forget_producer(uint64_t producer_id) { producers_.erase(producer_id); }

std::shared_ptr<Consumer> Session::consumer(uint64_t id) const {
  const auto known = consumers_.find(id);
  return known == consumers_.end() ? nullptr : known->second;
}

// ---- commands

Result<void> Session::handle(wire::Frame frame) {
  const auto& command = frame.command;
  if (!connected_ && command.type() != pb::BaseCommand::CONNECT &&
      command.type() != pb::BaseCommand::PING && command.type() != pb::BaseCommand::PONG) {
    return Error(Code::invalid,
                 fmt::format("{} before CONNECT", pb::BaseCommand::Type_Name(command.type())));
  }
  switch (command.type()) {
    case pb::BaseCommand::CONNECT: return on_connect(command.connect());
    case pb::BaseCommand::PING: {
      pb::BaseCommand pong;
      pong.set_type(pb::BaseCommand::PONG);
      pong.mutable_pong();
      send(pong);
      return {};
    }
    case pb::BaseCommand::PONG: return {};
    case pb::BaseCommand::PARTITIONED_METADATA:
      on_partitions(command.partitionmetadata());
      return {};
    case pb::BaseCommand::LOOKUP: on_lookup(command.lookuptopic()); return {};
    case pb::BaseCommand::PRODUCER: on_producer(command.producer()); return {};
    case pb::BaseCommand::SEND: return on_send(command.send(), std::move(frame.entry));
    case pb::BaseCommand::CLOSE_PRODUCER: {
      const uint64_t id = command.close_producer().producer_id();
      const auto known = producers_.find(id);
      if (known != producers_.end()) {
        known->second->topic->remove_producer(known->second);
        producers_.erase(known);
        closed_producers_.insert(id);
      }
      success(command.close_producer().request_id());
      return {};
    }
    case pb::BaseCommand::SUBSCRIBE: on_subscribe(command.subscribe()); return {};
    case pb::BaseCommand::FLOW: {
      const auto known = consumer(command.flow().consumer_id());
      if (known) known->subscription->flow(known, command.flow().messagepermits());
      return {};
    }
    case pb::BaseCommand::ACK: on_ack(command.ack()); return {};
    case pb::BaseCommand::REDELIVER_UNACKNOWLEDGED_MESSAGES: {
      const auto& redeliver = command.redeliverunacknowledgedmessages();
      const auto known = consumer(redeliver.consumer_id());
      if (known) known->subscription->redeliver(known, redeliver);
      return {};
    }
    case pb::BaseCommand::CLOSE_CONSUMER: {
      const auto known = consumer(command.close_consumer().consumer_id());
      if (known) {
        consumers_.erase(known->id);
        known->subscription->remove(known);
      }
      success(command.close_consumer().request_id());
      return {};
    }
    case pb::BaseCommand::UNSUBSCRIBE: on_unsubscribe(command.unsubscribe()); return {};
    case pb::BaseCommand::SEEK: on_seek(command.seek()); return {};
    case pb::BaseCommand::GET_LAST_MESSAGE_ID: {
      const auto& ask = command.getlastmessageid();
      const auto known = consumer(ask.consumer_id());
      if (known) {
        gate_.spawn("last message id", last_message_id(known, ask.request_id()));
      } else {
        error(ask.request_id(), pb::MetadataError, "Consumer not found");
      }
      return {};
    }
    case pb::BaseCommand::CONSUMER_STATS: on_consumer_stats(command.consumerstats()); return {};
    case pb::BaseCommand::GET_TOPICS_OF_NAMESPACE:
      on_topics(command.gettopicsofnamespace());
      return {};
    case pb::BaseCommand::GET_SCHEMA: on_get_schema(command.getschema()); return {};
    case pb::BaseCommand::GET_OR_CREATE_SCHEMA:
      gate_.spawn("schema of a message", get_or_create_schema(command.getorcreateschema()));
      return {};
    case pb::BaseCommand::TC_CLIENT_CONNECT_REQUEST:
      error(command.tcclientconnectrequest().request_id(), pb::NotAllowedError,
            "Transactions are not enabled.");
      return {};
    case pb::BaseCommand::NEW_TXN:
      error(command.newtxn().request_id(), pb::NotAllowedError, "Transactions are not enabled.");
      return {};
    case pb::BaseCommand::WATCH_TOPIC_LIST:
      error(command.watchtopiclist().request_id(), pb::NotAllowedError,
            "Topic watchers are not enabled.");
      return {};
    default:
      return Error(Code::invalid, fmt::format("unexpected command {}",
                                              pb::BaseCommand::Type_Name(command.type())));
  }
}

Result<void> Session::on_connect(const pb::CommandConnect& command) {
  if (connected_) return Error(Code::invalid, "a second CONNECT");
  connected_ = true;
  client_version_ = command.client_version();
  pb::BaseCommand answer;
  answer.set_type(pb::BaseCommand::CONNECTED);
  auto* connected = answer.mutable_connected();
  connected->set_server_version(std::string(kServerVersion));
  connected->set_protocol_version(std::min(wire::kProtocolVersion, command.protocol_version()));
  connected->set_max_message_size(static_cast<int>(broker_.options().message_bytes_max));
  connected->mutable_feature_flags()->set_supports_get_partitioned_metadata_without_auto_creation(
      true);
  send(answer);
  return {};
}

void Session::on_partitions(const pb::CommandPartitionedTopicMetadata& command) {
  pb::BaseCommand answer;
  answer.set_type(pb::BaseCommand::PARTITIONED_METADATA_RESPONSE);
  auto* response = answer.mutable_partitionmetadataresponse();
  response->set_request_id(command.request_id());
  const auto name = wire::TopicName::parse(command.topic());
  const auto refusal = name ? broker_.refuse(*name) : std::nullopt;
  if (!name || refusal) {
    response->set_response(pb::CommandPartitionedTopicMetadataResponse::Failed);
    response->set_error(name ? refusal->code : pb::InvalidTopicName);
    response->set_message(name ? refusal->message : name.error().text());
  } else {
    response->set_response(pb::CommandPartitionedTopicMetadataResponse::Success);
    response->set_partitions(static_cast<uint32_t>(broker_.partitions(*name)));
  }
  send(answer);
}

void Session::on_lookup(const pb::CommandLookupTopic& command) {
  pb::BaseCommand answer;
  answer.set_type(pb::BaseCommand::LOOKUP_RESPONSE);
  auto* response = answer.mutable_lookuptopicresponse();
  response->set_request_id(command.request_id());
  const auto name = wire::TopicName::parse(command.topic());
  const auto refusal = name ? broker_.refuse(*name) : std::nullopt;
  if (!name || refusal) {
    response->set_response(pb::CommandLookupTopicResponse::Failed);
    response->set_error(name ? refusal->code : pb::InvalidTopicName);
    response->set_message(name ? refusal->message : name.error().text());
  } else {
    response->set_response(pb::CommandLookupTopicResponse::Connect);
    response->set_brokerserviceurl(broker_.service_url());
    response->set_authoritative(true);
    // There is one broker: whatever way the client came is the way to it.
    response->set_proxy_through_service_url(true);
  }
  send(answer);
}

void Session::on_topics(const pb::CommandGetTopicsOfNamespace& command) {
  pb::BaseCommand answer;
  answer.set_type(pb::BaseCommand::GET_TOPICS_OF_NAMESPACE_RESPONSE);
  auto* response = answer.mutable_gettopicsofnamespaceresponse();
  response->set_request_id(command.request_id());
  if (command.mode() != pb::CommandGetTopicsOfNamespace::NON_PERSISTENT) {
    for (auto& topic : broker_.topics(command.namespace_())) response->add_topics(std::move(topic));
  }
  send(answer);
}

}  // namespace hulse::broker

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
      socket_(std::move(socket)),
      address_(std::move(address)),
      gate_(broker.shared().executor),
      reader_(socket_, broker.options().message_bytes_max + wire::kFrameOverheadMax),
      writer_(socket_, broker.shared().executor),
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
  boost::system::error_code ignored;
  socket_.close(ignored);
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
    boost::system::error_code ignored;
    socket_.close(ignored);  // ends the reader
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
      boost::system::error_code ignored;
      socket_.close(ignored);
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

void Session::on_producer(const pb::CommandProducer& command) {
  const auto found = broker_.topic(command.topic(), true);
  if (found.refusal)
    return error(command.request_id(), found.refusal->code, found.refusal->message);
  if (command.has_schema() && is_kept(command.schema())) {
    gate_.spawn("schema of a producer", check_producer_schema(found.topic, command));
    return;
  }
  const auto base = found.topic->name().base().text();
  if (found.topic->policies().schema_validation && broker_.schemas().latest(base) != nullptr) {
    return error(
        command.request_id(), pb::IncompatibleSchema,
        "Producers cannot connect or send message without a schema to topics with a schema when "
        "SchemaValidationEnforced is enabled");
  }
  admit_producer(found.topic, command, "");
}

aio::Task<void> Session::check_producer_schema(std::shared_ptr<Topic> topic,
                                               pb::CommandProducer command) {
  const auto self = shared_from_this();
  const std::string base = topic->name().base().text();
  const auto policies = topic->policies();
  const auto version = co_await broker_.schemas().add(base, command.schema(), policies);
  if (ended_) co_return;
  if (!version) {
    error(command.request_id(),
          version.error().code() == Code::invalid ? pb::IncompatibleSchema : pb::PersistenceError,
          version.error().text());
    co_return;
  }
  admit_producer(topic, command, version_bytes(*version));
}

void Session::admit_producer(const std::shared_ptr<Topic>& topic,
                             const pb::CommandProducer& command,
                             const std::string& schema_version) {
  const uint64_t request_id = command.request_id();
  auto producer = std::make_shared<Producer>();
  producer->link = shared_from_this();
  producer->topic = topic;
  producer->id = command.producer_id();
  producer->name =
      command.producer_name().empty() ? broker_.next_producer_name() : command.producer_name();
  producer->epoch = command.epoch();
  producer->access = command.producer_access_mode();
  if (command.has_topic_epoch()) producer->topic_epoch = command.topic_epoch();
  producer->since = aio::wall_ms();
  for (const auto& pair : command.metadata()) producer->metadata[pair.key()] = pair.value();

  const auto tell = [self = shared_from_this(), producer, request_id, schema_version](bool ready) {
    pb::BaseCommand answer;
    answer.set_type(pb::BaseCommand::PRODUCER_SUCCESS);
    auto* success = answer.mutable_producer_success();
    success->set_request_id(request_id);
    success->set_producer_name(producer->name);
    success->set_last_sequence_id(producer->topic->last_sequence_id(producer->name));
    success->set_schema_version(schema_version);
    success->set_producer_ready(ready);
    if (ready && producer->topic_epoch) success->set_topic_epoch(*producer->topic_epoch);
    self->send(answer);
  };
  const auto admitted = [self = shared_from_this(), producer, request_id,
                         tell](const Result<void>& result) {
    if (result) return tell(true);
    producer->topic->remove_producer(producer);
    self->producers_.erase(producer->id);
    self->error(request_id,
                result.error().code() == Code::fenced ? pb::ProducerFenced : pb::PersistenceError,
                result.error().text());
  };
  const auto& initial = command.initial_subscription_name();
  // A subscription that was asked for is there before anything is sent.
  const auto ready = [topic, initial, admitted](const Result<void>& result) {
    if (!result || initial.empty()) return admitted(result);
    const auto known = topic->find(initial);
    if (known != nullptr) return topic->when_stored(known, admitted);
    topic->create(initial, true, topic->first_index(), admitted);
  };
  const auto before = producers_.find(producer->id);
  const auto previous = before == producers_.end() ? nullptr : before->second;
  bool waits = false;
  // Entered first: what admits it may call back at once.
  producers_[producer->id] = producer;
  closed_producers_.erase(producer->id);
  const auto refusal = topic->add_producer(producer, ready, waits);
  if (refusal) {
    if (previous) {
      producers_[producer->id] = previous;
    } else {
      producers_.erase(producer->id);
    }
    return error(request_id, refusal->code, refusal->message);
  }
  if (previous && (previous->topic != topic || previous->name != producer->name)) {
    previous->topic->remove_producer(previous);
  }
  if (waits) tell(false);
}

void Session::send_error(const pb::CommandSend& command, pb::ServerError code,
                         const std::string& message) {
  pb::BaseCommand answer;
  answer.set_type(pb::BaseCommand::SEND_ERROR);
  answer.mutable_send_error()->set_producer_id(command.producer_id());
  answer.mutable_send_error()->set_sequence_id(command.sequence_id());
  answer.mutable_send_error()->set_error(code);
  answer.mutable_send_error()->set_message(message);
  send(answer);
}

Result<void> Session::on_send(const pb::CommandSend& command, Bytes entry) {
  const auto known = producers_.find(command.producer_id());
  if (known == producers_.end()) {
    if (closed_producers_.contains(command.producer_id())) return {};
    return Error(Code::invalid,
                 fmt::format("SEND for the unknown producer {}", command.producer_id()));
  }
  // The limit is the payload's: clients cut a message into chunks that fill it, and metadata comes
  // on top.
  const auto metadata = wire::metadata_bytes(entry.view());
  const size_t payload =
      metadata ? static_cast<size_t>(entry.view().end() - metadata->end()) : entry.size();
  if (payload > broker_.options().message_bytes_max) {
    send_error(command, pb::NotAllowedError,
               fmt::format("the message has {} bytes, this broker takes {}", payload,
                           broker_.options().message_bytes_max));
    return {};
  }
  const auto intact = wire::verify_checksum(entry.view());
  if (!intact) {
    send_error(command, pb::ChecksumError, intact.error().text());
    return {};
  }
  if (command.has_txnid_most_bits()) {
    send_error(command, pb::NotAllowedError, "Transactions are not enabled.");
    return {};
  }
  unsynced_bytes_ += entry.size();
  known->second->topic->publish(known->second, command, std::move(entry));
  return {};
}

void Session::on_subscribe(const pb::CommandSubscribe& command) {
  const auto refuse = [&](pb::ServerError code, const std::string& message) {
    error(command.request_id(), code, message);
  };
  if (consumer(command.consumer_id())) return success(command.request_id());
  if (command.subscription().empty())
    return refuse(pb::MetadataError, "the subscription has no name");
  if (command.keysharedmeta().keysharedmode() == pb::STICKY && command.has_keysharedmeta()) {
    return refuse(pb::NotAllowedError, "sticky key ranges are not supported by this broker yet");
  }
  if (command.read_compacted()) {
    return refuse(pb::NotAllowedError,
                  "reading compacted topics is not supported by this broker yet");
  }
  const auto found = broker_.topic(command.topic(), command.force_topic_creation());
  if (found.refusal) return refuse(found.refusal->code, found.refusal->message);
  if (command.has_schema() && is_kept(command.schema())) {
    gate_.spawn("schema of a consumer", check_consumer_schema(found.topic, command));
    return;
  }
  find_position(found.topic, command);
}

aio::Task<void> Session::check_consumer_schema(std::shared_ptr<Topic> topic,
                                               pb::CommandSubscribe command) {
  const auto self = shared_from_this();
  const std::string base = topic->name().base().text();
  const auto policies = topic->policies();
  Result<void> ok =
      broker_.schemas().readable(base, command.schema(), policies.schema_compatibility);
  if (broker_.schemas().latest(base) == nullptr) {
    // The first one gives the topic its schema.
    const auto version = co_await broker_.schemas().add(base, command.schema(), policies);
    if (!version) ok = version.error();
  }
  if (ended_) co_return;
  if (!ok) {
    error(command.request_id(), pb::IncompatibleSchema, ok.error().text());
    co_return;
  }
  find_position(topic, command);
}

void Session::on_get_schema(const pb::CommandGetSchema& command) {
  pb::BaseCommand answer;
  answer.set_type(pb::BaseCommand::GET_SCHEMA_RESPONSE);
  auto* response = answer.mutable_getschemaresponse();
  response->set_request_id(command.request_id());
  const auto name = wire::TopicName::parse(command.topic());
  const auto refuse = [&](pb::ServerError code, const std::string& message) {
    response->set_error_code(code);
    response->set_error_message(message);
    send(answer);
  };
  if (!name) return refuse(pb::InvalidTopicName, name.error().text());
  const StoredSchema* found = nullptr;
  if (command.has_schema_version()) {
    const auto version = parse_version(command.schema_version());
    if (!version) return refuse(pb::IncompatibleSchema, "Empty schema version");
    found = broker_.schemas().find(name->base().text(), *version);
  } else {
    found = broker_.schemas().latest(name->base().text());
  }
  if (found == nullptr) return refuse(pb::TopicNotFound, "Topic not found or no-schema");
  fill(*found, *response->mutable_schema());
  response->set_schema_version(version_bytes(found->version));
  send(answer);
}

aio::Task<void> Session::get_or_create_schema(pb::CommandGetOrCreateSchema command) {
  const auto self = shared_from_this();
  pb::BaseCommand answer;
  answer.set_type(pb::BaseCommand::GET_OR_CREATE_SCHEMA_RESPONSE);
  auto* response = answer.mutable_getorcreateschemaresponse();
  response->set_request_id(command.request_id());
  const auto found = broker_.topic(command.topic(), true);
  if (found.refusal) {
    response->set_error_code(found.refusal->code);
    response->set_error_message(found.refusal->message);
  } else {
    const std::string base = found.topic->name().base().text();
    const auto policies = found.topic->policies();
    const auto version = co_await broker_.schemas().add(base, command.schema(), policies);
    if (version) {
      response->set_schema_version(version_bytes(*version));
    } else {
      response->set_error_code(version.error().code() == Code::invalid ? pb::IncompatibleSchema
                                                                       : pb::PersistenceError);
      response->set_error_message(version.error().text());
    }
  }
  send(answer);
}

void Session::find_position(const std::shared_ptr<Topic>& topic,
                            const pb::CommandSubscribe& command) {
  if (command.start_message_rollback_duration_sec() > 0 &&
      topic->find(command.subscription()) == nullptr) {
    gate_.spawn("subscribe at a time", subscribe_at_time(topic, command));
    return;
  }
  uint64_t position = command.initialposition() == pb::CommandSubscribe::Earliest
                          ? topic->first_index()
                          : topic->end_index();
  if (!command.durable() && command.has_start_message_id()) {
    const auto& id = command.start_message_id();
    // At the id, as Apache Pulsar does: the command does not say whether the reader wants that
    // entry or what follows it (or which part of a batch), so the client passes over what it does
    // not want.
    position = topic->index_of(id.ledgerid(), id.entryid());
  }
  subscribe(topic, command, position);
}

aio::Task<void> Session::subscribe_at_time(std::shared_ptr<Topic> topic,
                                           pb::CommandSubscribe command) {
  const auto self = shared_from_this();
  const uint64_t back_ms = command.start_message_rollback_duration_sec() * 1000;
  const auto now_ms = static_cast<uint64_t>(aio::wall_ms());
  const auto index = co_await topic->index_at(now_ms - std::min(now_ms, back_ms));
  if (!index) {
    error(command.request_id(), pb::PersistenceError, index.error().text());
    co_return;
  }
  subscribe(topic, command, *index);
}

void Session::subscribe(const std::shared_ptr<Topic>& topic, const pb::CommandSubscribe& command,
                        uint64_t position) {
  auto subscription = topic->find(command.subscription());
  if (!subscription && command.durable() && !topic->policies().auto_subscribe) {
    return error(command.request_id(), pb::SubscriptionNotFound,
                 fmt::format("Subscription {} does not exist on {} and may not be created",
                             command.subscription(), topic->text()));
  }
  if (subscription && subscription->durable() != command.durable()) {
    return error(
        command.request_id(), pb::NotAllowedError,
        fmt::format("Subscription {} of {} exists and is {}durable", command.subscription(),
                    topic->text(), subscription->durable() ? "" : "not "));
  }
  auto made = std::make_shared<Consumer>();
  made->link = shared_from_this();
  made->topic = topic;
  made->id = command.consumer_id();
  made->name = command.consumer_name();
  made->priority = command.priority_level();
  made->out_of_order = command.keysharedmeta().allowoutoforderdelivery();
  made->since = aio::wall_ms();
  for (const auto& pair : command.metadata()) made->metadata[pair.key()] = pair.value();
  if (command.has_consumer_epoch()) {
    made->epoch = command.consumer_epoch();
    made->has_epoch = true;
  }
  const auto join = [self = shared_from_this(), made, type = command.subtype(),
                     request_id = command.request_id()](const Result<void>& result) {
    if (self->ended_) return;
    if (!result) return self->error(request_id, pb::PersistenceError, result.error().text());
    const auto refusal = made->subscription->add(made, type);
    if (refusal) return self->error(request_id, refusal->code, refusal->message);
    self->consumers_[made->id] = made;
    self->success(request_id);
  };
  if (subscription) {
    made->subscription = subscription;
    return topic->when_stored(subscription, join);
  }
  // `join` runs later, when the position is stored: by then the subscription is known.
  auto created = std::make_shared<std::function<void(const Result<void>&)>>();
  made->subscription = topic->create(command.subscription(), command.durable(), position,
                                     [created](const Result<void>& result) {
                                       if (*created) (*created)(result);
                                     });
  if (command.durable()) {
    *created = join;
  } else {
    join({});
  }
}

void Session::on_ack(const pb::CommandAck& command) {
  const auto known = consumer(command.consumer_id());
  const bool wants_answer = command.has_request_id();
  const auto answer = [self = shared_from_this(), consumer_id = command.consumer_id(),
                       request_id = command.request_id()](const Result<void>& result) {
    pb::BaseCommand response;
    response.set_type(pb::BaseCommand::ACK_RESPONSE);
    auto* ack = response.mutable_ackresponse();
    ack->set_consumer_id(consumer_id);
    ack->set_request_id(request_id);
    if (!result) {
      ack->set_error(pb::PersistenceError);
      ack->set_message(result.error().text());
    }
    self->send(response);
  };
  if (!known) {
    if (wants_answer) answer(Error(Code::not_found, "Consumer not found"));
    return;
  }
  if (command.has_validation_error()) {
    log::warn(kPart, "consumer {} of {} on {} could not read message {}:{} ({}) and skips it",
              known->name, address_, known->topic->text(), command.message_id(0).ledgerid(),
              command.message_id(0).entryid(),
              pb::CommandAck::ValidationError_Name(command.validation_error()));
  }
  known->subscription->ack(known, command, wants_answer ? Subscription::Done(answer) : nullptr);
}

void Session::on_unsubscribe(const pb::CommandUnsubscribe& command) {
  const auto known = consumer(command.consumer_id());
  if (!known) return error(command.request_id(), pb::MetadataError, "Consumer not found");
  const auto subscription = known->subscription;
  if (subscription->consumers().size() > 1 && !command.force()) {
    return error(
        command.request_id(), pb::MetadataError,
        fmt::format("Unconnected or shared consumer attempting to unsubscribe: {} others are "
                    "connected",
                    subscription->consumers().size() - 1));
  }
  const auto others = subscription->consumers();
  for (const auto& other : others) {
    if (other != known) other->link->drop_consumer(other->id);
  }
  consumers_.erase(known->id);
  subscription->remove(known);
  known->topic->remove(
      subscription->name(),
      [self = shared_from_this(), request_id = command.request_id()](const Result<void>& result) {
        if (!result) return self->error(request_id, pb::PersistenceError, result.error().text());
        self->success(request_id);
      });
}

void Session::on_seek(const pb::CommandSeek& command) {
  const auto known = consumer(command.consumer_id());
  if (!known) return error(command.request_id(), pb::MetadataError, "Consumer not found");
  if (command.has_message_publish_time()) {
    gate_.spawn("seek to a time", seek_to_time(known, command));
    return;
  }
  seek(known, command.request_id(),
       known->topic->index_of(command.message_id().ledgerid(), command.message_id().entryid()));
}

aio::Task<void> Session::seek_to_time(std::shared_ptr<Consumer> consumer, pb::CommandSeek command) {
  const auto self = shared_from_this();
  const auto index = co_await consumer->topic->index_at(command.message_publish_time());
  if (!index) {
    error(command.request_id(), pb::PersistenceError, index.error().text());
    co_return;
  }
  seek(consumer, command.request_id(), *index);
}

void Session::seek(const std::shared_ptr<Consumer>& consumer, uint64_t request_id, uint64_t index) {
  consumer->subscription->seek(
      index, [self = shared_from_this(), request_id](const Result<void>& result) {
        if (!result) return self->error(request_id, pb::PersistenceError, result.error().text());
        self->success(request_id);
      });
}

aio::Task<void> Session::last_message_id(std::shared_ptr<Consumer> consumer, uint64_t request_id) {
  const auto self = shared_from_this();
  const auto topic = consumer->topic;
  const MessageId last = topic->last_id();
  int batch_index = -1;
  if (last.entry >= 0) {
    const uint64_t index = topic->end_index() - 1;
    const TailEntry* held = topic->in_tail(index);
    Bytes entry = held != nullptr ? held->entry : Bytes();
    if (held == nullptr) {
      const auto read = co_await topic->read(index, 1, 1);
      if (!read) {
        error(request_id, pb::PersistenceError, read.error().text());
        co_return;
      }
      if (!read->empty()) entry = read->front().entry;
    }
    const auto metadata = wire::parse_metadata(entry.view());
    if (metadata && metadata->has_num_messages_in_batch())
      batch_index = metadata->num_messages_in_batch() - 1;
  }
  pb::BaseCommand answer;
  answer.set_type(pb::BaseCommand::GET_LAST_MESSAGE_ID_RESPONSE);
  auto* response = answer.mutable_getlastmessageidresponse();
  response->set_request_id(request_id);
  auto* id = response->mutable_last_message_id();
  const bool empty = last.entry < 0;
  id->set_ledgerid(empty ? UINT64_MAX : static_cast<uint64_t>(last.ledger));
  id->set_entryid(empty ? UINT64_MAX : static_cast<uint64_t>(last.entry));
  id->set_partition(last.partition);
  id->set_batch_index(batch_index);
  const uint64_t acked = consumer->subscription->cursor().acked_until();
  auto* mark = response->mutable_consumer_mark_delete_position();
  if (acked > topic->first_index()) {
    const auto position = topic->message_id(acked - 1);
    mark->set_ledgerid(static_cast<uint64_t>(position.ledger));
    mark->set_entryid(static_cast<uint64_t>(position.entry));
  } else {
    mark->set_ledgerid(UINT64_MAX);
    mark->set_entryid(UINT64_MAX);
  }
  send(answer);
}

void Session::on_consumer_stats(const pb::CommandConsumerStats& command) {
  pb::BaseCommand answer;
  answer.set_type(pb::BaseCommand::CONSUMER_STATS_RESPONSE);
  auto* response = answer.mutable_consumerstatsresponse();
  response->set_request_id(command.request_id());
  const auto known = consumer(command.consumer_id());
  if (!known) {
    response->set_error_code(pb::ConsumerNotFound);
    response->set_error_message("Consumer not found");
  } else {
    response->set_consumername(known->name);
    response->set_availablepermits(static_cast<uint64_t>(std::max<int64_t>(0, known->permits)));
    response->set_unackedmessages(known->unacked);
    response->set_blockedconsumeronunackedmsgs(known->blocked);
    response->set_address(address_);
    response->set_type(pb::CommandSubscribe::SubType_Name(known->subscription->type()));
    response->set_msgbacklog(known->topic->backlog(known->subscription->cursor()));
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

#include "broker/session.h"

#include "aio/offload.h"
#include "aio/timeout.h"
#include "base/log.h"
#include "broker/subscription.h"

namespace hulse::broker {
namespace {

constexpr std::string_view kPart = "broker";
constexpr auto kKeepAlive = std::chrono::seconds(30);
// Above what consumers may have waiting, one large message included: then answers are the cause.
constexpr size_t kUnwrittenTimes = 4;
constexpr int kNotesVersion = 18;  // of the protocol: clients know the broker's entry metadata
constexpr uint64_t kNoRequest = UINT64_MAX;  // request id -1: the broker speaks on its own

}  // namespace

Session::Session(Broker& broker, aio::Socket socket, aio::TlsContext tls, std::string address)
    : broker_(broker),
      stream_(std::move(socket)),
      tls_(std::move(tls)),
      address_(std::move(address)),
      gate_(broker.shared().executor),
      reader_(stream_, broker.options().message_bytes_max + wire::kFrameOverheadMax),
      writer_(stream_, broker.shared().executor),
      synced_(broker.shared().executor) {}

Session::~Session() = default;

aio::Task<void> Session::run() {
  const auto self = shared_from_this();
  if (tls_) {
    const auto secure = co_await aio::with_timeout(kKeepAlive, "the connection of " + address_,
                                                   stream_.accept_tls(tls_));
    if (!secure) {
      if (!secure.error().cancelled()) log::info(kPart, "{}", secure.error().text());
      stream_.close();
      co_return;
    }
  }
  gate_.spawn("writer", write());
  gate_.spawn("refill", refill());
  gate_.spawn("keep-alive", keep_alive());
  if (broker_.authenticator().enabled()) gate_.spawn("expiry", watch_expiry());
  const auto ended = co_await read();
  if (!ended && ended.error().code() != Code::cancelled) {
    log::debug(kPart, "connection of {} ended: {}", address_, ended.error().text());
    // A refusal was logged where it was made.
    if (ended.error().code() != Code::unavailable && ended.error().code() != Code::permission) {
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
  returning_.clear();
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
    Result<void> handled;
    if (frame->command.type() == pb::BaseCommand::CONNECT) {
      handled = co_await on_connect(std::move(*frame->command.mutable_connect()));
    } else if (frame->command.type() == pb::BaseCommand::AUTH_RESPONSE) {
      handled = co_await on_auth_response(std::move(*frame->command.mutable_authresponse()));
    } else {
      handled = handle(std::move(*frame));
    }
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
    auto& shared = broker_.shared();
    while (shared.unsynced_bytes > shared.unsynced_bytes_max) {
      const bool woken = co_await shared.unsynced_room.wait();
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
    // Who was not held back has had all there is: a connection may carry a thousand consumers.
    if (!held_back_ || !writable()) continue;
    held_back_ = false;
    const auto consumers = consumers_;
    for (const auto& [id, consumer] : consumers) consumer->subscription->dispatch();
  }
}

aio::Task<void> Session::keep_alive() {
  for (;;) {
    const bool slept = co_await aio::sleep(kKeepAlive);
    if (!slept) co_return;
    closed_producers_.clear();
    returning_.clear();
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

aio::Task<void> Session::watch_expiry() {
  for (;;) {
    const bool slept = co_await aio::sleep(broker_.options().authentication_check);
    if (!slept) co_return;
    check_expiry();
  }
}

// ---- what topics call

void Session::send(const pb::BaseCommand& command) {
  if (!ended_) writer_.send(wire::encode_frame(command));
}
void Session::send(const pb::BaseCommand& command, const Bytes& entry) {
  if (ended_) return;
  const Bytes shown = knows_notes_ ? entry : wire::without_broker_metadata(entry);
  writer_.send(wire::encode_frame_head(command, shown.size()), shown);
}
bool Session::writable() const {
  const bool room = !ended_ && writer_.queued_bytes() < broker_.options().unwritten_bytes_max;
  if (!room) held_back_ = true;
  return room;
}
void Session::published(size_t bytes) {
  unsynced_bytes_ -= bytes;
  auto& shared = broker_.shared();
  const bool above = shared.unsynced_bytes > shared.unsynced_bytes_max / 2;
  shared.unsynced_bytes -= bytes;
  if (above && shared.unsynced_bytes <= shared.unsynced_bytes_max / 2) {
    shared.unsynced_room.notify();
  }
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
  if (!ended_) returning_[consumer_id] = known;
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

std::shared_ptr<Consumer> Session::consumer_or_returning(uint64_t id) const {
  if (auto known = consumer(id)) return known;
  const auto gone = returning_.find(id);
  if (gone == returning_.end()) return nullptr;
  const auto& topic = gone->second->topic;
  const auto& subscription = gone->second->subscription;
  // Else it left for good: it was unsubscribed, or its topic unloaded.
  const bool there = !topic->stopped() && topic->find(subscription->name()) == subscription;
  return there ? gone->second : nullptr;
}

// ---- commands

Result<void> Session::handle(wire::Frame frame) {
  const auto& command = frame.command;
  if (!connected_ && command.type() != pb::BaseCommand::PING &&
      command.type() != pb::BaseCommand::PONG) {
    return Error(Code::invalid,
                 fmt::format("{} before CONNECT", pb::BaseCommand::Type_Name(command.type())));
  }
  switch (command.type()) {
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
      returning_.erase(command.close_consumer().consumer_id());
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
      const auto known = consumer_or_returning(ask.consumer_id());
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

// ---- who it is

aio::Task<Result<void>> Session::authenticate(auth::Credentials credentials) {
  const auto& authenticator = broker_.authenticator();
  const int64_t now = aio::wall_ms();
  credentials.certificate_name = stream_.peer_common_name();
  Result<auth::Identity> identity = auth::Identity{};
  if (credentials.method == "basic") {
    // A strong password hash takes its time on purpose.
    identity = co_await aio::offload(broker_.shared().disk, [&authenticator, credentials, now] {
      return authenticator.check(credentials, now);
    });
  } else {
    identity = authenticator.check(credentials, now);
  }
  if (!identity) {
    log::info(kPart, "refused {} ({}): {}", address_, client_version_, identity.error().text());
    error(kNoRequest, pb::AuthenticationError, identity.error().text());
    co_await say_goodbye();
    co_return Error(Code::permission, identity.error().text());
  }
  if (connected_ && identity->role != identity_.role) {
    error(kNoRequest, pb::AuthenticationError, "the role may not change within a connection");
    co_await say_goodbye();
    co_return Error(Code::permission,
                    fmt::format("role {} wants to be {}", identity_.role, identity->role));
  }
  identity_ = std::move(*identity);
  co_return Result<void>();
}

// Lets what was sent go out before the connection is closed.
aio::Task<void> Session::say_goodbye() {
  const auto until = aio::Clock::now() + std::chrono::seconds(1);
  while (writer_.queued_bytes() > 0) {
    const bool woken = co_await writer_.drained().wait_until(until);
    if (!woken) co_return;
  }
}

aio::Task<Result<void>> Session::on_connect(pb::CommandConnect command) {
  if (connected_) co_return Error(Code::invalid, "a second CONNECT");
  client_version_ = command.client_version();
  knows_notes_ = command.feature_flags().supports_broker_entry_metadata() &&
                 command.protocol_version() >= kNotesVersion;
  can_refresh_ = command.feature_flags().supports_auth_refresh();
  auth::Credentials credentials;
  credentials.method = command.auth_method_name();
  credentials.data = Secret(command.auth_data());
  const auto known = co_await authenticate(std::move(credentials));
  if (!known) co_return known;
  connected_ = true;
  pb::BaseCommand answer;
  answer.set_type(pb::BaseCommand::CONNECTED);
  auto* connected = answer.mutable_connected();
  connected->set_server_version(std::string(kServerVersion));
  connected->set_protocol_version(std::min(wire::kProtocolVersion, command.protocol_version()));
  connected->set_max_message_size(static_cast<int>(broker_.options().message_bytes_max));
  connected->mutable_feature_flags()->set_supports_get_partitioned_metadata_without_auto_creation(
      true);
  send(answer);
  co_return Result<void>();
}

aio::Task<Result<void>> Session::on_auth_response(pb::CommandAuthResponse command) {
  if (!connected_) co_return Error(Code::invalid, "AUTH_RESPONSE before CONNECT");
  challenged_ = false;
  auth::Credentials credentials;
  credentials.method = command.response().auth_method_name();
  credentials.data = Secret(command.response().auth_data());
  const auto known = co_await authenticate(std::move(credentials));
  co_return known;
}

// A client whose token has expired is asked for a fresh one; whoever has none is let go.
void Session::check_expiry() {
  if (!connected_ || identity_.expires_ms == 0 || aio::wall_ms() < identity_.expires_ms) return;
  if (!can_refresh_ || challenged_) {
    log::info(kPart, "closing the connection of {} ({}): its token has expired", address_,
              client_version_);
    stream_.close();
    return;
  }
  challenged_ = true;
  pb::BaseCommand ask;
  ask.set_type(pb::BaseCommand::AUTH_CHALLENGE);
  auto* challenge = ask.mutable_authchallenge();
  challenge->set_server_version(std::string(kServerVersion));
  challenge->set_protocol_version(wire::kProtocolVersion);
  challenge->mutable_challenge()->set_auth_method_name("token");
  challenge->mutable_challenge()->set_auth_data("PulsarAuthRefresh");
  send(ask);
}

std::optional<Topic::Refusal> Session::forbid(Action action, const std::string& topic,
                                              const std::string& subscription) const {
  const auto name = wire::TopicName::parse(topic);
  // A name that cannot be is refused by whoever looks for the topic.
  if (!name || broker_.authorization().may(action, *name, identity_.role, subscription))
    return std::nullopt;
  return Topic::Refusal{pb::AuthorizationError, refusal_text(action, *name, identity_.role)};
}

}  // namespace hulse::broker

#include "client/connection.h"

#include <boost/asio/connect.hpp>

#include "aio/timeout.h"
#include "base/log.h"

namespace hulse::client {
namespace {

constexpr std::string_view kPart = "client";
constexpr auto kKeepAlive = std::chrono::seconds(30);
constexpr const char* kClientVersion = "Hulse-0.1.0";

// The request id an answer carries, if it is an answer to a request.
std::optional<uint64_t> request_id_of(const pb::BaseCommand& command) {
  switch (command.type()) {
    case pb::BaseCommand::SUCCESS: return command.success().request_id();
    case pb::BaseCommand::ERROR: return command.error().request_id();
    case pb::BaseCommand::PRODUCER_SUCCESS: return command.producer_success().request_id();
    case pb::BaseCommand::PARTITIONED_METADATA_RESPONSE:
      return command.partitionmetadataresponse().request_id();
    case pb::BaseCommand::LOOKUP_RESPONSE: return command.lookuptopicresponse().request_id();
    case pb::BaseCommand::GET_LAST_MESSAGE_ID_RESPONSE:
      return command.getlastmessageidresponse().request_id();
    case pb::BaseCommand::CONSUMER_STATS_RESPONSE:
      return command.consumerstatsresponse().request_id();
    case pb::BaseCommand::ACK_RESPONSE: return command.ackresponse().request_id();
    case pb::BaseCommand::GET_TOPICS_OF_NAMESPACE_RESPONSE:
      return command.gettopicsofnamespaceresponse().request_id();
    case pb::BaseCommand::GET_SCHEMA_RESPONSE: return command.getschemaresponse().request_id();
    case pb::BaseCommand::GET_OR_CREATE_SCHEMA_RESPONSE:
      return command.getorcreateschemaresponse().request_id();
    default: return std::nullopt;
  }
}

// An answer that says no, whatever its form.
std::optional<Error> refusal(const pb::BaseCommand& command) {
  switch (command.type()) {
    case pb::BaseCommand::ERROR:
      return to_error(command.error().error(), command.error().message());
    case pb::BaseCommand::PARTITIONED_METADATA_RESPONSE: {
      const auto& response = command.partitionmetadataresponse();
      if (response.response() != pb::CommandPartitionedTopicMetadataResponse::Failed)
        return std::nullopt;
      return to_error(response.error(), response.message());
    }
    case pb::BaseCommand::LOOKUP_RESPONSE: {
      const auto& response = command.lookuptopicresponse();
      if (response.response() != pb::CommandLookupTopicResponse::Failed) return std::nullopt;
      return to_error(response.error(), response.message());
    }
    case pb::BaseCommand::ACK_RESPONSE:
      if (!command.ackresponse().has_error()) return std::nullopt;
      return to_error(command.ackresponse().error(), command.ackresponse().message());
    case pb::BaseCommand::GET_SCHEMA_RESPONSE: {
      const auto& response = command.getschemaresponse();
      if (!response.has_error_code()) return std::nullopt;
      return to_error(response.error_code(), response.error_message());
    }
    case pb::BaseCommand::GET_OR_CREATE_SCHEMA_RESPONSE: {
      const auto& response = command.getorcreateschemaresponse();
      if (!response.has_error_code()) return std::nullopt;
      return to_error(response.error_code(), response.error_message());
    }
    default: return std::nullopt;
  }
}

}  // namespace

Error to_error(pb::ServerError code, const std::string& message) {
  const std::string text =
      fmt::format("{} ({})", message.empty() ? "the broker gave no reason" : message,
                  pb::ServerError_Name(code));
  switch (code) {
    case pb::AuthenticationError:
    case pb::AuthorizationError: return Error(Code::permission, text);
    case pb::ConsumerBusy:
    case pb::ProducerBusy: return Error(Code::busy, text);
    case pb::TopicNotFound:
    case pb::SubscriptionNotFound: return Error(Code::not_found, text);
    case pb::ProducerFenced: return Error(Code::fenced, text);
    case pb::ChecksumError: return Error(Code::corrupt, text);
    case pb::InvalidTopicName:
    case pb::IncompatibleSchema:
    case pb::ConsumerAssignError:
    case pb::NotAllowedError:
    case pb::UnsupportedVersionError: return Error(Code::invalid, text);
    case pb::TopicTerminatedError: return Error(Code::closed, text);
    default: return Error(Code::unavailable, text);
  }
}

bool can_pass(const Error& error) {
  return error.code() == Code::unavailable || error.code() == Code::timeout ||
         error.code() == Code::io;
}

Connection::Connection(aio::Executor executor, const Security& security)
    : executor_(executor),
      security_(security),
      stream_(aio::Socket(executor)),
      gate_(executor),
      reader_(stream_, wire::kMessageBytesMax + wire::kFrameOverheadMax),
      writer_(stream_, executor) {}

Connection::~Connection() = default;

aio::Task<Result<void>> Connection::open(Address address, std::string target,
                                         aio::Duration timeout) {
  address_ = address;
  where_ = target.empty() ? address.text() : target + " through " + address.text();
  auto opened = co_await aio::with_timeout(timeout, "connecting to " + where_,
                                           connect(std::move(address), std::move(target)));
  if (!opened) {
    closed_ = true;
    stream_.close();
    if (opened.error().code() == Code::timeout) co_return opened.error();
    co_return opened.error().with("connecting to " + where_);
  }
  co_return Result<void>();
}

aio::Task<Result<void>> Connection::connect(Address address, std::string target) {
  aio::asio::ip::basic_resolver<aio::asio::ip::tcp, aio::Executor> resolver(executor_);
  auto [unresolved, endpoints] =
      co_await resolver.async_resolve(address.host, address.port, aio::as_values);
  if (unresolved && address.host == "localhost") {
    // Loopback by definition (RFC 6761), even where no file or server says so.
    const std::string loopback = "127.0.0.1";
    auto [failed, found] = co_await resolver.async_resolve(loopback, address.port, aio::as_values);
    unresolved = failed;
    endpoints = found;
  }
  if (unresolved) co_return aio::to_error(unresolved);
  const auto [refused, endpoint] =
      co_await aio::asio::async_connect(stream_.socket(), endpoints, aio::as_values);
  if (refused) co_return aio::to_error(refused);
  boost::system::error_code ignored;
  stream_.socket().set_option(aio::asio::ip::tcp::no_delay(true), ignored);
  if (address.tls) {
    // Made anew for each connection: certificates and keys are renewed by replacing their files.
    auto context = aio::client_context(security_.tls);
    if (!context) co_return context.error();
    const auto secured =
        co_await stream_.connect_tls(std::move(*context), address.host, security_.tls.verify_host);
    if (!secured) co_return secured.error();
  }
  co_return co_await say_connect(std::move(target));
}

aio::Task<Result<void>> Connection::say_connect(std::string target) {
  const auto credentials = security_.credentials();
  if (!credentials) co_return credentials.error();
  pb::BaseCommand hello;
  hello.set_type(pb::BaseCommand::CONNECT);
  auto* connect = hello.mutable_connect();
  connect->set_client_version(kClientVersion);
  connect->set_auth_method_name(security_.method);
  if (!credentials->empty()) connect->set_auth_data(credentials->reveal());
  connect->set_protocol_version(wire::kProtocolVersion);
  connect->mutable_feature_flags()->set_supports_auth_refresh(true);
  if (!target.empty()) connect->set_proxy_to_broker_url(target);
  const std::string frame = wire::encode_frame(hello);
  const auto bytes_of_frame = aio::asio::buffer(frame);
  const auto [unsent, sent] = co_await stream_.write(bytes_of_frame);
  if (unsent) co_return aio::to_error(unsent);
  for (;;) {
    const auto bytes = co_await reader_.next();
    if (!bytes && bytes.error().code() == Code::too_large) {
      co_return Error(Code::invalid,
                      "it does not speak Pulsar's binary protocol; is it a web port?");
    }
    if (!bytes) co_return bytes.error();
    const auto answer = wire::parse_frame(*bytes);
    if (!answer) co_return answer.error();
    const auto& command = answer->command;
    if (command.type() == pb::BaseCommand::PING) continue;
    if (command.type() == pb::BaseCommand::AUTH_CHALLENGE) {
      co_return Error(
          Code::permission,
          fmt::format("it asks for more than one step of authentication by {}", security_.method));
    }
    if (command.type() == pb::BaseCommand::ERROR) {
      co_return to_error(command.error().error(), command.error().message());
    }
    if (command.type() != pb::BaseCommand::CONNECTED) {
      co_return Error(Code::unavailable,
                      fmt::format("it answered {} to CONNECT; is it a Pulsar broker?",
                                  pb::BaseCommand::Type_Name(command.type())));
    }
    server_version_ = command.connected().server_version();
    // Also a divisor; not a size is no limit that was told.
    if (command.connected().max_message_size() > 0) {
      message_bytes_max_ = static_cast<size_t>(command.connected().max_message_size());
      reader_.set_frame_bytes_max(message_bytes_max_ + wire::kFrameOverheadMax);
    }
    co_return Result<void>();
  }
}

aio::Task<void> Connection::run() {
  const auto self = shared_from_this();
  gate_.spawn("writer", write());
  gate_.spawn("keep-alive", keep_alive());
  const auto ended = co_await read();
  close(ended ? Error(Code::unavailable, "closed") : ended.error().with(where_));
  co_await gate_.close();
}

void Connection::close(const Error& why) {
  stream_.close();
  if (closed_) return;
  closed_ = true;
  why_closed_ = why.cancelled() ? why : Error(Code::unavailable, why.text());
  for (const auto& [id, waiting] : waiting_) {
    waiting->answer = *why_closed_;
    waiting->answered.notify();
  }
  waiting_.clear();
  const auto producers = std::move(producers_);
  const auto consumers = std::move(consumers_);
  producers_.clear();
  consumers_.clear();
  for (const auto& [id, producer] : producers) producer->on_closed(*why_closed_);
  for (const auto& [id, consumer] : consumers) consumer->on_closed(*why_closed_);
}

aio::Task<Result<void>> Connection::read() {
  for (;;) {
    const auto bytes = co_await reader_.next();
    if (!bytes) co_return bytes.error();
    heard_ = true;
    const auto frame = wire::parse_frame(*bytes);
    if (!frame) co_return frame.error();
    const auto handled = handle(*frame);
    if (!handled) co_return handled.error();
  }
}

aio::Task<void> Connection::write() {
  const auto ended = co_await writer_.run();
  if (!ended && !ended.error().cancelled()) {
    stream_.close();  // ends the reader, which ends the rest
  }
}

aio::Task<void> Connection::keep_alive() {
  for (;;) {
    const bool slept = co_await aio::sleep(kKeepAlive);
    if (!slept) co_return;
    if (!heard_) {
      log::warn(kPart, "{} has not answered for {} s; connecting again", where_,
                2 * kKeepAlive.count());
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

void Connection::send(const pb::BaseCommand& command) {
  if (!closed_) writer_.send(wire::encode_frame(command));
}
void Connection::send(const pb::BaseCommand& command, const Bytes& entry) {
  if (!closed_) writer_.send(wire::encode_frame_head(command, entry.size()), entry);
}

aio::Task<Result<pb::BaseCommand>> Connection::request(pb::BaseCommand command, uint64_t request_id,
                                                       aio::Duration timeout) {
  const auto self = shared_from_this();
  if (closed_) co_return why_closed_.value_or(Error(Code::unavailable, "the connection is closed"));
  const auto waiting = std::make_shared<Waiting>(executor_);
  waiting_[request_id] = waiting;
  send(command);
  const auto deadline = aio::Clock::now() + timeout;
  while (!waiting->answer) {
    const bool woken = co_await waiting->answered.wait_until(deadline);
    if (woken || waiting->answer) continue;
    waiting_.erase(request_id);
    const bool stopped = co_await aio::cancelled();
    if (stopped) co_return Error(Code::cancelled, "stopped");
    co_return Error(Code::timeout, fmt::format("{} did not answer {} in time", where_,
                                               pb::BaseCommand::Type_Name(command.type())));
  }
  co_return std::move(*waiting->answer);
}

void Connection::answer(uint64_t request_id, const pb::BaseCommand& command) {
  const auto known = waiting_.find(request_id);
  if (known == waiting_.end()) return;  // it came after its timeout
  const auto refused = refusal(command);
  known->second->answer =
      refused ? Result<pb::BaseCommand>(*refused) : Result<pb::BaseCommand>(command);
  known->second->answered.notify();
  waiting_.erase(known);
}

// The broker asks for fresh credentials before the old ones expire.
Result<void> Connection::answer_challenge() {
  const auto credentials = security_.credentials();
  if (!credentials) return credentials.error();
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::AUTH_RESPONSE);
  auto* response = command.mutable_authresponse();
  response->set_client_version(kClientVersion);
  response->set_protocol_version(wire::kProtocolVersion);
  response->mutable_response()->set_auth_method_name(security_.method);
  response->mutable_response()->set_auth_data(credentials->reveal());
  send(command);
  return {};
}

Result<void> Connection::handle(const wire::Frame& frame) {
  const auto& command = frame.command;
  const auto to = [&](std::unordered_map<uint64_t, Attached*>& attached, uint64_t id) {
    const auto known = attached.find(id);
    if (known != attached.end()) known->second->on_frame(frame);
  };
  switch (command.type()) {
    case pb::BaseCommand::PING: {
      pb::BaseCommand pong;
      pong.set_type(pb::BaseCommand::PONG);
      pong.mutable_pong();
      send(pong);
      return {};
    }
    case pb::BaseCommand::PONG: return {};
    case pb::BaseCommand::AUTH_CHALLENGE: return answer_challenge();
    case pb::BaseCommand::SEND_RECEIPT:
      to(producers_, command.send_receipt().producer_id());
      return {};
    case pb::BaseCommand::SEND_ERROR: to(producers_, command.send_error().producer_id()); return {};
    case pb::BaseCommand::CLOSE_PRODUCER:
      to(producers_, command.close_producer().producer_id());
      return {};
    case pb::BaseCommand::MESSAGE: to(consumers_, command.message().consumer_id()); return {};
    case pb::BaseCommand::CLOSE_CONSUMER:
      to(consumers_, command.close_consumer().consumer_id());
      return {};
    case pb::BaseCommand::ACTIVE_CONSUMER_CHANGE:
      to(consumers_, command.active_consumer_change().consumer_id());
      return {};
    case pb::BaseCommand::REACHED_END_OF_TOPIC:
      to(consumers_, command.reachedendoftopic().consumer_id());
      return {};
    default: break;
  }
  const auto request_id = request_id_of(command);
  if (request_id == UINT64_MAX && command.type() == pb::BaseCommand::ERROR) {
    return to_error(command.error().error(), command.error().message());
  }
  if (request_id) answer(*request_id, command);
  return {};
}

}  // namespace hulse::client

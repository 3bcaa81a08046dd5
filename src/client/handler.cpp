#include "client/handler.h"

#include "aio/backoff.h"
#include "base/log.h"
#include "client/client.h"

namespace hulse::client {
namespace {

constexpr std::string_view kPart = "client";
constexpr aio::BackoffPolicy kBackoff{std::chrono::milliseconds(100), std::chrono::seconds(10)};

}  // namespace

Handler::Handler(Client& client, Kind kind, std::string topic)
    : client_(client),
      topic_(std::move(topic)),
      id_(client.next_id()),
      gate_(client.executor()),
      changed_(client.executor()),
      kind_(kind) {}

Handler::~Handler() = default;

bool Handler::passes(const Error& why, bool first) const {
  return can_pass(why) || (!first && why.code() == Code::busy);
}

aio::Task<Result<void>> Handler::begin(std::string name) {
  const auto self = shared_from_this();
  aio::Backoff backoff(kBackoff);
  const auto deadline = aio::Clock::now() + client_.options().operation_timeout;
  for (;;) {
    const auto connected = co_await connect();
    if (connected) break;
    if (!passes(connected.error(), true) || aio::Clock::now() >= deadline)
      co_return connected.error();
    const auto wait = backoff.next();
    const bool slept = co_await aio::sleep(wait);
    if (!slept) co_return Error(Code::cancelled, "stopped");
  }
  gate_.spawn(std::move(name), keep_connected());
  co_return Result<void>();
}

aio::Task<void> Handler::keep_connected() {
  const auto self = shared_from_this();
  aio::Backoff backoff(kBackoff);
  for (;;) {
    while (connection_) {
      const bool woken = co_await changed_.wait();
      if (!woken) co_return;
      if (proved()) backoff.reset();
    }
    if (failed_) co_return;
    if (std::exchange(pause_, false)) {
      const auto pause = backoff.next();
      const bool paused = co_await aio::sleep(pause);
      if (!paused) co_return;
    }
    const auto connected = co_await connect();
    if (connected) {
      log::info(kPart, "{} {} again", kind_ == Kind::producer ? "producing to" : "consuming",
                topic_);
      continue;
    }
    if (connected.error().cancelled()) co_return;
    if (!passes(connected.error(), false)) {
      give_up(connected.error());
      co_return;
    }
    log::warn(kPart, "{}; trying again", connected.error().text());
    const auto wait = backoff.next();
    const bool slept = co_await aio::sleep(wait);
    if (!slept) co_return;
  }
}

aio::Task<Result<pb::BaseCommand>> Handler::introduce(pb::BaseCommand command,
                                                      uint64_t request_id) {
  auto connection = co_await client_.connection_for(topic_);
  if (!connection) co_return connection.error();
  // Attached first: what the broker says right after its answer must not be missed.
  closed_while_opening_ = false;
  const bool producer = kind_ == Kind::producer;
  producer ? (*connection)->attach_producer(id_, this) : (*connection)->attach_consumer(id_, this);
  auto answer = co_await (*connection)
                    ->request(std::move(command), request_id, client_.options().operation_timeout);
  if (!answer || closed_while_opening_ || failed_) {
    producer ? (*connection)->detach_producer(id_) : (*connection)->detach_consumer(id_);
    // It may still come to pass on the broker, or has, where it would stand in our own way.
    const bool given_up =
        answer ? failed_.has_value()
               : answer.error().code() == Code::timeout || answer.error().cancelled();
    if (given_up) (*connection)->send(close_command(client_.next_id()));
    if (!answer) co_return answer.error();
    if (failed_) co_return *failed_;  // closed meanwhile
    co_return Error(Code::unavailable, "the broker closed it at once");
  }
  if ((*connection)->closed()) co_return Error(Code::unavailable, "the connection was lost");
  connection_ = std::move(*connection);
  co_return answer;
}

void Handler::lose(bool pause) {
  pause_ = pause_ || pause;
  if (connection_) {
    kind_ == Kind::producer ? connection_->detach_producer(id_) : connection_->detach_consumer(id_);
  }
  connection_.reset();
  changed_.notify();
}

void Handler::closed_by_broker() {
  closed_while_opening_ = true;
  lose();
}

void Handler::on_closed(const Error&) {
  connection_.reset();
  changed_.notify();
}

aio::Task<Result<pb::BaseCommand>> Handler::ask(pb::BaseCommand command, uint64_t request_id) {
  const auto self = shared_from_this();
  while (!connection_) {
    if (failed_) co_return *failed_;
    const bool woken = co_await changed_.wait();
    if (!woken) co_return Error(Code::cancelled, "stopped");
  }
  const auto connection = connection_;
  co_return co_await connection->request(std::move(command), request_id,
                                         client_.options().operation_timeout);
}

pb::BaseCommand Handler::close_command(uint64_t request_id) const {
  pb::BaseCommand command;
  if (kind_ == Kind::producer) {
    command.set_type(pb::BaseCommand::CLOSE_PRODUCER);
    command.mutable_close_producer()->set_producer_id(id_);
    command.mutable_close_producer()->set_request_id(request_id);
  } else {
    command.set_type(pb::BaseCommand::CLOSE_CONSUMER);
    command.mutable_close_consumer()->set_consumer_id(id_);
    command.mutable_close_consumer()->set_request_id(request_id);
  }
  return command;
}

}  // namespace hulse::client

#include "client/lease.h"

#include "base/log.h"

namespace hulse::client {
namespace {
constexpr std::string_view kPart = "client";
}

Lease::Lease(aio::Executor executor, std::unique_ptr<Client> client, LeaseOptions options)
    : client_(std::move(client)),
      options_(std::move(options)),
      gate_(executor),
      changed_(executor) {}

Lease::~Lease() = default;

aio::Task<Result<std::shared_ptr<Lease>>> Lease::take(aio::Executor executor, Options client,
                                                      LeaseOptions options) {
  auto made = Client::make(executor, std::move(client));
  if (!made) co_return made.error();
  const std::shared_ptr<Lease> lease(new Lease(executor, std::move(*made), std::move(options)));
  const auto started = co_await lease->start();
  if (!started) {
    co_await lease->release();
    co_return started.error().with("taking the lease " + lease->options_.topic);
  }
  co_return lease;
}

aio::Task<Result<void>> Lease::start() {
  ProducerOptions options;
  options.topic = options_.topic;
  options.initial_subscription = options_.subscription;
  options.access = pb::ExclusiveWithFencing;
  options.batching = Batching::off;
  options.properties = {{"holder", options_.holder}};
  auto producer = co_await client_->create_producer(std::move(options));
  if (!producer) co_return producer.error();
  producer_ = std::move(*producer);
  epoch_ = producer_->topic_epoch().value_or(0);
  const auto confirmed = co_await confirm();
  if (!confirmed) co_return confirmed.error();
  ConsumerOptions subscribe;
  subscribe.topic = options_.topic;
  subscribe.subscription = options_.subscription;
  subscribe.type = pb::CommandSubscribe::Shared;
  subscribe.messages_max = 100;
  auto consumer = co_await client_->subscribe(std::move(subscribe));
  if (!consumer) co_return consumer.error();
  consumer_ = std::move(*consumer);
  gate_.spawn("lease " + options_.topic, keep_beating());
  gate_.spawn("old messages of lease " + options_.topic, keep_clean());
  co_return Result<void>();
}

void Lease::send_beat(std::shared_ptr<std::optional<Result<MessageId>>> stored) {
  const wire::Outgoing beat{.value = options_.holder};
  ++unanswered_;
  producer_->send({&beat, 1}, [self = shared_from_this(), stored](const Result<MessageId>& id) {
    --self->unanswered_;
    if (stored) *stored = id;
    self->changed_.notify();
  });
}

aio::Task<void> Lease::keep_beating() {
  const auto self = shared_from_this();
  for (;;) {
    // One that waits for its receipt is asked for by every new connection: more would only pile up.
    if (unanswered_ == 0) send_beat(nullptr);
    const auto at = aio::Clock::now() + options_.beat;
    while (!lost() && aio::Clock::now() < at) {
      const bool woken = co_await changed_.wait_until(at);
      const bool stopped = co_await aio::cancelled();
      if (!woken && stopped) co_return;
    }
    if (lost()) {
      log::warn(kPart, "the lease {} (epoch {}) is lost: {}", options_.topic, epoch_,
                lost()->text());
      co_return;
    }
  }
}

// Nobody needs its messages: acknowledged, they are trimmed.
aio::Task<void> Lease::keep_clean() {
  const auto self = shared_from_this();
  for (;;) {
    const auto messages = co_await consumer_->receive();
    if (!messages) {
      if (!messages.error().cancelled())
        log::warn(kPart, "the messages of lease {} stay: {}", options_.topic,
                  messages.error().text());
      co_return;
    }
    consumer_->ack((*messages)->id);
  }
}

aio::Task<Error> Lease::wait_lost() {
  const auto self = shared_from_this();
  while (!lost()) {
    const bool woken = co_await changed_.wait();
    if (!woken) co_return Error(Code::cancelled, "stopped");
  }
  co_return *lost();
}

aio::Task<Result<void>> Lease::confirm() {
  const auto self = shared_from_this();
  const auto stored = std::make_shared<std::optional<Result<MessageId>>>();
  send_beat(stored);
  while (!*stored) {
    const bool woken = co_await changed_.wait();
    if (!woken) co_return Error(Code::cancelled, "stopped");
  }
  if (!**stored) co_return (*stored)->error();
  co_return Result<void>();
}

aio::Task<void> Lease::release() {
  const auto self = shared_from_this();
  co_await gate_.close();
  if (consumer_) co_await consumer_->close();
  if (producer_) co_await producer_->close();
  changed_.notify();
  co_await client_->stop();
}

}  // namespace hulse::client

#include "client/multi_consumer.h"

#include <algorithm>

#include "base/log.h"
#include "client/client.h"

namespace hulse::client {
namespace {

constexpr std::string_view kPart = "client";
constexpr size_t kQueuedMax = 10;  // entries here; the others wait in their consumers

}  // namespace

MultiConsumer::MultiConsumer(Client& client, std::unique_ptr<TopicFinder> finder,
                             ConsumerOptions options)
    : client_(client),
      finder_(std::move(finder)),
      options_(std::move(options)),
      gate_(client.executor()),
      changed_(client.executor()) {}

MultiConsumer::~MultiConsumer() = default;

aio::Task<Result<std::shared_ptr<MultiConsumer>>> MultiConsumer::subscribe(
    Client& client, TopicSelection selection, ConsumerOptions options) {
  auto finder = TopicFinder::make(client, std::move(selection));
  if (!finder) co_return finder.error();
  const std::shared_ptr<MultiConsumer> made(
      new MultiConsumer(client, std::move(*finder), std::move(options)));
  const auto added = co_await made->add_new(true);
  if (!added) {
    co_await made->close();
    co_return added.error();
  }
  made->gate_.spawn("topics of " + made->options_.subscription, made->watch());
  co_return made;
}

aio::Task<Result<void>> MultiConsumer::add_new(bool first) {
  const auto topics = co_await finder_->find();
  if (!topics) co_return topics.error();
  const size_t share = std::max<size_t>(1, topics->size());
  for (const auto& topic : *topics) {
    if (consumers_.contains(topic) || ended_.contains(topic)) continue;
    auto options = options_;
    options.topic = topic;
    options.bytes_max = std::max<size_t>(1, options_.bytes_max / share);
    options.messages_max = std::max<size_t>(1, options_.messages_max / share);
    if (!first) options.initial_position = pb::CommandSubscribe::Earliest;
    auto consumer = co_await client_.subscribe(std::move(options));
    if (!consumer) co_return consumer.error();
    if (!first) log::info(kPart, "{} consumes {} from now on", options_.subscription, topic);
    consumers_[topic] = *consumer;
    gate_.spawn("messages of " + topic, pump(*consumer));
  }
  co_return Result<void>();
}

aio::Task<void> MultiConsumer::watch() {
  const auto self = shared_from_this();
  for (;;) {
    const bool slept = co_await aio::sleep(client_.options().discovery_period);
    if (!slept) co_return;
    const auto added = co_await add_new(false);
    if (added) continue;
    if (added.error().cancelled()) co_return;
    log::warn(kPart, "looking for new topics of {}: {}", options_.subscription,
              added.error().text());
  }
}

aio::Task<void> MultiConsumer::pump(std::shared_ptr<Consumer> consumer) {
  const auto self = shared_from_this();
  for (;;) {
    while (queue_.size() >= kQueuedMax) {
      const bool woken = co_await changed_.wait();
      if (!woken) co_return;
    }
    auto messages = co_await consumer->receive();
    if (messages) {
      queue_.push_back({consumer, std::move(*messages)});
      changed_.notify();
      continue;
    }
    const auto why = messages.error();
    if (why.cancelled()) co_return;
    if (why.code() == Code::closed) {
      ended_.insert(consumer->topic());
    } else if (why.code() == Code::not_found) {
      // Deleted; should it come back, it is found again.
      log::info(kPart, "{}; it is not consumed any more", why.text());
    } else {
      failed_ = why;
    }
    changed_.notify();
    // What was handed out of a terminated topic is still acknowledged through it.
    if (why.code() == Code::closed) co_return;
    consumers_.erase(consumer->topic());
    co_await consumer->close();
    co_return;
  }
}

aio::Task<Result<Delivery>> MultiConsumer::receive() {
  const auto self = shared_from_this();
  while (queue_.empty()) {
    if (failed_) co_return *failed_;
    if (!consumers_.empty() && ended_.size() == consumers_.size())
      co_return Error(Code::closed, "every topic of " + options_.subscription + " has ended");
    const bool woken = co_await changed_.wait();
    if (!woken && queue_.empty()) co_return Error(Code::cancelled, "stopped");
  }
  Delivery delivery = std::move(queue_.front());
  queue_.pop_front();
  changed_.notify();
  co_return delivery;
}

std::vector<std::string> MultiConsumer::topics() const {
  std::vector<std::string> out;
  for (const auto& [topic, consumer] : consumers_) out.push_back(topic);
  return out;
}

aio::Task<Result<void>> MultiConsumer::flush_acks() {
  const auto consumers = consumers_;
  for (const auto& [topic, consumer] : consumers) {
    const auto flushed = co_await consumer->flush_acks();
    if (!flushed) co_return flushed.error();
  }
  co_return Result<void>();
}

aio::Task<void> MultiConsumer::close() {
  const auto self = shared_from_this();
  co_await gate_.close();
  if (!failed_) failed_ = Error(Code::cancelled, "the consumer was closed");
  changed_.notify();
  const auto consumers = std::exchange(consumers_, {});
  for (const auto& [topic, consumer] : consumers) co_await consumer->close();
}

}  // namespace hulse::client

#include "client/topic_producer.h"

#include <algorithm>

#include "base/log.h"
#include "client/client.h"
#include "wire/peek.h"
#include "wire/topic_name.h"

namespace hulse::client {
namespace {
constexpr std::string_view kPart = "client";
}

TopicProducer::TopicProducer(Client& client, ProducerOptions options)
    : client_(client), options_(std::move(options)), gate_(client.executor()) {}

TopicProducer::~TopicProducer() = default;

aio::Task<Result<void>> TopicProducer::open() {
  const auto count = co_await client_.partitions(options_.topic);
  if (!count) co_return count.error();
  const auto grown = co_await grow(*count);
  if (!grown) {
    co_await close();
    co_return grown.error();
  }
  if (*count > 0) gate_.spawn("partitions of " + options_.topic, watch());
  co_return Result<void>();
}

aio::Task<Result<void>> TopicProducer::grow(unsigned count) {
  const auto name = wire::TopicName::parse(options_.topic);
  if (!name) co_return name.error();
  while (partitions_.size() < std::max(1u, count)) {
    auto options = options_;
    if (count > 0) options.topic = name->partition_of(static_cast<int>(partitions_.size())).text();
    auto producer = co_await client_.create_producer(std::move(options));
    if (!producer) co_return producer.error();
    partitions_.push_back(std::move(*producer));
    sorted_.emplace_back();
  }
  co_return Result<void>();
}

aio::Task<void> TopicProducer::watch() {
  const auto self = shared_from_this();
  for (;;) {
    const bool slept = co_await aio::sleep(client_.options().discovery_period);
    if (!slept) co_return;
    const auto count = co_await client_.partitions(options_.topic);
    const size_t before = partitions_.size();
    Result<void> grown = count ? Result<void>() : Result<void>(count.error());
    if (count) grown = co_await grow(*count);
    if (!grown && grown.error().cancelled()) co_return;
    if (!grown) {
      log::warn(kPart, "looking for new partitions of {}: {}", options_.topic,
                grown.error().text());
    }
    if (partitions_.size() > before)
      log::info(kPart, "{} has {} partitions now", options_.topic, partitions_.size());
  }
}

void TopicProducer::send(std::span<const wire::Outgoing> messages, Producer::Done done) {
  if (partitions_.size() == 1) return partitions_.front()->send(messages, std::move(done));
  const bool keyed =
      std::any_of(messages.begin(), messages.end(),
                  [](const wire::Outgoing& message) { return message.key.has_value(); });
  if (keyed) return send_by_key(messages, std::move(done));
  partitions_[turn_++ % partitions_.size()]->send(messages, std::move(done));
}

void TopicProducer::send_by_key(std::span<const wire::Outgoing> messages, Producer::Done done) {
  for (auto& part : sorted_) part.clear();
  const size_t keyless = turn_++ % partitions_.size();
  for (const auto& message : messages) {
    const size_t at = message.key ? wire::murmur3(*message.key) % partitions_.size() : keyless;
    sorted_[at].push_back(message);
  }
  // Done when every partition is; the first failure is what is told.
  struct Parts {
    size_t open = 0;
    std::optional<Error> error;
    MessageId last;
    Producer::Done done;
  };
  const auto parts = std::make_shared<Parts>();
  parts->done = std::move(done);
  for (const auto& part : sorted_) parts->open += part.empty() ? 0 : 1;
  for (size_t i = 0; i < sorted_.size(); ++i) {
    if (sorted_[i].empty()) continue;
    partitions_[i]->send(sorted_[i], [parts](const Result<MessageId>& id) {
      if (id) {
        parts->last = *id;
      } else if (!parts->error) {
        parts->error = id.error();
      }
      if (--parts->open > 0 || !parts->done) return;
      parts->done(parts->error ? Result<MessageId>(*parts->error) : Result<MessageId>(parts->last));
    });
  }
}

// Each by its index: there may be more of them after every wait.
aio::Task<bool> TopicProducer::wait_for_room() {
  for (size_t i = 0; i < partitions_.size(); ++i) {
    const auto producer = partitions_[i];
    const bool room = co_await producer->wait_for_room();
    if (!room) co_return false;
  }
  co_return true;
}

aio::Task<Result<void>> TopicProducer::flush() {
  for (size_t i = 0; i < partitions_.size(); ++i) {
    const auto producer = partitions_[i];
    const auto flushed = co_await producer->flush();
    if (!flushed) co_return flushed.error();
  }
  co_return Result<void>();
}

aio::Task<void> TopicProducer::close() {
  const auto self = shared_from_this();
  co_await gate_.close();
  for (const auto& producer : partitions_) co_await producer->close();
}

}  // namespace hulse::client

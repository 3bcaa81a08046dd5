#include "client/topic_producer.h"

#include <algorithm>

#include "wire/peek.h"

namespace hulse::client {

TopicProducer::TopicProducer(std::string topic, std::vector<std::shared_ptr<Producer>> partitions)
    : topic_(std::move(topic)), partitions_(std::move(partitions)), sorted_(partitions_.size()) {}

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

aio::Task<bool> TopicProducer::wait_for_room() {
  for (const auto& producer : partitions_) {
    const bool room = co_await producer->wait_for_room();
    if (!room) co_return false;
  }
  co_return true;
}

aio::Task<Result<void>> TopicProducer::flush() {
  for (const auto& producer : partitions_) {
    const auto flushed = co_await producer->flush();
    if (!flushed) co_return flushed.error();
  }
  co_return Result<void>();
}

aio::Task<void> TopicProducer::close() {
  for (const auto& producer : partitions_) co_await producer->close();
}

}  // namespace hulse::client

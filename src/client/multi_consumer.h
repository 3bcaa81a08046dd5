// MultiConsumer: one subscription on several topics: by names, partitioned or not, or by a pattern.
// Topics and partitions that come later are subscribed from their beginning, so that nothing in
// them is missed.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "client/consumer.h"
#include "client/topic_finder.h"

namespace hulse::client {

// What one of its consumers handed out; acknowledged there.
struct Delivery {
  std::shared_ptr<Consumer> consumer;
  std::shared_ptr<wire::Messages> messages;
};

// Lives on the client's strand. Closed before it is destroyed.
class MultiConsumer : public std::enable_shared_from_this<MultiConsumer> {
 public:
  // shared_from_this: its coroutines keep it.
  // `options.topic` is not used; its bounds are those of all topics together.
  static aio::Task<Result<std::shared_ptr<MultiConsumer>>> subscribe(Client& client,
                                                                     TopicSelection selection,
                                                                     ConsumerOptions options);
  ~MultiConsumer();

  // Order holds within a topic. Code::closed when all topics were terminated and read to their
  // ends.
  aio::Task<Result<Delivery>> receive();
  aio::Task<Result<void>> flush_acks();
  std::vector<std::string> topics() const;

  aio::Task<void> close();

 private:
  MultiConsumer(Client& client, std::unique_ptr<TopicFinder> finder, ConsumerOptions options);
  aio::Task<Result<void>> add_new(bool first);
  aio::Task<void> watch();
  aio::Task<void> pump(std::shared_ptr<Consumer> consumer);

  Client& client_;
  const std::unique_ptr<TopicFinder> finder_;
  const ConsumerOptions options_;
  aio::Gate gate_;
  aio::Event changed_;
  std::optional<Error> failed_;
  std::map<std::string, std::shared_ptr<Consumer>> consumers_;
  std::set<std::string> ended_;  // terminated and read: not subscribed again
  std::deque<Delivery> queue_;
};

}  // namespace hulse::client

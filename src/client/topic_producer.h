// TopicProducer: a producer to a topic whether it is partitioned or not.
#pragma once

#include <memory>
#include <vector>

#include "client/producer.h"

namespace hulse::client {

// Lives on the client's strand. Same contract as Producer; the order of messages is kept per
// partition. Partitions that are added later are used from then on; a key may move to one of them.
class TopicProducer : public std::enable_shared_from_this<TopicProducer> {
 public:
  // shared_from_this: its coroutines keep it.
  TopicProducer(Client& client, ProducerOptions options);
  ~TopicProducer();

  // Through Client::create_topic_producer.
  aio::Task<Result<void>> open();

  // A keyed message goes to the partition its key's Murmur3 hash says, as every client of that
  // setting chooses; messages without a key stay together and take partitions in turn, call by
  // call.
  void send(std::span<const wire::Outgoing> messages, Producer::Done done);

  // False when cancelled or a partition failed for good.
  aio::Task<bool> wait_for_room();
  aio::Task<Result<void>> flush();
  aio::Task<void> close();

  const std::string& topic() const { return options_.topic; }
  size_t partitions() const { return partitions_.size(); }
  size_t message_bytes_max() const { return partitions_.front()->message_bytes_max(); }

 private:
  void send_by_key(std::span<const wire::Outgoing> messages, Producer::Done done);
  // Producers up to that many partitions; 0: the topic has none.
  aio::Task<Result<void>> grow(unsigned count);
  aio::Task<void> watch();

  Client& client_;
  const ProducerOptions options_;
  aio::Gate gate_;
  std::vector<std::shared_ptr<Producer>> partitions_;
  size_t turn_ = 0;
  std::vector<std::vector<wire::Outgoing>> sorted_;  // by partition; kept for its memory
};

}  // namespace hulse::client

// Client: the Pulsar client of this program. Finds brokers, keeps connections, makes producers and
// consumers. The runtime reaches the bus through this folder only.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "aio/gate.h"
#include "client/connection.h"
#include "client/consumer.h"
#include "client/producer.h"
#include "client/topic_producer.h"

namespace hulse::client {

struct Options {
  std::string service_url = "pulsar://localhost:6650";
  aio::Duration connect_timeout = std::chrono::seconds(10);
  aio::Duration operation_timeout = std::chrono::seconds(30);  // one lookup, create, seek …
};

// Lives on one strand; all members are called there. stop() before it is destroyed, after its
// producers and consumers were closed.
class Client {
 public:
  // Fails when the URL is none.
  static Result<std::unique_ptr<Client>> make(aio::Executor executor, Options options);
  ~Client();

  // One attempt at each address: is there a broker?
  aio::Task<Result<void>> connect();

  // Creates it on the broker, or says why not. What passes (no broker there, broker starting) is
  // tried again until the operation timeout.
  aio::Task<Result<std::shared_ptr<Producer>>> create_producer(ProducerOptions options);
  // The same for each partition of a partitioned topic.
  aio::Task<Result<std::shared_ptr<TopicProducer>>> create_topic_producer(ProducerOptions options);
  aio::Task<Result<std::shared_ptr<Consumer>>> subscribe(ConsumerOptions options);

  // 0: the topic is not partitioned.
  aio::Task<Result<unsigned>> partitions(std::string topic);

  aio::Task<void> stop();

  // ---- for producers and consumers

  aio::Executor executor() const { return executor_; }
  const Options& options() const { return options_; }
  uint64_t next_id() { return next_id_++; }  // of requests, producers and consumers
  // A connection to the broker that serves the topic.
  aio::Task<Result<std::shared_ptr<Connection>>> connection_for(std::string topic);

 private:
  struct Address {
    std::string host;
    std::string port;
    std::string text() const { return host + ":" + port; }
  };
  static Result<Address> parse_address(std::string_view url);

  Client(aio::Executor executor, Options options, std::vector<Address> addresses);
  aio::Task<Result<std::shared_ptr<Connection>>> connection_to(Address address);
  aio::Task<Result<std::shared_ptr<Connection>>> any_connection();

  aio::Executor executor_;
  const Options options_;
  const std::vector<Address> addresses_;
  size_t next_address_ = 0;
  uint64_t next_id_ = 0;
  std::map<std::string, std::shared_ptr<Connection>> connections_;
  std::map<std::string, std::shared_ptr<aio::Event>> opening_;
  aio::Gate gate_;
};

}  // namespace hulse::client

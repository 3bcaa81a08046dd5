// Client: the Pulsar client of this program. Finds brokers, keeps connections, makes producers and
// consumers. The runtime reaches the bus through this folder only.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "aio/gate.h"
#include "client/connection.h"
#include "client/consumer.h"
#include "client/lookup.h"
#include "client/producer.h"
#include "client/security.h"
#include "client/topic_producer.h"

namespace hulse::client {

struct Options {
  std::string service_url = "pulsar://localhost:6650";  // service_url.h
  aio::Duration connect_timeout = std::chrono::seconds(10);
  aio::Duration operation_timeout = std::chrono::seconds(30);  // one lookup, create, seek …
  // How often new partitions and new topics of a pattern are looked for.
  aio::Duration discovery_period = std::chrono::seconds(60);
  // What all producers together may hold without a receipt; see Producer::wait_for_room().
  size_t memory_bytes_max = 64 << 20;
  std::string listener_name;  // which of the brokers' advertised listeners; empty: theirs to choose
  Security security;
};

// A schema as the registry knows it.
struct KnownSchema {
  pb::Schema schema;
  std::string version;  // what messages carry
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
  // The same for each partition of a partitioned topic, those that come later included.
  aio::Task<Result<std::shared_ptr<TopicProducer>>> create_topic_producer(ProducerOptions options);
  aio::Task<Result<std::shared_ptr<Consumer>>> subscribe(ConsumerOptions options);

  // 0: the topic is not partitioned.
  aio::Task<Result<unsigned>> partitions(std::string topic);
  // Of "tenant/namespace".
  aio::Task<Result<TopicList>> topics(std::string name_space, std::string hash);

  // The topic's schema of that version; kept, for a version never changes. Empty: the latest.
  // Code::not_found when there is none.
  aio::Task<Result<KnownSchema>> schema(std::string topic, std::string version);
  // The version of that schema on the topic; it is added if it is not there and may be.
  aio::Task<Result<std::string>> register_schema(std::string topic, pb::Schema schema);

  aio::Task<void> stop();

  // ---- for producers, consumers and lookups

  aio::Executor executor() const { return executor_; }
  const Options& options() const { return options_; }
  const ServiceUrl& service_url() const { return service_url_; }
  uint64_t next_id() { return next_id_++; }  // of requests, producers and consumers
  // A connection to the broker that serves the topic.
  aio::Task<Result<std::shared_ptr<Connection>>> connection_for(std::string topic);
  // One to any address of the service URL.
  aio::Task<Result<std::shared_ptr<Connection>>> service_connection();
  aio::Task<Result<std::shared_ptr<Connection>>> connection_to(Address address, std::string target);

  // What producers hold without a receipt.
  bool has_memory() const { return memory_bytes_ < options_.memory_bytes_max; }
  void take_memory(size_t bytes) { memory_bytes_ += bytes; }
  void give_memory(size_t bytes);
  aio::Event& memory_given() { return memory_given_; }

 private:
  Client(aio::Executor executor, Options options, ServiceUrl service_url);

  template <class T>
  using Attempt = std::function<aio::Task<Result<T>>()>;
  // Until it succeeds, fails for good, or the operation timeout is over.
  template <class T>
  aio::Task<Result<T>> persist(std::string what, Attempt<T> attempt);
  aio::Task<Result<pb::BaseCommand>> ask_broker(std::string topic, pb::BaseCommand command,
                                                uint64_t request_id);

  aio::Executor executor_;
  const Options options_;
  const ServiceUrl service_url_;
  std::unique_ptr<Lookup> lookup_;
  size_t next_address_ = 0;
  uint64_t next_id_ = 0;
  std::map<std::string, std::shared_ptr<Connection>> connections_;
  std::map<std::string, std::shared_ptr<aio::Event>> opening_;
  std::map<std::pair<std::string, std::string>, KnownSchema> schemas_;  // by topic and version
  size_t memory_bytes_ = 0;
  aio::Event memory_given_;
  aio::Gate gate_;
};

}  // namespace hulse::client

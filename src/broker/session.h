// Session: one client connection of the broker.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "aio/framed.h"
#include "aio/gate.h"
#include "broker/broker.h"
#include "broker/link.h"

namespace hulse::broker {

class Session : public Link, public std::enable_shared_from_this<Session> {
 public:
  // shared_from_this: its producers and consumers point back to it from topics.
  // With a `tls` context the connection begins with TLS's handshake.
  Session(Broker& broker, aio::Socket socket, aio::TlsContext tls, std::string address);
  ~Session() override;

  // Serves until the connection ends or it is cancelled.
  aio::Task<void> run();

  void send(const pb::BaseCommand& command) override;
  void send(const pb::BaseCommand& command, const Bytes& entry) override;
  bool writable() const override;
  void published(size_t bytes) override;
  void error(uint64_t request_id, pb::ServerError code, const std::string& message) override;
  void success(uint64_t request_id) override;
  void drop_consumer(uint64_t consumer_id) override;
  void drop_producer(uint64_t producer_id) override;
  void forget_producer(uint64_t producer_id) override;
  std::string address() const override { return address_; }
  const std::string& client_version() const override { return client_version_; }
  const std::string& role() const override { return identity_.role; }

 private:
  aio::Task<Result<void>> read();
  aio::Task<void> write();
  aio::Task<void> refill();
  aio::Task<void> keep_alive();
  aio::Task<void> watch_expiry();
  void let_go();

  aio::Task<Result<void>> authenticate(auth::Credentials credentials);
  aio::Task<Result<void>> on_connect(pb::CommandConnect command);
  aio::Task<Result<void>> on_auth_response(pb::CommandAuthResponse command);
  void check_expiry();
  aio::Task<void> say_goodbye();
  // Why the role may not, if so.
  std::optional<Topic::Refusal> forbid(Action action, const std::string& topic,
                                       const std::string& subscription = {}) const;
  Result<void> handle(wire::Frame frame);
  void on_partitions(const pb::CommandPartitionedTopicMetadata& command);
  void on_lookup(const pb::CommandLookupTopic& command);
  void on_producer(const pb::CommandProducer& command);
  aio::Task<void> check_producer_schema(std::shared_ptr<Topic> topic, pb::CommandProducer command);
  void admit_producer(const std::shared_ptr<Topic>& topic, const pb::CommandProducer& command,
                      const std::string& schema_version);
  Result<void> on_send(const pb::CommandSend& command, Bytes entry);
  void send_error(const pb::CommandSend& command, pb::ServerError code, const std::string& message);
  void on_subscribe(const pb::CommandSubscribe& command);
  aio::Task<void> check_consumer_schema(std::shared_ptr<Topic> topic, pb::CommandSubscribe command);
  void find_position(const std::shared_ptr<Topic>& topic, const pb::CommandSubscribe& command);
  void on_get_schema(const pb::CommandGetSchema& command);
  aio::Task<void> get_or_create_schema(pb::CommandGetOrCreateSchema command);
  aio::Task<void> subscribe_at_time(std::shared_ptr<Topic> topic, pb::CommandSubscribe command);
  void subscribe(const std::shared_ptr<Topic>& topic, const pb::CommandSubscribe& command,
                 uint64_t position);
  void on_ack(const pb::CommandAck& command);
  void on_unsubscribe(const pb::CommandUnsubscribe& command);
  void on_seek(const pb::CommandSeek& command);
  aio::Task<void> seek_to_time(std::shared_ptr<Consumer> consumer, pb::CommandSeek command);
  void seek(const std::shared_ptr<Consumer>& consumer, uint64_t request_id, uint64_t index);
  aio::Task<void> last_message_id(std::shared_ptr<Consumer> consumer, uint64_t request_id);
  void on_consumer_stats(const pb::CommandConsumerStats& command);
  void on_topics(const pb::CommandGetTopicsOfNamespace& command);
  aio::Task<void> filter_topics(pb::CommandGetTopicsOfNamespace command,
                                std::vector<std::string> topics);
  void tell_topics(const pb::CommandGetTopicsOfNamespace& command,
                   const std::vector<std::string>& topics, bool filtered);
  std::shared_ptr<Consumer> consumer(uint64_t id) const;
  // Also one that a seek has sent away and that is not back yet.
  std::shared_ptr<Consumer> consumer_or_returning(uint64_t id) const;

  Broker& broker_;
  aio::Stream stream_;
  aio::TlsContext tls_;
  const std::string address_;
  aio::Gate gate_;
  aio::FrameReader reader_;
  aio::FrameWriter writer_;
  bool connected_ = false;
  bool ended_ = false;
  bool heard_ = true;  // since the last ping
  // A consumer could not be given something because too much was unwritten.
  mutable bool held_back_ = false;
  std::string client_version_;
  auth::Identity identity_;
  bool knows_notes_ = false;  // the client takes what the broker notes before entries
  bool can_refresh_ = false;  // the client answers AUTH_CHALLENGE
  bool challenged_ = false;
  size_t unsynced_bytes_ = 0;
  aio::Event synced_;
  std::unordered_map<uint64_t, std::shared_ptr<Producer>> producers_;
  std::unordered_map<uint64_t, std::shared_ptr<Consumer>> consumers_;
  // Consumers that were sent away and have not subscribed again. Go's client may ask for the next
  // seek or the last message id before it does.
  std::unordered_map<uint64_t, std::shared_ptr<Consumer>> returning_;
  // Producers that were closed a moment ago: what they still send is dropped, as Pulsar does.
  std::unordered_set<uint64_t> closed_producers_;
};

}  // namespace hulse::broker

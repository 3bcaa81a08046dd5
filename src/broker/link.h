// What topics know of a connection: where frames for its producers and consumers go, and the two
// ends of a topic that a connection holds. Everything lives on the broker's strand.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>

#include "base/bytes.h"
#include "broker/meter.h"
#include "wire/frame.h"

namespace hulse::broker {

namespace pb = wire::pb;

// A connection as topics see it. It may outlive its socket: what is sent then goes nowhere.
class Link {
 public:
  virtual ~Link() = default;
  virtual void send(const pb::BaseCommand& command) = 0;
  virtual void send(const pb::BaseCommand& command, const Bytes& entry) = 0;
  // False while so much waits to be written that no more messages should be handed over; the topic
  // is told through Subscription::dispatch() when that has changed.
  virtual bool writable() const = 0;
  // The producer's share of what the connection may have unsynced went down.
  virtual void published(size_t bytes) = 0;
  virtual void error(uint64_t request_id, pb::ServerError code, const std::string& message) = 0;
  virtual void success(uint64_t request_id) = 0;
  // The broker ends a consumer (or producer) on its own: tells the client, which comes back.
  virtual void drop_consumer(uint64_t consumer_id) = 0;
  virtual void drop_producer(uint64_t producer_id) = 0;
  // A fenced producer is told nothing: what it sends next ends its connection, and when it comes
  // back it learns why (as Apache Pulsar 4.0.8 does).
  virtual void forget_producer(uint64_t producer_id) = 0;
  virtual std::string address() const = 0;  // "127.0.0.1:40312"
  virtual const std::string& client_version() const = 0;
  virtual const std::string& role() const = 0;  // empty without authentication
};

class Topic;
class Subscription;

struct Producer {
  std::shared_ptr<Link> link;
  std::shared_ptr<Topic> topic;
  uint64_t id = 0;
  std::string name;
  uint64_t epoch = 0;
  pb::ProducerAccessMode access = pb::Shared;
  // One of its entries could not be stored: what it sends is refused until it comes anew, so that
  // nothing takes the place of what is missing.
  bool broken = false;
  std::optional<uint64_t> topic_epoch;  // of an exclusive one: the client's, then its own
  int64_t since = 0;                    // milliseconds since 1970
  std::map<std::string, std::string> metadata;
  Meter in;
};

struct Consumer {
  std::shared_ptr<Link> link;
  std::shared_ptr<Topic> topic;
  std::shared_ptr<Subscription> subscription;
  uint64_t id = 0;
  std::string name;
  int priority = 0;
  int64_t permits = 0;  // messages it can take; a batch may drive it below zero
  uint64_t epoch = 0;   // CommandMessage.consumer_epoch
  bool has_epoch = false;
  // Shared: entries delivered and not acknowledged, with their number of messages.
  std::unordered_map<uint64_t, uint32_t> pending;
  uint64_t unacked = 0;  // messages in `pending`
  bool reads_compacted = false;
  bool out_of_order = false;  // Key_Shared: a moved key need not wait for its old consumer
  bool sticky = false;        // Key_Shared: it has the hashes of `ranges`, both ends included
  std::vector<std::pair<uint32_t, uint32_t>> ranges;
  bool blocked = false;   // by its number of unacknowledged messages
  bool told_end = false;  // that a terminated topic has been read to its end
  Meter out;
  Meter redelivered;
  Meter acked;
  uint64_t entries_out = 0;
  int64_t since = 0;  // milliseconds since 1970, as what follows; 0: never
  int64_t flow_ms = 0;
  int64_t consumed_ms = 0;
  int64_t acked_ms = 0;
  std::map<std::string, std::string> metadata;
};

}  // namespace hulse::broker

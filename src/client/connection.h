// Connection: one TCP connection to a broker, shared by the producers and consumers of a client.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "aio/event.h"
#include "aio/framed.h"
#include "aio/gate.h"
#include "aio/task.h"
#include "base/result.h"
#include "client/security.h"
#include "client/service_url.h"
#include "wire/frame.h"

namespace hulse::client {

namespace pb = wire::pb;

// A producer or consumer as its connection sees it. Detached before it is destroyed.
class Attached {
 public:
  virtual ~Attached() = default;
  // SEND_RECEIPT, SEND_ERROR, CLOSE_PRODUCER for producers; MESSAGE, CLOSE_CONSUMER,
  // ACTIVE_CONSUMER_CHANGE, REACHED_END_OF_TOPIC for consumers.
  virtual void on_frame(const wire::Frame& frame) = 0;
  // The connection is of no use any more. Called once.
  virtual void on_closed(const Error& why) = 0;
};

// Lives on the client's strand.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  // shared_from_this: kept by the client's pool and by whoever is attached.
  // `security` outlives it.
  Connection(aio::Executor executor, const Security& security);
  ~Connection();

  // Connects, under TLS if the address says so, and says CONNECT; bounded by `timeout`. Through a
  // proxy `target` is the broker behind it ("host:port"), else empty.
  aio::Task<Result<void>> open(Address address, std::string target, aio::Duration timeout);
  // Serves until the connection ends; attached ones are told then.
  aio::Task<void> run();

  bool closed() const { return closed_; }
  const Address& address() const { return address_; }
  size_t message_bytes_max() const { return message_bytes_max_; }
  const std::string& server_version() const { return server_version_; }

  // Sends and waits for the answer with that request id; an answer that is an error becomes an
  // Error.
  aio::Task<Result<pb::BaseCommand>> request(pb::BaseCommand command, uint64_t request_id,
                                             aio::Duration timeout);
  void send(const pb::BaseCommand& command);
  void send(const pb::BaseCommand& command, const Bytes& entry);

  void attach_producer(uint64_t id, Attached* producer) { producers_[id] = producer; }
  void attach_consumer(uint64_t id, Attached* consumer) { consumers_[id] = consumer; }
  void detach_producer(uint64_t id) { producers_.erase(id); }
  void detach_consumer(uint64_t id) { consumers_.erase(id); }

 private:
  struct Waiting {
    explicit Waiting(aio::Executor executor) : answered(executor) {}
    aio::Event answered;
    std::optional<Result<pb::BaseCommand>> answer;
  };

  aio::Task<Result<void>> connect(Address address, std::string target);
  aio::Task<Result<void>> say_connect(std::string target);
  Result<void> answer_challenge();
  aio::Task<Result<void>> read();
  aio::Task<void> write();
  aio::Task<void> keep_alive();
  Result<void> handle(const wire::Frame& frame);
  void answer(uint64_t request_id, const pb::BaseCommand& command);
  void close(const Error& why);

  aio::Executor executor_;
  const Security& security_;
  aio::Stream stream_;
  aio::Gate gate_;
  aio::FrameReader reader_;
  aio::FrameWriter writer_;
  Address address_;
  std::string where_;  // host:port, and the broker behind it
  bool closed_ = false;
  bool heard_ = true;
  std::optional<Error> why_closed_;
  size_t message_bytes_max_ = wire::kMessageBytesMax;
  std::string server_version_;
  std::unordered_map<uint64_t, std::shared_ptr<Waiting>> waiting_;
  std::unordered_map<uint64_t, Attached*> producers_;
  std::unordered_map<uint64_t, Attached*> consumers_;
};

// The protocol's error as ours: what the other side said, and whether trying again can help
// (Code::unavailable) or not.
Error to_error(pb::ServerError code, const std::string& message);

// Whether a failure may pass by itself: the broker is not there now, or not ready.
bool can_pass(const Error& error);

}  // namespace hulse::client

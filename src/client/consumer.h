// Consumer: the entries of one topic (or partition) by subscription. Hands out whole entries, in
// the order they came; acknowledgements are confirmed by the broker and repeated after a reconnect,
// and an entry that is still held, or whose acknowledgement is not confirmed, is not handed out
// again.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aio/gate.h"
#include "base/ids.h"
#include "client/connection.h"
#include "wire/messages.h"

namespace hulse::client {

class Client;

struct ConsumerOptions {
  std::string topic;
  std::string subscription;
  pb::CommandSubscribe::SubType type = pb::CommandSubscribe::Shared;
  pb::CommandSubscribe::InitialPosition initial_position = pb::CommandSubscribe::Latest;
  bool durable = true;
  std::optional<MessageId> start;  // not durable: begin at it
  std::string name;
  std::vector<std::pair<std::string, std::string>> properties;
  // What may be on its way or wait here. Permits follow from both and from the size of what came.
  size_t messages_max = 1000;
  size_t bytes_max = 8 << 20;
};

// Lives on the client's strand.
class Consumer : public Attached, public std::enable_shared_from_this<Consumer> {
 public:
  // shared_from_this: its coroutines keep it.
  Consumer(Client& client, ConsumerOptions options);
  ~Consumer() override;

  // Through Client::subscribe.
  aio::Task<Result<void>> open();

  // The next entry's messages; it may have none to deliver (acknowledge it all the same).
  // Code::closed when the topic was terminated and has been read to its end; another error has
  // ended the consumer.
  aio::Task<Result<std::shared_ptr<wire::Messages>>> receive();

  // An entry (batch_index is ignored). Order does not matter; nothing is waited for.
  void ack(const MessageId& entry);
  // The entry and everything before it.
  void ack_until(const MessageId& entry);
  // Until the broker has confirmed every acknowledgement.
  aio::Task<Result<void>> flush_acks();

  // The newest message of the topic; entry -1 when it has none.
  aio::Task<Result<MessageId>> last_message_id();

  // Removes the subscription with its position.
  aio::Task<Result<void>> unsubscribe();
  aio::Task<void> close();

  const std::string& topic() const { return options_.topic; }
  const std::string& subscription() const { return options_.subscription; }
  // What has come and was not taken yet.
  size_t queued_bytes() const;
  bool active() const { return active_; }  // failover: it is this one's turn

  void on_frame(const wire::Frame& frame) override;
  void on_closed(const Error& why) override;

 private:
  using Position = std::pair<uint64_t, uint64_t>;  // ledger, entry
  enum class State : uint8_t { queued, taken, acked };
  struct Received {
    MessageId id;
    std::vector<int64_t> ack_set;
    uint32_t redelivery_count = 0;
    Bytes entry;
  };

  aio::Task<Result<void>> connect();
  aio::Task<void> run();
  aio::Task<void> send_acks();
  void give_permits(uint32_t taken);
  void flow(uint32_t permits);
  static uint32_t permits_of(const Received& received, uint32_t batch_size);

  Client& client_;
  const ConsumerOptions options_;
  const uint64_t id_;
  aio::Gate gate_;
  aio::Event changed_;  // connection, queue, failure
  aio::Event acks_changed_;
  std::shared_ptr<Connection> connection_;
  std::optional<Error> failed_;
  bool active_ = true;
  bool ended_ = false;  // REACHED_END_OF_TOPIC
  bool closed_while_opening_ = false;
  bool closing_ = false;  // what is not acknowledged by now comes again

  std::deque<Received> queue_;
  std::map<Position, State> held_;
  std::optional<MessageId> last_taken_;  // a reader goes on after it

  size_t window_ = 0;   // permits the broker may have
  size_t to_give_ = 0;  // taken, not given back as permits
  uint64_t seen_messages_ = 0;
  uint64_t seen_bytes_ = 0;

  std::vector<Position> acks_;         // to be sent
  std::optional<Position> ack_until_;  // to be sent
  size_t acks_in_flight_ = 0;
};

}  // namespace hulse::client

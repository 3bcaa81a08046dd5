// Consumer: the entries of one topic (or partition) by subscription. Hands out whole entries, in
// the order they came; acknowledgements are confirmed by the broker and repeated after a reconnect,
// and an entry that is still held, or whose acknowledgement is not confirmed, is not handed out
// again.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/ids.h"
#include "client/chunks.h"
#include "client/handler.h"
#include "wire/messages.h"

namespace hulse::client {

struct ConsumerOptions {
  std::string topic;
  std::string subscription;
  pb::CommandSubscribe::SubType type = pb::CommandSubscribe::Shared;
  pb::CommandSubscribe::InitialPosition initial_position = pb::CommandSubscribe::Latest;
  bool durable = true;
  std::optional<MessageId> start;  // not durable: begin behind it
  bool start_inclusive = false;    // … or at it
  bool read_compacted = false;     // Exclusive and Failover only
  std::string name;
  int32_t priority = 0;  // 0 is served first
  std::optional<pb::KeySharedMeta> key_shared;
  std::optional<pb::Schema> schema;
  std::vector<std::pair<std::string, std::string>> properties;
  // What may be on its way or wait here. Permits follow from both and from the size of what came.
  size_t messages_max = 1000;
  size_t bytes_max = 8 << 20;
  ChunkLimits chunks;
};

// Lives on the client's strand.
class Consumer : public Handler {
 public:
  Consumer(Client& client, ConsumerOptions options);
  ~Consumer() override;

  // Through Client::subscribe.
  aio::Task<Result<void>> open();

  // The next entry's messages; it may have none to deliver (acknowledge it all the same). A message
  // that came in chunks has the id of its last one and stands for all of them. What cannot be read,
  // or put together, has `damage`.
  // Code::closed when the topic was terminated and has been read to its end; another error has
  // ended the consumer.
  aio::Task<Result<std::shared_ptr<wire::Messages>>> receive();
  bool has_queued() const { return !queue_.empty(); }

  // An entry (batch_index is ignored). Order does not matter; nothing is waited for.
  void ack(const MessageId& entry);
  // One message of a batch; the entry, when none of it is left. The broker keeps it if its
  // acknowledgmentAtBatchIndexLevelEnabled is on; otherwise the whole entry comes again.
  void ack_message(const MessageId& message);
  // The entry and everything before it, but for chunks of messages that are not acknowledged.
  void ack_until(const MessageId& entry);
  // Until the broker has confirmed every acknowledgement.
  aio::Task<Result<void>> flush_acks();

  // The entry comes again after `delay`; with Exclusive and Failover everything unacknowledged
  // does, in order. Not for what was acknowledged.
  void redeliver(const MessageId& entry, aio::Duration delay);

  // The next message is that one, or the first published at that time (milliseconds since 1970) or
  // later. What is held is forgotten: acknowledging it does nothing any more.
  aio::Task<Result<void>> seek(MessageId message);
  aio::Task<Result<void>> seek(int64_t publish_time);

  // The newest message of the topic; entry -1 when it has none.
  aio::Task<Result<MessageId>> last_message_id();
  // How much of the topic its subscription has not acknowledged, as the broker counts: messages on
  // our own broker, entries on Apache Pulsar.
  aio::Task<Result<uint64_t>> backlog();
  // The last entry that was handed out.
  const std::optional<MessageId>& last_taken() const { return last_taken_; }

  // Removes the subscription with its position.
  aio::Task<Result<void>> unsubscribe();
  aio::Task<void> close();

  const std::string& subscription() const { return options_.subscription; }
  // What has come and was not taken yet.
  size_t queued_bytes() const;
  bool active() const { return active_; }  // failover: it is this one's turn

  void on_frame(const wire::Frame& frame) override;

 private:
  enum class State : uint8_t { queued, part, taken, acked };
  struct Received {
    MessageId id;
    std::vector<int64_t> ack_set;
    uint32_t redelivery_count = 0;
    Bytes entry;
  };
  struct Held {
    State state = State::queued;
    uint32_t batch_size = 1;
    std::vector<int64_t> left;    // bit i set: message i is not acknowledged; empty: none is
    std::vector<Position> parts;  // of a message in chunks: the entries before this one
  };
  using HeldMap = std::map<Position, Held>;

  aio::Task<Result<void>> connect() override;
  void give_up(const Error& why) override;
  void on_message(const wire::Frame& frame);
  std::shared_ptr<wire::Messages> take(Received received);
  std::shared_ptr<wire::Messages> take_chunk(const Received& received, const wire::Messages& part);
  void hold(Position position, std::vector<Position> parts, uint32_t batch_size);
  void hand_out(DroppedChunks dropped);
  void skip_before_start(wire::Messages& messages) const;
  bool ordered() const {
    return options_.type == pb::CommandSubscribe::Exclusive ||
           options_.type == pb::CommandSubscribe::Failover;
  }
  aio::Task<Result<void>> seek_to(pb::BaseCommand command, uint64_t request_id,
                                  std::optional<MessageId> target);
  void forget();

  aio::Task<void> send_acks();
  bool fill_in(pb::CommandAck& ack, std::vector<Position>& sent, std::optional<Position>& until);
  void confirmed(const std::vector<Position>& sent, const std::optional<Position>& until);
  aio::Task<void> send_redeliveries();
  void redeliver_now(std::vector<Position> due);
  aio::Task<void> expire_chunks();

  void give_permits(uint32_t taken);
  void flow(uint32_t permits);
  static uint32_t permits_of(const Received& received, uint32_t batch_size);

  const ConsumerOptions options_;
  aio::Event acks_changed_;
  aio::Event redeliveries_changed_;
  bool active_ = true;
  bool ended_ = false;    // REACHED_END_OF_TOPIC
  bool closing_ = false;  // what is not acknowledged by now comes again
  bool seeking_ = false;
  uint64_t epoch_ = 0;
  uint64_t life_ = 0;  // counts the seeks: what was held before one means nothing any more

  std::deque<Received> queue_;
  std::deque<std::shared_ptr<wire::Messages>> ready_;  // before the queue: given up chunks
  HeldMap held_;                                       // durable only: a reader goes by last_taken_
  size_t in_chunks_ = 0;                               // of held_: those with parts
  Chunks chunks_;
  std::optional<MessageId> start_;
  bool start_inclusive_ = false;
  std::optional<MessageId> last_taken_;  // a reader goes on after it

  size_t window_ = 0;   // permits the broker may have
  size_t to_give_ = 0;  // taken, not given back as permits
  uint64_t seen_messages_ = 0;
  uint64_t seen_bytes_ = 0;

  std::set<Position> acks_;            // to be sent
  std::set<Position> partial_acks_;    // to be sent: what is left of them stands in held_
  std::optional<Position> ack_until_;  // to be sent
  size_t acks_in_flight_ = 0;
  std::multimap<aio::TimePoint, Position> redeliveries_;
};

}  // namespace hulse::client

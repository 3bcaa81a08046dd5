// Producer: messages to one topic (or partition). Gathers them into batches, keeps what is not yet
// receipted and sends it again, in order, after a reconnect.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "aio/gate.h"
#include "base/ids.h"
#include "client/connection.h"
#include "wire/messages.h"

namespace hulse::client {

class Client;

struct ProducerOptions {
  std::string topic;
  std::string name;                  // empty: the broker chooses
  std::string initial_subscription;  // created with the topic, so that nothing sent is trimmed
  pb::CompressionType compression = pb::LZ4;
  size_t batch_messages_max = 1000;
  size_t batch_bytes_max = 128 << 10;
  // How long a batch that is not full may wait while others are on their way. With none on its way
  // a message leaves at once.
  aio::Duration linger = std::chrono::milliseconds(2);
  size_t pending_bytes_max = 16 << 20;  // not receipted; see wait_for_room()
};

// Lives on the client's strand.
class Producer : public Attached, public std::enable_shared_from_this<Producer> {
 public:
  // The id of the last message, when all are stored durably; or why one of them is not.
  using Done = std::function<void(const Result<MessageId>&)>;

  // shared_from_this: its coroutines keep it.
  Producer(Client& client, ProducerOptions options);
  ~Producer() override;

  // Through Client::create_producer.
  aio::Task<Result<void>> open();

  // Copies the messages; never blocks. Whoever sends a lot waits for room first. `done` comes on
  // the strand, in the order of the calls unless one fails.
  void send(std::span<const wire::Outgoing> messages, Done done);

  bool has_room() const { return pending_bytes_ + batch_.size() < options_.pending_bytes_max; }
  // False when cancelled or failed for good.
  aio::Task<bool> wait_for_room();

  // Until everything sent is receipted, or the producer has failed.
  aio::Task<Result<void>> flush();

  // What is not receipted fails with Code::cancelled: flush() first.
  aio::Task<void> close();

  const std::string& topic() const { return options_.topic; }
  size_t message_bytes_max() const { return message_bytes_max_; }

  void on_frame(const wire::Frame& frame) override;
  void on_closed(const Error& why) override;

 private:
  // One call of send(): several entries may carry it.
  struct Ticket {
    size_t open = 0;
    std::optional<Error> error;
    MessageId last;
    Done done;
  };
  struct Pending {
    uint64_t sequence_id = 0;
    uint64_t highest_sequence_id = 0;
    uint32_t messages = 1;
    Bytes entry;
    size_t bytes = 0;  // what it counts for in pending_bytes_: before compression
    std::vector<std::shared_ptr<Ticket>> tickets;
  };

  aio::Task<Result<void>> connect();
  aio::Task<void> run();
  aio::Task<void> flush_late();
  void seal();
  void transmit(const Pending& pending);
  void settle(Pending& pending, const Result<MessageId>& result);
  void settle(const std::shared_ptr<Ticket>& ticket, const Result<MessageId>& result);
  void fail_all(const Error& why);

  Client& client_;
  const ProducerOptions options_;
  const uint64_t id_;
  aio::Gate gate_;
  aio::Event changed_;
  aio::Event linger_;
  std::shared_ptr<Connection> connection_;
  std::string name_;
  uint64_t epoch_ = 0;
  bool closed_while_opening_ = false;
  size_t message_bytes_max_ = wire::kMessageBytesMax;
  std::optional<Error> failed_;
  bool receipted_ = false;  // since run() looked last
  bool refused_ = false;    // the broker could not store: the next try waits
  uint64_t next_sequence_id_ = 0;

  wire::BatchWriter batch_;
  uint64_t batch_first_ = 0;          // sequence id
  wire::pb::MessageMetadata single_;  // of the batch's one message, while it has one
  size_t single_offset_ = 0;          // where its value begins in the batch
  std::vector<std::shared_ptr<Ticket>> batch_tickets_;

  std::deque<Pending> pending_;
  size_t pending_bytes_ = 0;
};

}  // namespace hulse::client

// Producer: messages to one topic (or partition). Gathers them into batches, keeps what is not yet
// receipted and sends it again, in order, after a reconnect.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "client/batch.h"
#include "client/handler.h"

namespace hulse::client {

// Which messages may share an entry.
enum class Batching : uint8_t {
  off,         // none
  together,    // those that follow one another
  by_key,      // those of one key, gathered over those of others: what Key_Shared consumers need
  cut_at_key,  // those that follow one another and have one key: entries keep the messages' order
};

struct ProducerOptions {
  std::string topic;
  std::string name;                  // empty: the broker chooses
  std::string initial_subscription;  // created with the topic, so that nothing sent is trimmed
  pb::CompressionType compression = pb::LZ4;
  Batching batching = Batching::together;
  bool always_batch = false;  // one message alone has the batch's form, too
  size_t batch_messages_max = 1000;
  size_t batch_bytes_max = 128 << 10;
  // How long a batch that is not full may wait while others are on their way. With none on its way
  // a message leaves at once.
  aio::Duration linger = std::chrono::milliseconds(2);
  bool chunking = false;  // a message above the broker's limit is cut into several entries
  size_t pending_bytes_max = 16 << 20;  // not receipted; see wait_for_room()
  // After it a message without a receipt fails with Code::timeout, though it may have been stored.
  // 0: never.
  aio::Duration send_timeout{0};

  pb::ProducerAccessMode access = pb::Shared;  // not WaitForExclusive
  std::optional<uint64_t> topic_epoch;         // exclusive: of the life before
  std::vector<std::pair<std::string, std::string>> properties;
  std::optional<pb::Schema> schema;
  // Whether it comes back on a new connection and sends again what has no receipt. Without, it
  // fails then (Code::fenced): what came, and who else was there meanwhile, only the topic knows.
  bool resend = true;
  // The first sequence id; without it the one after the broker's last of this name.
  std::optional<uint64_t> first_sequence_id;
  // Called for each entry with its messages' tokens; may add properties, which of a batch no
  // consumer sees but ours. Not with Batching::by_key.
  std::function<void(std::span<const uint64_t>, pb::MessageMetadata&)> mark_entry;
};

// Lives on the client's strand.
class Producer : public Handler {
 public:
  // The id of the last message, when all are stored durably (entry -1: the broker's deduplication
  // knew them already); or why one of them is not.
  using Done = std::function<void(const Result<MessageId>&)>;

  Producer(Client& client, ProducerOptions options);
  ~Producer() override;

  // Through Client::create_producer.
  aio::Task<Result<void>> open();

  // Copies the messages; never blocks. Whoever sends a lot waits for room first. `done` comes on
  // the strand, in the order of the calls unless one fails.
  void send(std::span<const wire::Outgoing> messages, Done done);

  bool has_room() const;
  // False when cancelled or failed for good.
  aio::Task<bool> wait_for_room();

  // Until everything sent is receipted, or the producer has failed.
  aio::Task<Result<void>> flush();

  // What is not receipted fails with Code::cancelled: flush() first.
  aio::Task<void> close();

  const std::string& name() const { return name_; }
  size_t message_bytes_max() const { return message_bytes_max_; }
  // The last sequence id the broker knew of this name when it was opened; -1: none.
  int64_t last_sequence_id() const { return last_sequence_id_; }
  const std::string& schema_version() const { return schema_version_; }
  std::optional<uint64_t> topic_epoch() const { return topic_epoch_; }
  // Why it has ended, if it has.
  const std::optional<Error>& failed() const { return failed_; }

  void on_frame(const wire::Frame& frame) override;

 private:
  struct Pending {
    uint64_t sequence_id = 0;
    uint64_t highest_sequence_id = 0;
    uint32_t messages = 1;
    bool chunk = false;
    Bytes entry;
    size_t bytes = 0;  // what it counts for in pending_bytes_: before compression
    aio::TimePoint since{};
    Tickets tickets;
  };

  aio::Task<Result<void>> connect() override;
  void give_up(const Error& why) override;
  bool passes(const Error& why, bool first) const override;
  bool proved() override { return std::exchange(receipted_, false); }
  aio::Task<void> flush_late();
  aio::Task<void> expire();

  void add(const wire::Outgoing& message, const std::shared_ptr<Ticket>& ticket);
  void send_large(const wire::Outgoing& message, const std::shared_ptr<Ticket>& ticket);
  Batch& batch_for(const wire::Outgoing& message);
  size_t gathered() const;
  size_t gathered_bytes() const;
  void seal();
  Result<void> seal(Batch& batch, const Tickets& tickets);
  void fill_in(pb::MessageMetadata& metadata, uint64_t sequence_id) const;
  void enqueue(Pending pending, std::string entry);
  void transmit(const Pending& pending);
  void on_receipt(const pb::CommandSendReceipt& receipt);
  void on_send_error(const pb::CommandSendError& error);
  // Of the head: its message, with all of its chunks if it has any.
  void fail_head(const Error& why);
  Pending take_head();

  const ProducerOptions options_;
  aio::Event linger_;
  std::string name_;
  uint64_t epoch_ = 0;
  std::optional<uint64_t> topic_epoch_;
  std::string schema_version_;
  size_t message_bytes_max_ = wire::kMessageBytesMax;
  bool receipted_ = false;  // since it was last asked
  bool opened_ = false;
  int64_t last_sequence_id_ = -1;
  uint64_t next_sequence_id_ = 0;

  std::vector<Batch> batches_;  // the first open_ are in use; the others are kept for their memory
  size_t open_ = 0;
  uint64_t seals_ = 0;
  std::unordered_map<std::string, size_t> batch_of_key_;  // by_key

  std::deque<Pending> pending_;
  size_t pending_bytes_ = 0;
};

}  // namespace hulse::client

// Batch: messages gathered for one entry. Used by Producer.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "wire/messages.h"

namespace hulse::client {

// One call of Producer::send(): several entries may carry it.
struct Ticket {
  size_t open = 0;  // entries that carry a part of it
  std::optional<Error> error;
  MessageId last;
  std::function<void(const Result<MessageId>&)> done;

  // One entry is stored, or never will be; the last one tells whoever sent.
  void settle(const Result<MessageId>& result);
  void close();
};
using Tickets = std::vector<std::shared_ptr<Ticket>>;

class Batch {
 public:
  void add(const wire::Outgoing& message, std::optional<uint64_t> sequence_id,
           const std::shared_ptr<Ticket>& ticket);
  // Forgets the messages and keeps the memory.
  void clear();

  uint32_t count() const { return writer_.count(); }
  size_t bytes() const { return writer_.size(); }
  // What the first message is ordered by.
  const std::optional<std::string>& key() const { return key_; }
  const std::vector<uint64_t>& tokens() const { return tokens_; }
  Tickets take_tickets() { return std::exchange(tickets_, {}); }

  // The payload of the batch's form; of the plain form, which one message alone may have.
  std::string_view payload() const { return writer_.payload(); }
  std::string_view value_of_first() const;
  // The metadata of the first message in the plain form.
  wire::pb::MessageMetadata& described() { return described_; }

 private:
  wire::BatchWriter writer_;
  wire::pb::MessageMetadata described_;
  size_t value_offset_ = 0;
  size_t value_size_ = 0;
  std::optional<std::string> key_;
  std::vector<uint64_t> tokens_;
  Tickets tickets_;
};

// The key a message is ordered by: its ordering key, else its key.
std::optional<std::string_view> order_of(const wire::Outgoing& message);

}  // namespace hulse::client

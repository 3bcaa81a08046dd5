#include "client/batch.h"

namespace hulse::client {

void Ticket::settle(const Result<MessageId>& result) {
  if (result) {
    last = *result;
  } else if (!error) {
    error = result.error();
  }
  close();
}

void Ticket::close() {
  if (--open > 0 || !done) return;
  const auto tell = std::move(done);
  done = nullptr;
  tell(error ? Result<MessageId>(*error) : Result<MessageId>(last));
}

std::optional<std::string_view> order_of(const wire::Outgoing& message) {
  return message.ordering_key ? message.ordering_key : message.key;
}

void Batch::add(const wire::Outgoing& message, std::optional<uint64_t> sequence_id,
                const std::shared_ptr<Ticket>& ticket) {
  const bool first = count() == 0;
  if (first) {
    described_.Clear();
    wire::describe(message, described_);
    const auto key = order_of(message);
    key_ = key ? std::optional<std::string>(*key) : std::nullopt;
  }
  writer_.append(message, sequence_id);
  if (first) {
    value_size_ = message.value.size();
    value_offset_ = writer_.size() - value_size_;
  }
  tokens_.push_back(message.token);
  if (tickets_.empty() || tickets_.back() != ticket) {
    ++ticket->open;
    tickets_.push_back(ticket);
  }
}

void Batch::clear() {
  writer_.clear();
  tokens_.clear();
  tickets_.clear();
}

std::string_view Batch::value_of_first() const {
  return std::string_view(writer_.payload()).substr(value_offset_, value_size_);
}

}  // namespace hulse::client

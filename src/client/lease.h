// Lease: being the only one. Held as an exclusive producer on a topic of its own, which fences
// whoever held it before.
//
// Nobody tells a fenced holder: its next send ends its connection, and only the answer to its
// introduction on the next one says ProducerFenced. So the holder sends every `beat`. A lost
// connection alone means nothing: the rightful holder comes back with its own epoch.
#pragma once

#include <memory>
#include <string>

#include "client/client.h"

namespace hulse::client {

struct LeaseOptions {
  std::string topic;
  std::string subscription = "hulse";  // keeps the topic from being deleted as inactive
  std::string holder;                  // what its messages say, for people
  aio::Duration beat = std::chrono::seconds(1);
};

// Lives on the executor it was taken on. Released before it is destroyed.
class Lease : public std::enable_shared_from_this<Lease> {
 public:
  // shared_from_this: its coroutines keep it.
  // Takes it from whoever holds it. It has a client, and so a connection, of its own: a fenced
  // holder's connection is closed with everything on it.
  static aio::Task<Result<std::shared_ptr<Lease>>> take(aio::Executor executor, Options client,
                                                        LeaseOptions options);
  ~Lease();

  // Grows with each holder.
  uint64_t epoch() const { return epoch_; }
  // Why it is lost, if it is known: Code::fenced. It cannot be had again by the same object.
  const std::optional<Error>& lost() const { return producer_->failed(); }
  // Until it is lost, or the caller cancelled.
  aio::Task<Error> wait_lost();
  // That it is held now: a message sent from now on is stored. For after a reconnect, before
  // anything else is opened.
  aio::Task<Result<void>> confirm();

  aio::Task<void> release();

 private:
  Lease(aio::Executor executor, std::unique_ptr<Client> client, LeaseOptions options);
  aio::Task<Result<void>> start();
  aio::Task<void> keep_beating();
  aio::Task<void> keep_clean();
  void send_beat(std::shared_ptr<std::optional<Result<MessageId>>> stored);

  const std::unique_ptr<Client> client_;
  const LeaseOptions options_;
  aio::Gate gate_;
  aio::Event changed_;
  uint64_t epoch_ = 0;
  size_t unanswered_ = 0;
  std::shared_ptr<Producer> producer_;
  std::shared_ptr<Consumer> consumer_;
};

}  // namespace hulse::client

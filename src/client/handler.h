// Handler: what producers and consumers have in common: an id, the connection to the broker of
// their topic, found again whenever it is lost, and an end.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "aio/gate.h"
#include "client/connection.h"

namespace hulse::client {

class Client;

// Lives on the client's strand.
class Handler : public Attached, public std::enable_shared_from_this<Handler> {
 public:
  // shared_from_this: its coroutines keep it.
  ~Handler() override;
  const std::string& topic() const { return topic_; }
  void on_closed(const Error& why) override;

 protected:
  enum class Kind : uint8_t { producer, consumer };
  Handler(Client& client, Kind kind, std::string topic);

  // Introduces it, trying again until the operation timeout what may pass; then keeps it connected.
  aio::Task<Result<void>> begin(std::string name);

  // One attempt to introduce it to the broker: fills in PRODUCER or SUBSCRIBE and calls
  // introduce(). After success connection_ is set.
  virtual aio::Task<Result<void>> connect() = 0;
  // A failure that no new attempt mends.
  virtual void give_up(const Error& why) = 0;
  // Whether `why` may pass by itself, `first` before it was ever introduced.
  virtual bool passes(const Error& why, bool first) const;
  // Whether anything came through since the last call: the backoff begins anew then.
  virtual bool proved() { return true; }

  // Sends the command to the topic's broker and gives its answer; connection_ is set on success.
  aio::Task<Result<pb::BaseCommand>> introduce(pb::BaseCommand command, uint64_t request_id);
  // Takes leave of the connection; keep_connected() makes the next one, after a pause if asked for.
  void lose(bool pause = false);
  // The broker said that it closed us.
  void closed_by_broker();
  // One question on the present connection, waited for if there is none.
  aio::Task<Result<pb::BaseCommand>> ask(pb::BaseCommand command, uint64_t request_id);
  pb::BaseCommand close_command(uint64_t request_id) const;

  Client& client_;
  const std::string topic_;
  const uint64_t id_;
  aio::Gate gate_;
  aio::Event changed_;  // connection, failure, and what the derived class adds
  std::shared_ptr<Connection> connection_;
  std::optional<Error> failed_;

 private:
  aio::Task<void> keep_connected();

  const Kind kind_;
  bool closed_while_opening_ = false;
  bool pause_ = false;
};

}  // namespace hulse::client

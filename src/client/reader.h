// Reader: a topic from a place on, without a subscription that the broker remembers.
#pragma once

#include <memory>
#include <string>

#include "client/consumer.h"

namespace hulse::client {

struct ReaderOptions {
  std::string topic;
  MessageId start = kEarliest;  // the first message is the one behind it
  bool start_inclusive = false;
  bool read_compacted = false;
  std::string name = "reader";  // the subscription's name begins with it
  size_t bytes_max = 8 << 20;
};

// Lives on the client's strand. Closed before it is destroyed.
class Reader {
 public:
  static aio::Task<Result<std::unique_ptr<Reader>>> open(Client& client, ReaderOptions options);

  // The next entry; as Consumer::receive().
  aio::Task<Result<std::shared_ptr<wire::Messages>>> next();
  // Whether the topic has messages that were not handed out yet. One that has only entries without
  // any (markers, chunks of a message that is not complete) says yes and may then wait.
  aio::Task<Result<bool>> has_more();

  // Where it began: a place even if it was told to begin at the latest message.
  const MessageId& begin() const { return start_; }

  aio::Task<Result<void>> seek(MessageId message);
  aio::Task<Result<void>> seek(int64_t publish_time);
  aio::Task<void> close();

 private:
  Reader(std::shared_ptr<Consumer> consumer, ReaderOptions options);

  std::shared_ptr<Consumer> consumer_;
  MessageId start_;
  bool start_inclusive_;
};

}  // namespace hulse::client

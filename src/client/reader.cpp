#include "client/reader.h"

#include "client/client.h"

namespace hulse::client {

Reader::Reader(std::shared_ptr<Consumer> consumer, ReaderOptions options)
    : consumer_(std::move(consumer)),
      start_(options.start),
      start_inclusive_(options.start_inclusive) {}

aio::Task<Result<std::unique_ptr<Reader>>> Reader::open(Client& client, ReaderOptions options) {
  ConsumerOptions subscribe;
  subscribe.topic = options.topic;
  subscribe.subscription = options.name + "-" + random_hex(5);
  subscribe.type = pb::CommandSubscribe::Exclusive;
  subscribe.durable = false;
  subscribe.start = options.start;
  subscribe.start_inclusive = options.start_inclusive;
  subscribe.read_compacted = options.read_compacted;
  subscribe.bytes_max = options.bytes_max;
  auto consumer = co_await client.subscribe(std::move(subscribe));
  if (!consumer) co_return consumer.error();
  std::unique_ptr<Reader> reader(new Reader(std::move(*consumer), std::move(options)));
  if (reader->start_ == kLatest) {
    // has_more() compares with a place that has a number.
    const auto last = co_await reader->consumer_->last_message_id();
    if (!last) {
      co_await reader->close();
      co_return last.error();
    }
    reader->start_ = *last;
    reader->start_inclusive_ = false;
  }
  co_return reader;
}

aio::Task<Result<std::shared_ptr<wire::Messages>>> Reader::next() {
  co_return co_await consumer_->receive();
}

aio::Task<Result<bool>> Reader::has_more() {
  if (consumer_->has_queued()) co_return true;
  const auto last = co_await consumer_->last_message_id();
  if (!last) co_return last.error();
  if (last->entry < 0) co_return false;
  const std::pair end(last->ledger, last->entry);
  if (consumer_->last_taken()) {
    const auto& taken = *consumer_->last_taken();
    co_return end > std::pair(taken.ledger, taken.entry);
  }
  if (start_.ledger < 0) co_return true;
  const std::pair start(start_.ledger, start_.entry);
  if (end != start) co_return end > start;
  // Without a batch index the start means the whole entry.
  if (start_.batch_index < 0) co_return start_inclusive_;
  co_return start_inclusive_ ? last->batch_index >= start_.batch_index
                             : last->batch_index > start_.batch_index;
}

aio::Task<Result<void>> Reader::seek(MessageId message) {
  const auto moved = co_await consumer_->seek(message);
  if (!moved) co_return moved.error();
  start_ = message;
  start_inclusive_ = true;
  co_return Result<void>();
}

aio::Task<Result<void>> Reader::seek(int64_t publish_time) {
  const auto moved = co_await consumer_->seek(publish_time);
  if (!moved) co_return moved.error();
  // Where that lies only the broker knows: the next message tells.
  start_ = kEarliest;
  co_return Result<void>();
}

aio::Task<void> Reader::close() { co_await consumer_->close(); }

}  // namespace hulse::client

#include "runtime/source_instance.h"

#include "aio/timeout.h"
#include "base/log.h"
#include "wire/compression.h"

namespace hulse::runtime {
namespace {
constexpr aio::Duration kStopMax = std::chrono::seconds(5);
}

aio::Task<Ended> SourceInstance::life() {
  client::ProducerOptions options;
  options.topic = component_.output;
  const auto codec = wire::parse_compression(component_.compression);
  if (!codec) co_return Ended{codec.error(), true};
  options.compression = *codec;
  if (!component_.batching) {
    options.batching = client::Batching::off;
  } else if (component_.batch_by_key) {
    options.batching = client::Batching::by_key;
  }
  if (component_.batch_messages_max)
    options.batch_messages_max = static_cast<size_t>(*component_.batch_messages_max);
  if (component_.batch_bytes_max)
    options.batch_bytes_max = static_cast<size_t>(*component_.batch_bytes_max);
  if (component_.batch_delay) options.linger = *component_.batch_delay;
  const auto given = this->given();
  if (!given) co_return after_open(given.error());
  const auto producer = co_await client_->create_topic_producer(options);
  if (!producer) co_return after_open(producer.error());
  context_.message_bytes_max = (*producer)->message_bytes_max();

  auto source = component_.connector->make_source(*given);
  if (!source) {
    co_await (*producer)->close();
    co_return Ended{source.error(), true};
  }
  const auto opened = co_await (*source)->open(context_);
  Ended ended{Error(Code::cancelled, "stopped"), false};
  if (!opened) {
    ended = after_open(opened.error());
  } else {
    running(fmt::format("{} -> {}", (*source)->where(), (*producer)->topic()));
    ended = co_await pump(**source, **producer);
  }
  co_await aio::start_cleanup();
  co_await (*source)->close();
  // What was read is still stored, if the bus takes it.
  const auto flushed =
      co_await aio::with_timeout(kStopMax, "storing what was read last", (*producer)->flush());
  if (!flushed && !flushed.error().cancelled()) log::warn(label(), "{}", flushed.error().text());
  co_await (*producer)->close();
  counters_.returned += counters_.in_flight;
  counters_.in_flight = 0;
  co_return ended;
}

aio::Task<Ended> SourceInstance::pump(connect::Source& source, client::TopicProducer& producer) {
  for (;;) {
    const bool within = co_await wait_for_limit();
    if (!within) co_return Ended{Error(Code::cancelled, "stopped"), false};
    const bool room = co_await producer.wait_for_room();
    if (!room) {
      const auto failed = co_await producer.flush();
      if (failed) co_return Ended{Error(Code::cancelled, "stopped"), false};
      co_return after_open(failed.error());
    }
    auto batch = co_await source.read();
    if (!batch) co_return Ended{batch.error(), false};
    send(producer, std::move(*batch));
  }
}

void SourceInstance::send(client::TopicProducer& producer, connect::SourceBatch batch) {
  outgoing_.clear();
  for (const auto& record : batch.records) {
    outgoing_.push_back({.value = record.value,
                         .key = record.key,
                         .properties = record.properties,
                         .event_time = record.event_time});
  }
  const size_t count = batch.records.size();
  came_in(count, batch.bytes);
  // The producer copies: the batch's buffers are free when this returns.
  producer.send(outgoing_, [self = std::static_pointer_cast<SourceInstance>(shared_from_this()),
                            count, began = aio::Clock::now(),
                            stored = std::move(batch.stored)](const Result<MessageId>& id) {
    self->meters_.write_seconds.observe(
        std::chrono::duration<double>(aio::Clock::now() - began).count());
    self->counters_.in_flight -= std::min<uint64_t>(self->counters_.in_flight, count);
    if (id) {
      self->counters_.written += count;
    } else {
      (id.error().cancelled() ? self->counters_.returned : self->counters_.skipped) += count;
      if (!id.error().cancelled()) {
        self->note_failure(
            "reject", id.error().code(),
            {.text = fmt::format("{} records were not stored: {}", count, id.error().text()),
             .words = id.error().text()});
        log::warn(self->label(), "{} records were not stored: {}", count, id.error().text());
      }
    }
    if (stored) stored(id ? Result<void>() : Result<void>(id.error()));
  });
}

}  // namespace hulse::runtime

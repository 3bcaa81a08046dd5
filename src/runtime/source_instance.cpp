#include "runtime/source_instance.h"

#include "aio/timeout.h"
#include "base/log.h"
#include "runtime/output_options.h"

namespace hulse::runtime {
namespace {

constexpr aio::Duration kStopMax = std::chrono::seconds(5);
// Between two writes of the offset, which are synced like everything else.
constexpr aio::Duration kOffsetPause = std::chrono::milliseconds(100);

}  // namespace

aio::Task<Ended> SourceInstance::life() {
  sent_.clear();
  to_tell_.clear();
  unstored_ = false;
  ended_.reset();
  work_ = std::make_unique<aio::Gate>(executor_);
  changed_ = std::make_unique<aio::Event>(executor_);
  Ended ended{Error(Code::cancelled, "stopped"), false};
  std::unique_ptr<connect::Source> source;
  const auto output = co_await open_output();
  if (!output) {
    ended = after_open(output.error());
    // The name or the offset of an instance that goes.
    if (exact() && output.error().code() == Code::busy) ended.for_good = false;
  } else {
    const auto given = this->given();
    auto made = given ? component_.connector->make_source(*given)
                      : Result<std::unique_ptr<connect::Source>>(given.error());
    if (!given) {
      ended = after_open(given.error());
    } else if (!made) {
      ended = {made.error(), true};
    } else {
      source = std::move(*made);
      const auto opened = co_await source->open(context_);
      if (!opened) {
        ended = after_open(opened.error());
      } else {
        running(fmt::format("{} -> {}", source->where(), component_.output));
        if (offsets_) work_->spawn("offset of " + label(), keep_offset());
        ended = co_await pump(*source);
      }
    }
  }
  co_await aio::start_cleanup();
  if (source) co_await source->close();
  co_await close_output();
  counters_.returned += counters_.in_flight;
  counters_.in_flight = 0;
  co_return ended;
}

aio::Task<Result<void>> SourceInstance::open_output() {
  auto options = output_options(component_);
  if (!options) co_return options.error();
  if (component_.connector->effectively_once) {
    OffsetsOptions where{bus_.name_space, component_.full_name(), index_};
    auto offsets = co_await SourceOffsets::open(*client_, std::move(where));
    if (!offsets) co_return offsets.error();
    offsets_ = std::move(*offsets);
    reached_ = offsets_->offset().positions;
    reached_in_ = offsets_->offset().read_from;
    reached_records_ = offsets_->offset().records;
    // Counters are stored each second, the offset more often: what was stored in between counts.
    if (reached_records_ > counters_.written) {
      const uint64_t uncounted = reached_records_ - counters_.written;
      counters_.received += uncounted;
      counters_.written += uncounted;
    }
    context_.positions = {reached_.begin(), reached_.end()};
  }
  if (!exact()) {
    const auto producer = co_await client_->create_topic_producer(std::move(*options));
    if (!producer) co_return producer.error();
    producer_ = *producer;
    context_.message_bytes_max = producer_->message_bytes_max();
    co_return Result<void>();
  }
  options->name = fmt::format("hulse-{}/{}", component_.full_name(), index_);
  // Alone, a message still has the batch's form, whose outer properties no consumer sees.
  if (options->batching == client::Batching::off) options->batch_messages_max = 1;
  options->batching = options->batching == client::Batching::by_key ? client::Batching::cut_at_key
                                                                    : client::Batching::together;
  exact_ = std::make_unique<ExactOutput>(*client_, std::move(*options), *offsets_);
  const auto opened = co_await exact_->open();
  if (!opened) co_return opened.error();
  context_.message_bytes_max = exact_->message_bytes_max();
  reached_in_ = offsets_->offset().read_from;
  co_return Result<void>();
}

aio::Task<void> SourceInstance::close_output() {
  // What was read is still stored, if the bus takes it.
  if (producer_ || exact_) {
    auto flush = producer_ ? producer_->flush() : exact_->flush();
    const auto flushed =
        co_await aio::with_timeout(kStopMax, "storing what was read last", std::move(flush));
    if (!flushed && !flushed.error().cancelled()) log::warn(label(), "{}", flushed.error().text());
  }
  co_await work_->close();
  if (offsets_ && unstored_) {
    const auto stored = co_await aio::with_timeout(kStopMax, "storing the offset", store_offset());
    if (!stored && !stored.error().cancelled()) log::warn(label(), "{}", stored.error().text());
  }
  if (producer_) co_await producer_->close();
  if (exact_) co_await exact_->close();
  if (offsets_) co_await offsets_->close();
  producer_.reset();
  exact_.reset();
  offsets_.reset();
}

void SourceInstance::end(Ended ended) {
  if (!ended_) ended_ = std::move(ended);
  changed_->notify();
}

aio::Task<Ended> SourceInstance::pump(connect::Source& source) {
  for (;;) {
    const bool within = co_await wait_for_limit();
    if (!within) co_return Ended{Error(Code::cancelled, "stopped"), false};
    auto waiting = producer_ ? producer_->wait_for_room() : exact_->wait_for_room();
    const bool room = co_await std::move(waiting);
    if (ended_) co_return *ended_;
    if (!room) {
      auto flushing = producer_ ? producer_->flush() : exact_->flush();
      const auto failed = co_await std::move(flushing);
      if (ended_) co_return *ended_;
      if (failed) co_return Ended{Error(Code::cancelled, "stopped"), false};
      auto ended = after_open(failed.error());
      if (exact()) ended.for_good = false;
      co_return ended;
    }
    auto batch = co_await source.read();
    if (ended_) co_return *ended_;
    if (!batch) co_return Ended{batch.error(), false};
    const auto sent = co_await send(std::move(*batch));
    if (!sent) co_return Ended{sent.error(), false};
  }
}

aio::Task<Result<void>> SourceInstance::send(connect::SourceBatch batch) {
  const auto sent = std::make_shared<Sent>();
  sent->records = batch.records.size();
  sent->told = std::move(batch.stored);
  if (offsets_) {
    for (const auto& record : batch.records)
      sent->positions[std::string(record.lane)] = record.position;
    sent_.push_back(sent);
  }
  came_in(sent->records, batch.bytes);
  const auto self = std::static_pointer_cast<SourceInstance>(shared_from_this());
  if (exact_) {
    const auto already = co_await exact_->send(batch, [self, sent](ExactOutput::Stored stored) {
      sent->last = std::move(stored.last);
      self->settle(sent, stored.result);
    });
    const auto doubt = exact_->take_doubt();
    if (!doubt.empty()) {
      log::warn(label(), "{}", doubt);
      note_failure("doubt", Code::not_found, {.text = doubt});
    }
    if (!already) {
      if (sent->told) sent->told(already.error());
      co_return already.error();
    }
    counters_.already_stored += *already;
    co_return Result<void>();
  }
  outgoing_.clear();
  for (const auto& record : batch.records) {
    outgoing_.push_back({.value = record.value,
                         .key = record.key,
                         .properties = record.properties,
                         .event_time = record.event_time});
  }
  // The producer copies: the batch's buffers are free when this returns.
  producer_->send(outgoing_, [self, sent](const Result<MessageId>& id) {
    self->settle(sent, id ? Result<void>() : Result<void>(id.error()));
  });
  co_return Result<void>();
}

void SourceInstance::settle(const std::shared_ptr<Sent>& sent, const Result<void>& result) {
  const size_t count = sent->records;
  meters_.write_seconds.observe(
      std::chrono::duration<double>(aio::Clock::now() - sent->began).count());
  counters_.in_flight -= std::min<uint64_t>(counters_.in_flight, count);
  if (result) {
    counters_.written += count;
  } else if (result.error().cancelled() || exact()) {
    counters_.returned += count;
  } else {
    counters_.skipped += count;
    note_failure(
        "reject", result.error().code(),
        {.text = fmt::format("{} records were not stored: {}", count, result.error().text()),
         .words = result.error().text()});
    log::warn(label(), "{} records were not stored: {}", count, result.error().text());
  }
  if (!offsets_) {
    if (sent->told) sent->told(result);
    return;
  }
  if (!result && (exact() || result.error().cancelled())) {
    // What is not stored stays to be read again; what the topic will never take stops it.
    if (!result.error().cancelled())
      end({result.error(), result.error().code() == Code::too_large});
    if (sent->told) sent->told(result);
    return;
  }
  sent->stored = true;
  while (!sent_.empty() && sent_.front()->stored) {
    auto& first = *sent_.front();
    for (auto& [lane, position] : first.positions) reached_[lane] = std::move(position);
    for (const auto& [topic, id] : first.last) reached_in_[topic] = id;
    reached_records_ += first.records;
    if (first.told) to_tell_.push_back(std::move(first.told));
    sent_.pop_front();
    unstored_ = true;
  }
  changed_->notify();
}

aio::Task<void> SourceInstance::keep_offset() {
  for (;;) {
    while (!unstored_) {
      const bool woken = co_await changed_->wait();
      if (!woken) co_return;
    }
    const auto stored = co_await store_offset();
    if (!stored && stored.error().cancelled()) co_return;
    if (!stored) {
      end({stored.error().with("storing the offset"), false});
      co_return;
    }
    const bool slept = co_await aio::sleep(kOffsetPause);
    if (!slept) co_return;
  }
}

// First the data, then the offset, then the source hears of it.
aio::Task<Result<void>> SourceInstance::store_offset() {
  unstored_ = false;
  const auto told = std::exchange(to_tell_, {});
  std::function<void(Offset&)> advance = [positions = reached_, records = reached_records_,
                                          last = reached_in_](Offset& offset) {
    offset.positions = positions;
    offset.records = records;
    for (const auto& [topic, id] : last) offset.read_from[topic] = id;
  };
  const auto stored = co_await offsets_->change(std::move(advance));
  if (!stored) unstored_ = true;
  for (const auto& tell : told) tell(stored);
  co_return stored;
}

}  // namespace hulse::runtime

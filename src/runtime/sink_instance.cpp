#include "runtime/sink_instance.h"

#include <boost/asio/post.hpp>

#include "aio/timeout.h"
#include "base/log.h"
#include "base/text.h"
#include "wire/topic_name.h"

namespace hulse::runtime {
namespace {

constexpr size_t kInFlightBytesMax = 32 << 20;
constexpr size_t kReceiveBytesMax = 8 << 20;
constexpr size_t kReceiveMessagesMax = 20'000;
constexpr aio::Duration kStopMax = std::chrono::seconds(5);
constexpr aio::Duration kLagEvery = std::chrono::seconds(2);
constexpr aio::Duration kOutcomeAlarm = std::chrono::seconds(60);

using connect::Verdict;

}  // namespace

aio::Task<Ended> SinkInstance::life() {
  const auto given = this->given();
  if (!given) co_return after_open(given.error());
  auto made = make_sink(*given);
  if (!made) co_return Ended{made.error(), true};
  sink_ = std::move(*made);
  ++life_;
  ended_.reset();
  work_ = std::make_unique<aio::Gate>(executor_);
  changed_ = std::make_unique<aio::Event>(executor_);
  Ended result{Error(Code::cancelled, "stopped"), false};
  const auto opened = co_await sink_->open(context_);
  if (!opened) {
    result = after_open(opened.error());
  } else {
    const auto subscribed = co_await subscribe();
    if (!subscribed) {
      result = after_open(subscribed.error());
      // Another exclusive owner leaves sooner or later.
      if (subscribed.error().code() == Code::busy) result.for_good = false;
    } else {
      std::string topics;
      for (const auto& lane : lanes_)
        topics += (topics.empty() ? "" : ", ") + lane.consumer->topic();
      if (lanes_.empty()) topics = "no topic yet of " + component_.reads();
      running(fmt::format("{} -> {}; subscription {}", topics, component_.writes(),
                          component_.subscription));
      for (auto& lane : lanes_) work_->spawn("pump of " + label(), pump(lane));
      work_->spawn("watch of " + label(), watch());
      work_->spawn("lag of " + label(), measure());
      work_->spawn("new partitions of " + label(), discover());
      bool stopped = false;
      while (!ended_ && !stopped) {
        const bool woken = co_await changed_->wait();
        stopped = !woken && !ended_;
      }
      if (ended_) {
        result = *ended_;
      } else {
        co_await finish_up();
      }
    }
  }
  co_await aio::start_cleanup();
  co_await work_->close();
  co_await confirm_acks();
  ++life_;  // outcomes that come from now on are of no use
  co_await sink_->close();
  sink_.reset();
  for (auto& lane : lanes_) co_await lane.consumer->close();
  lanes_.clear();
  if (dead_letters_) co_await dead_letters_->close();
  dead_letters_.reset();
  opening_dead_letters_ = false;
  counters_.returned += counters_.in_flight;
  counters_.in_flight = 0;
  in_flight_bytes_ = 0;
  writing_ = false;
  co_return result;
}

aio::Task<Result<void>> SinkInstance::subscribe() {
  auto finder = client::TopicFinder::make(
      *client_, {.topics = component_.inputs, .pattern = component_.topics_pattern});
  if (!finder) co_return finder.error();
  finder_ = std::move(*finder);
  const auto topics = co_await finder_->find();
  if (!topics) co_return topics.error();
  for (const auto& topic : *topics) {
    if (reads_own_dead_letters(topic)) continue;
    const auto position = component_.from_earliest ? wire::pb::CommandSubscribe::Earliest
                                                   : wire::pb::CommandSubscribe::Latest;
    const auto subscribed = co_await subscribe_to(topic, position);
    if (!subscribed) co_return subscribed.error();
    if (!component_.skip_to_latest) continue;
    const auto skipped = co_await lanes_.back().consumer->seek(kLatest);
    if (!skipped) co_return skipped.error();
  }
  co_return Result<void>();
}

aio::Task<Result<void>> SinkInstance::subscribe_to(
    std::string topic, wire::pb::CommandSubscribe::InitialPosition position) {
  client::ConsumerOptions options;
  options.topic = std::move(topic);
  options.subscription = component_.subscription;
  options.type = component_.subscription_type();
  options.initial_position = position;
  options.name = fmt::format("{}-{}", component_.full_name(), index_);
  options.properties = {
      {"application", fmt::format("pulsar-{}", connect::to_string(component_.kind))},
      {"id", component_.full_name()},
      {"instance_id", std::to_string(index_)}};
  options.bytes_max = kReceiveBytesMax;
  options.messages_max =
      component_.receiver_queue > 0 ? component_.receiver_queue : kReceiveMessagesMax;
  auto consumer = co_await client_->subscribe(std::move(options));
  if (!consumer) co_return consumer.error();
  lanes_.emplace_back().consumer = std::move(*consumer);
  co_return Result<void>();
}

// Partitions that are added while the sink runs are read from their beginning.
aio::Task<void> SinkInstance::discover() {
  for (;;) {
    const bool slept = co_await aio::sleep(client_->options().discovery_period);
    if (!slept) co_return;
    const auto topics = co_await finder_->find();
    Result<void> added = topics ? Result<void>() : Result<void>(topics.error());
    for (size_t i = 0; added && i < topics->size(); ++i) {
      const auto& topic = (*topics)[i];
      const bool known = std::any_of(lanes_.begin(), lanes_.end(), [&](const Lane& lane) {
        return lane.consumer->topic() == topic;
      });
      if (known || reads_own_dead_letters(topic)) continue;
      added = co_await subscribe_to(topic, wire::pb::CommandSubscribe::Earliest);
      if (!added) break;
      log::info(label(), "{} is read from now on", topic);
      work_->spawn("pump of " + label(), pump(lanes_.back()));
    }
    if (!added && added.error().cancelled()) co_return;
    if (!added) log::warn(label(), "looking for new partitions: {}", added.error().text());
  }
}

aio::Task<void> SinkInstance::pump(Lane& lane) {
  for (;;) {
    while (in_flight_bytes_ >= kInFlightBytesMax || lane.retrying > 0) {
      const bool woken = co_await changed_->wait();
      if (!woken) co_return;
    }
    const bool within = co_await wait_for_limit();
    if (!within) co_return;
    auto messages = co_await lane.consumer->receive();
    if (!messages) {
      if (!messages.error().cancelled())
        end({messages.error(), messages.error().code() == Code::closed});
      co_return;
    }
    const auto entry = std::make_shared<Entry>();
    entry->lane = &lane;
    entry->life = life_;
    entry->open = (*messages)->list.size();
    const auto records = std::make_shared<connect::Records>();
    records->topic = lane.consumer->topic();
    records->owner = *messages;
    entry->id = (*messages)->id;
    records->records = std::move((*messages)->list);
    for (const auto& record : records->records) entry->bytes += record.value.size();
    entry->records = records;
    came_in(entry->open, entry->bytes);
    seen_records_ += entry->open;
    seen_bytes_ += entry->bytes;
    in_flight_bytes_ += entry->bytes;
    lane.entries.push_back(entry);
    if (entry->open == 0) {
      finish(*entry);  // a marker, or a batch of which nothing is left
      continue;
    }
    if (component_.guarantee == connect::Guarantee::at_most_once) lane.consumer->ack(entry->id);
    if ((*messages)->damage) {
      reject(entry, 0, (*messages)->damage->with("the message cannot be read"));
      continue;
    }
    std::vector<uint32_t> all(entry->open);
    for (uint32_t i = 0; i < all.size(); ++i) all[i] = i;
    const bool written = co_await write(entry, std::move(all));
    if (!written) co_return;
  }
}

// One write at a time; a sink that is full holds its callers here.
aio::Task<bool> SinkInstance::write(std::shared_ptr<Entry> entry, std::vector<uint32_t> chosen) {
  while (writing_) {
    const bool woken = co_await changed_->wait();
    if (!woken) co_return false;
  }
  writing_ = true;
  entry->writing_since = aio::Clock::now();
  co_await sink_->write(batch_of(entry, std::move(chosen)));
  writing_ = false;
  changed_->notify();
  co_return true;
}

connect::RecordBatch SinkInstance::batch_of(const std::shared_ptr<Entry>& entry,
                                            std::vector<uint32_t> chosen) {
  auto settled = [weak = weak_from_this(), executor = executor_, entry,
                  chosen](std::vector<connect::Outcome> outcomes) {
    aio::asio::post(executor, [weak, entry, chosen, outcomes = std::move(outcomes)]() mutable {
      const auto self = std::static_pointer_cast<SinkInstance>(weak.lock());
      if (self) self->settled(entry, chosen, std::move(outcomes));
    });
  };
  return connect::RecordBatch(entry->records, std::move(chosen), std::move(settled));
}

// A pattern may fit it.
bool SinkInstance::reads_own_dead_letters(const std::string& topic) const {
  if (!component_.inputs.empty()) return false;
  const auto name = wire::TopicName::parse(topic);
  const auto own = wire::TopicName::parse(dead_letter_topic(component_));
  return name && own && name->base().text() == own->base().text();
}

// ---- the end of entries and lives

void SinkInstance::close_record(Entry& entry, uint32_t record) {
  if (!entry.final.empty()) {
    entry.final[record] = true;
    changed_->notify();
  }
  --entry.open;
  --counters_.in_flight;
  if (entry.open == 0) finish(entry);
}

void SinkInstance::finish(Entry& entry) {
  auto& lane = *entry.lane;
  in_flight_bytes_ -= entry.bytes;
  const bool early = component_.guarantee == connect::Guarantee::at_most_once;
  if (!component_.ordered() && !early) lane.consumer->ack(entry.id);
  std::optional<MessageId> until;
  while (!lane.entries.empty() && lane.entries.front()->open == 0) {
    until = lane.entries.front()->id;
    lane.entries.pop_front();
  }
  if (until && component_.ordered()) lane.consumer->ack_until(*until);
  changed_->notify();
}

void SinkInstance::end(Ended ended) {
  if (ended_) return;
  ended_ = std::move(ended);
  changed_->notify();
}

// How far it is behind, by what the broker knows of each subscription.
aio::Task<void> SinkInstance::measure() {
  for (;;) {
    const auto began = aio::Clock::now();
    Lag lag;
    bool known = true;
    // By index: lanes may be added meanwhile.
    for (size_t i = 0; i < lanes_.size(); ++i) {
      const auto consumer = lanes_[i].consumer;
      // Under Failover another instance answers for what it is the reader of.
      if (!consumer->active()) continue;
      const auto backlog = co_await consumer->backlog();
      if (!backlog && backlog.error().cancelled()) co_return;
      known = known && backlog;
      if (backlog) lag.messages += *backlog;
    }
    const int64_t now = aio::wall_ms();
    for (const auto& lane : lanes_) {
      if (lane.entries.empty() || lane.entries.front()->records->records.empty()) continue;
      lag.age_ms =
          std::max(lag.age_ms, now - lane.entries.front()->records->records[0].publish_time);
    }
    if (seen_records_ > 0) lag.bytes = lag.messages * (seen_bytes_ / seen_records_);
    // A broker that does not tell leaves it unknown, not what it was.
    meters_.lag = known ? std::optional(lag) : std::nullopt;
    // Thousands of partitions are asked about less often.
    const auto pause = std::max(kLagEvery, 10 * (aio::Clock::now() - began));
    const bool slept = co_await aio::sleep(pause);
    if (!slept) co_return;
  }
}

// No silent stall: a record without an outcome is named.
aio::Task<void> SinkInstance::watch() {
  for (;;) {
    const bool slept = co_await aio::sleep(std::chrono::seconds(1));
    if (!slept) co_return;
    minute_.note(aio::Clock::now(), counters_, latency_);
    for (const auto& lane : lanes_) {
      if (lane.entries.empty() || !lane.entries.front()->writing_since) continue;
      auto& oldest = *lane.entries.front();
      const auto waited = aio::Clock::now() - *oldest.writing_since;
      const auto limit = component_.write_timeout;
      if (limit.count() > 0 && waited > limit) {
        end({Error(Code::timeout,
                   fmt::format("{}: no answer of the target within {} ms (timeoutMs)",
                               place(oldest, 0), limit.count())),
             false});
        co_return;
      }
      if (oldest.alarmed || waited < kOutcomeAlarm) continue;
      oldest.alarmed = true;
      log::warn(label(), "{} has waited {} s for the target; {} records are in flight",
                place(oldest, 0),
                std::chrono::duration_cast<std::chrono::seconds>(kOutcomeAlarm).count(),
                counters_.in_flight);
    }
  }
}

// A clean stop: what the sink holds is written, and what is written is acknowledged.
aio::Task<void> SinkInstance::finish_up() {
  co_await aio::start_cleanup();
  work_->cancel();
  const auto deadline = aio::Clock::now() + kStopMax;
  const auto flush = [](connect::Sink& sink) -> aio::Task<Result<void>> {
    co_await sink.flush();
    co_return Result<void>();
  };
  const auto flushed =
      co_await aio::with_timeout(kStopMax, "writing what is in flight", flush(*sink_));
  if (!flushed) log::warn(label(), "{}", flushed.error().text());
  while (counters_.in_flight > 0 && aio::Clock::now() < deadline && !ended_) {
    const bool woken = co_await changed_->wait_until(deadline);
    if (!woken) break;
  }
}

// However a life ends, what was written in it is acknowledged.
aio::Task<void> SinkInstance::confirm_acks() {
  // One limit for all lanes: a stuck broker must not cost it once for each partition.
  const auto acked_by = aio::Clock::now() + kStopMax;
  for (auto& lane : lanes_) {
    const auto left = std::max<aio::Duration>(acked_by - aio::Clock::now(), aio::Duration::zero());
    const auto acked =
        co_await aio::with_timeout(left, "acknowledging", lane.consumer->flush_acks());
    if (!acked) log::warn(label(), "{}", acked.error().text());
  }
}

}  // namespace hulse::runtime

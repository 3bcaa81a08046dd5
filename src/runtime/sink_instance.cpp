#include "runtime/sink_instance.h"

#include <boost/asio/post.hpp>

#include "aio/timeout.h"
#include "base/log.h"
#include "base/text.h"
#include "client/dead_letter.h"
#include "wire/topic_name.h"

namespace hulse::runtime {
namespace {

constexpr size_t kInFlightBytesMax = 32 << 20;
constexpr size_t kReceiveBytesMax = 8 << 20;
constexpr size_t kReceiveMessagesMax = 20'000;
constexpr aio::Duration kStopMax = std::chrono::seconds(5);
constexpr aio::Duration kOutcomeAlarm = std::chrono::seconds(60);
constexpr const char* kDeadLetterSubscription = "dead-letters";

using connect::Verdict;

}  // namespace

aio::Task<Ended> SinkInstance::life() {
  auto made = make_sink();
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
    last_received_ms_ = aio::wall_ms();
    counters_.received += entry->open;
    counters_.in_flight += entry->open;
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

std::string SinkInstance::place(const Entry& entry, uint32_t record) const {
  return fmt::format("message {} of {}", entry.records->records[record].id.text(),
                     entry.records->topic);
}

void SinkInstance::settled(const std::shared_ptr<Entry>& entry, const std::vector<uint32_t>& chosen,
                           std::vector<connect::Outcome> outcomes) {
  if (entry->life != life_) return;
  entry->writing_since.reset();
  std::vector<uint32_t> again;
  size_t ok = 0;
  unsigned most_attempts = 0;
  const Error* why_again = nullptr;
  for (size_t i = 0; i < chosen.size(); ++i) {
    const auto& outcome = outcomes[i];
    switch (outcome.verdict) {
      case Verdict::ok: ++ok; break;
      case Verdict::retry: {
        const unsigned attempts = ++entry->attempts[chosen[i]];
        const int64_t most = component_.policy.retry_attempts_max;
        if (most > 0 && attempts >= most) {
          reject(entry, chosen[i], outcome.error.with(fmt::format("after {} attempts", attempts)));
        } else {
          again.push_back(chosen[i]);
          most_attempts = std::max(most_attempts, attempts);
          why_again = &outcome.error;
        }
        break;
      }
      case Verdict::reject: reject(entry, chosen[i], outcome.error); break;
      case Verdict::none:
      case Verdict::reconnect: end({outcome.error.with(place(*entry, chosen[i])), false}); break;
      case Verdict::fatal: end({outcome.error.with(place(*entry, chosen[i])), true}); break;
    }
  }
  if (!again.empty() && !work_->closing()) {
    counters_.retries += again.size();
    note_failure(fmt::format("{} (attempt {}): {}", place(*entry, again.front()), most_attempts,
                             why_again->text()));
    log::warn(label(), "{} of {} records are tried again (attempt {}, first is {}): {}",
              again.size(), chosen.size(), most_attempts + 1, place(*entry, again.front()),
              why_again->text());
    ++entry->lane->retrying;
    work_->spawn("retry of " + label(), retry(entry, std::move(again)));
  }
  counters_.written += ok;
  if (ok > 0) close_records(*entry, ok);
}

aio::Task<void> SinkInstance::retry(std::shared_ptr<Entry> entry, std::vector<uint32_t> chosen) {
  unsigned attempts = 0;
  for (const uint32_t record : chosen) attempts = std::max(attempts, entry->attempts[record]);
  const auto& policy = component_.policy;
  auto wait = policy.retry_initial;
  for (unsigned i = 1; i < attempts && wait < policy.retry_max; ++i) wait *= 2;
  const bool slept = co_await aio::sleep(std::min(wait, policy.retry_max));
  if (!slept) co_return;
  const bool written = co_await write(entry, std::move(chosen));
  if (!written) co_return;
  --entry->lane->retrying;
  changed_->notify();
}

// ---- records the target will never take

void SinkInstance::reject(const std::shared_ptr<Entry>& entry, uint32_t record, const Error& why) {
  note_failure(fmt::format("{} was rejected: {}", place(*entry, record), why.text()));
  const auto fallback = component_.guarantee == connect::Guarantee::effectively_once
                            ? OnReject::stop
                            : OnReject::dead_letter;
  switch (component_.policy.on_reject.value_or(fallback)) {
    case OnReject::stop:
      end({why.with(place(*entry, record) + " was rejected (onReject is stop)"), true});
      return;
    case OnReject::skip:
      log::warn(label(), "{} is skipped: {}", place(*entry, record), why.text());
      ++counters_.skipped;
      close_records(*entry, 1);
      return;
    case OnReject::dead_letter:
      if (!work_->closing())
        work_->spawn("dead letter of " + label(), dead_letter(entry, record, why));
      return;
  }
}

std::string SinkInstance::dead_letter_topic() const {
  if (!component_.dead_letter_topic.empty()) return component_.dead_letter_topic;
  if (component_.inputs.empty()) {
    // A pattern is no topic's name; it begins with its tenant and namespace.
    const auto parts = split(component_.topics_pattern, '/');
    return fmt::format("persistent://{}/{}/{}-{}-{}-DLQ", parts[2], parts[3], component_.tenant,
                       component_.name_space, component_.name);
  }
  // Of the unpartitioned topic; a component of another namespace carries its own names.
  const auto base = wire::TopicName::parse(component_.inputs.front())->base();
  const bool at_home = base.tenant == component_.tenant && base.name_space == component_.name_space;
  const auto who =
      at_home ? component_.name
              : fmt::format("{}-{}-{}", component_.tenant, component_.name_space, component_.name);
  return fmt::format("{}-{}-DLQ", base.text(), who);
}

// A pattern may fit it.
bool SinkInstance::reads_own_dead_letters(const std::string& topic) const {
  if (!component_.inputs.empty()) return false;
  const auto name = wire::TopicName::parse(topic);
  const auto own = wire::TopicName::parse(dead_letter_topic());
  return name && own && name->base().text() == own->base().text();
}

aio::Task<void> SinkInstance::dead_letter(std::shared_ptr<Entry> entry, uint32_t record,
                                          Error why) {
  while (opening_dead_letters_) {
    const bool woken = co_await changed_->wait();
    if (!woken) co_return;
  }
  if (!dead_letters_) {
    opening_dead_letters_ = true;
    client::ProducerOptions options;
    options.topic = dead_letter_topic();
    options.initial_subscription = kDeadLetterSubscription;
    options.chunking = true;  // what came in chunks may have to leave in chunks
    auto producer = co_await client_->create_producer(options);
    opening_dead_letters_ = false;
    changed_->notify();
    if (!producer) {
      end({producer.error().with("opening the dead letter topic"),
           producer.error().code() == Code::invalid});
      co_return;
    }
    dead_letters_ = std::move(*producer);
  }
  const auto& message = entry->records->records[record];
  const std::string reason = why.text();
  client::DeadLetterProperties properties(message, entry->records->topic, component_.subscription);
  properties.set("HULSE_REASON", reason);
  const wire::Outgoing outgoing{.value = message.value,
                                .key = message.key,
                                .properties = properties.list(),
                                .event_time = message.event_time,
                                .null_value = message.null_value};
  const auto topic = dead_letters_->topic();
  dead_letters_->send({&outgoing, 1}, [weak = weak_from_this(), entry, record, topic,
                                       reason](const Result<MessageId>& stored) {
    const auto self = std::static_pointer_cast<SinkInstance>(weak.lock());
    if (!self || entry->life != self->life_) return;
    if (!stored) {
      self->end({stored.error().with("writing to the dead letter topic " + topic), false});
      return;
    }
    log::warn(self->label(), "{} went to {}: {}", self->place(*entry, record), topic, reason);
    ++self->counters_.dead_lettered;
    self->close_records(*entry, 1);
  });
}

// ---- the end of entries and lives

void SinkInstance::close_records(Entry& entry, size_t count) {
  entry.open -= count;
  counters_.in_flight -= count;
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

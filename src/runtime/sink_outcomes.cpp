// SinkInstance: what follows from the outcomes of records. Retries, halves, dead letters.
#include "base/log.h"
#include "client/dead_letter.h"
#include "runtime/sink_instance.h"

namespace hulse::runtime {
namespace {

// A batch that fails as a whole may hold one record that makes it fail.
constexpr int64_t kAttemptsBeforeSplit = 3;

using connect::Verdict;

}  // namespace

std::string SinkInstance::place(const Entry& entry, uint32_t record) const {
  return fmt::format("message {} of {}", entry.records->records[record].id.text(),
                     entry.records->topic);
}

void SinkInstance::settled(const std::shared_ptr<Entry>& entry, const std::vector<uint32_t>& chosen,
                           std::vector<connect::Outcome> outcomes) {
  if (entry->life != life_) return;
  if (entry->writing_since) {
    meters_.write_seconds.observe(
        std::chrono::duration<double>(aio::Clock::now() - *entry->writing_since).count());
  }
  entry->writing_since.reset();
  if (splits(*entry, chosen, outcomes)) {
    if (work_->closing()) return;
    const Error why = masked(outcomes[0].error);
    note_failure("split", why.code(),
                 failure_of(*entry, chosen[0],
                            fmt::format("{} records from {} on failed together and are tried in "
                                        "halves: {}",
                                        chosen.size(), place(*entry, chosen[0]), why.text()),
                            why));
    log::warn(label(), "{} records from {} on failed together and are tried in halves: {}",
              chosen.size(), place(*entry, chosen[0]), why.text());
    ++entry->lane->retrying;
    work_->spawn("halves of " + label(), write_halves(entry, chosen));
    return;
  }
  std::vector<uint32_t> again;
  std::vector<uint32_t> ok;
  ok.reserve(chosen.size());
  unsigned most_attempts = 0;
  const Error* why_again = nullptr;
  for (size_t i = 0; i < chosen.size(); ++i) {
    auto& outcome = outcomes[i];
    if (outcome.verdict != Verdict::ok) outcome.error = masked(outcome.error);
    switch (outcome.verdict) {
      case Verdict::ok: ok.push_back(chosen[i]); break;
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
    note_failure("retry", why_again->code(),
                 failure_of(*entry, again.front(),
                            fmt::format("{} (attempt {}): {}", place(*entry, again.front()),
                                        most_attempts, why_again->text()),
                            *why_again));
    log::warn(label(), "{} of {} records are tried again (attempt {}, first is {}): {}",
              again.size(), chosen.size(), most_attempts + 1, place(*entry, again.front()),
              why_again->text());
    ++entry->lane->retrying;
    work_->spawn("retry of " + label(), retry(entry, std::move(again)));
  }
  counters_.written += ok.size();
  for (const uint32_t record : ok) close_record(*entry, record);
}

// Whether a batch is written again in halves, to find the record that makes all of them fail.
bool SinkInstance::splits(const Entry& entry, const std::vector<uint32_t>& chosen,
                          const std::vector<connect::Outcome>& outcomes) const {
  const auto& first = outcomes.front();
  if (!first.whole || outcomes.size() < 2) return false;
  if (first.verdict == Verdict::reject) return true;
  if (first.verdict != Verdict::retry) return false;
  // A target that is not there takes no half either.
  const Code code = first.error.code();
  if (code == Code::unavailable || code == Code::timeout || code == Code::closed) return false;
  const auto known = entry.attempts.find(chosen.front());
  const int64_t attempts = 1 + (known == entry.attempts.end() ? 0 : int64_t{known->second});
  const int64_t most = component_.policy.retry_attempts_max;
  return attempts >= (most > 0 ? std::min(most, kAttemptsBeforeSplit) : kAttemptsBeforeSplit);
}

// Where order is promised, the second half waits until the first is through.
aio::Task<void> SinkInstance::write_halves(std::shared_ptr<Entry> entry,
                                           std::vector<uint32_t> chosen) {
  const bool in_order = component_.ordered() || component_.retain_key_ordering;
  entry->final.resize(entry->records->records.size());
  const auto middle = chosen.begin() + static_cast<std::ptrdiff_t>(chosen.size() / 2);
  std::vector<std::vector<uint32_t>> halves = {{chosen.begin(), middle}, {middle, chosen.end()}};
  for (auto& half : halves) {
    const bool written = co_await write(entry, half);
    if (!written) co_return;
    const auto all_final = [&] {
      return std::all_of(half.begin(), half.end(),
                         [&](uint32_t record) { return entry->final[record]; });
    };
    while (in_order && !all_final()) {
      const bool woken = co_await changed_->wait();
      if (!woken) co_return;
    }
  }
  --entry->lane->retrying;
  changed_->notify();
}

Failure SinkInstance::failure_of(const Entry& entry, uint32_t record, std::string text,
                                 const Error& words) const {
  const auto attempts = entry.attempts.find(record);
  return {.text = std::move(text),
          .topic = entry.records->topic,
          .message_id = entry.records->records[record].id.text(),
          .attempt = attempts == entry.attempts.end() ? 1 : attempts->second,
          .words = words.text()};
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
  note_failure(
      "reject", why.code(),
      failure_of(*entry, record,
                 fmt::format("{} was rejected: {}", place(*entry, record), why.text()), why));
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
      close_record(*entry, record);
      return;
    case OnReject::dead_letter:
      if (!work_->closing())
        work_->spawn("dead letter of " + label(), dead_letter(entry, record, why));
      return;
  }
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
    options.topic = dead_letter_topic(component_);
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
  properties.set(kDeadLetterReason, reason);
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
    self->close_record(*entry, record);
  });
}

}  // namespace hulse::runtime

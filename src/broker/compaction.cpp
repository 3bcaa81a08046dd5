#include "broker/compaction.h"

#include <algorithm>
#include <unordered_map>

#include "aio/offload.h"
#include "base/log.h"
#include "wire/compaction.h"

namespace hulse::broker {
namespace {

constexpr std::string_view kPart = "broker";
constexpr size_t kReadEntries = 1000;
constexpr size_t kReadBytes = 1 << 20;

struct Place {
  uint64_t index = 0;   // of the entry
  uint32_t item = 0;    // of its batch
  std::string chunked;  // of a chunked message: what its parts share
};

// The newest message of each key. Touched by one thread at a time. An entry that cannot be taken
// apart says nothing of its keys, and stays as it is: nothing is lost on bad input.
struct Survey {
  std::unordered_map<std::string, Place> newest;

  void see(const TailEntry& entry) {
    const auto messages = wire::keyed_messages(entry.entry);
    if (!messages) return;
    for (uint32_t i = 0; i < messages->size(); ++i) {
      const auto& message = (*messages)[i];
      if (!message.key || message.is_gone || !message.ends) continue;
      if (message.is_empty) {
        newest.erase(*message.key);
      } else {
        newest[*message.key] = {entry.index, i, message.chunked};
      }
    }
  }

  bool stays(const TailEntry& entry, uint32_t item, const wire::KeyedMessage& message) const {
    if (!message.key || message.is_gone) return false;
    const auto known = newest.find(*message.key);
    if (known == newest.end()) return false;
    if (!message.chunked.empty()) return known->second.chunked == message.chunked;
    return known->second.index == entry.index && known->second.item == item;
  }

  // What stays of an entry; nothing when none of it does.
  std::optional<Bytes> rest_of(const TailEntry& entry) const {
    const auto messages = wire::keyed_messages(entry.entry);
    if (!messages) {
      log::warn(kPart, "compaction leaves an entry as it is: {}", messages.error().text());
      return entry.entry;
    }
    std::vector<bool> keep(messages->size());
    for (uint32_t i = 0; i < messages->size(); ++i) keep[i] = stays(entry, i, (*messages)[i]);
    const auto kept = std::count(keep.begin(), keep.end(), true);
    if (kept == 0) return std::nullopt;
    if (kept == std::ssize(keep)) return entry.entry;
    auto cut = wire::without_messages(entry.entry, keep);
    if (!cut) return entry.entry;
    auto rest = Bytes::from(std::move(*cut));
    const auto noted = wire::broker_metadata(entry.entry.view());
    return noted ? wire::with_broker_metadata(*noted, rest) : rest;
  }
};

class Compactor {
 public:
  explicit Compactor(std::shared_ptr<Topic> topic)
      : topic_(std::move(topic)), horizon_(topic_->end_index()) {}

  aio::Task<Result<void>> run() {
    id_ = topic_->begin_compaction();
    const auto surveyed = co_await walk(false);
    if (!surveyed) co_return surveyed.error();
    const auto written = co_await walk(true);
    if (!written) co_return written.error();
    auto result = co_await finish();
    co_return result;
  }

  uint64_t kept() const { return entries_; }
  uint64_t seen() const { return seen_; }

 private:
  aio::Task<Result<void>> walk(bool writes) {
    uint64_t index = topic_->first_readable(true);
    while (index < horizon_) {
      const bool stopped = co_await aio::cancelled();
      if (stopped) co_return Error(Code::cancelled, "stopped");
      auto read = co_await topic_->read(index, kReadEntries, kReadBytes, true);
      if (!read) co_return read.error();
      if (read->empty()) break;
      index = read->back().index + 1;
      std::erase_if(*read, [&](const TailEntry& entry) { return entry.index >= horizon_; });
      auto rest = co_await aio::offload(
          topic_->shared().disk, [this, writes, entries = std::move(*read)]() {
            std::vector<TailEntry> out;
            for (const auto& entry : entries) {
              if (!writes) {
                survey_.see(entry);
                ++seen_;
              } else if (auto kept = survey_.rest_of(entry)) {
                out.push_back({entry.index, std::move(*kept), entry.messages, {}});
              }
            }
            return out;
          });
      const auto stored = co_await store(std::move(rest));
      if (!stored) co_return stored.error();
    }
    co_return Result<void>();
  }

  // Waits until they are durable.
  aio::Task<Result<void>> store(std::vector<TailEntry> entries) {
    if (entries.empty()) co_return Result<void>();
    aio::Event answered(topic_->shared().executor);
    size_t open = entries.size();
    std::optional<Error> failed;
    const auto fence = std::make_shared<storage::Fence>();
    for (auto& entry : entries) {
      ++entries_;
      bytes_ += entry.entry.size();
      last_ = entry.index;
      ledgers_.insert(static_cast<uint64_t>(topic_->message_id(entry.index).ledger));
      topic_->shared().store.append(
          id_, entry.index, std::move(entry.entry), topic_->shared().executor,
          [&](const Result<void>& written) {
            if (!written && !failed) failed = written.error();
            --open;
            answered.notify();
          },
          {}, fence);
    }
    // Not to be left early: the store answers into this frame.
    while (open > 0) co_await answered.wait_uncancelled();
    if (failed) co_return *failed;
    co_return Result<void>();
  }

  aio::Task<Result<void>> finish() {
    Compacted made{
        .id = id_, .horizon = horizon_, .entries = entries_, .bytes = bytes_, .last_index = last_};
    auto result = co_await topic_->finish_compaction(made, std::move(ledgers_));
    co_return result;
  }

  std::shared_ptr<Topic> topic_;
  const uint64_t horizon_;
  storage::TopicId id_ = 0;
  Survey survey_;
  uint64_t seen_ = 0;
  uint64_t entries_ = 0;
  uint64_t bytes_ = 0;
  uint64_t last_ = 0;
  std::set<uint64_t> ledgers_;  // of what stays
};

}  // namespace

aio::Task<Result<void>> compact(std::shared_ptr<Topic> topic) {
  auto& state = topic->compaction_state();
  if (state.running) co_return Error(Code::busy, "Compaction already in progress");
  state.running = true;
  const int64_t begun = aio::wall_ms();
  Compactor compactor(topic);
  auto result = co_await compactor.run();
  state.running = false;
  state.took_ms = aio::wall_ms() - begun;
  if (result) {
    state.error.clear();
    state.succeeded_ms = aio::wall_ms();
    state.removed = compactor.seen() - compactor.kept();
    log::info(kPart, "compacted {}: {} of {} entries stay", topic->text(), compactor.kept(),
              compactor.seen());
  } else {
    state.error = result.error().text();
    state.failed_ms = aio::wall_ms();
    if (!result.error().cancelled())
      log::error(kPart, "compaction of {}: {}", topic->text(), state.error);
    topic->abandon_compaction();
  }
  co_return result;
}

}  // namespace hulse::broker

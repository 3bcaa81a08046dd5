#include "client/key_value_topic.h"

#include <algorithm>
#include <charconv>

#include "base/log.h"
#include "client/client.h"

namespace hulse::client {
namespace {

constexpr std::string_view kPart = "client";
constexpr std::string_view kBegin = "begin";
constexpr std::string_view kEnd = "end";
constexpr size_t kWritersMax = 1000;

uint64_t number_of(std::string_view text) {
  uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

std::pair<int64_t, int64_t> place(const MessageId& id) { return {id.ledger, id.entry}; }

}  // namespace

KeyValueTopic::KeyValueTopic(Client& client, KeyValueOptions options)
    : client_(client),
      options_(std::move(options)),
      gate_(client.executor()),
      changed_(client.executor()) {}

KeyValueTopic::~KeyValueTopic() = default;

aio::Task<Result<std::shared_ptr<KeyValueTopic>>> KeyValueTopic::open(Client& client,
                                                                      KeyValueOptions options) {
  const std::shared_ptr<KeyValueTopic> made(new KeyValueTopic(client, std::move(options)));
  const auto started = co_await made->start();
  if (!started) {
    co_await made->close();
    co_return started.error().with("reading " + made->options_.topic);
  }
  co_return made;
}

aio::Task<Result<void>> KeyValueTopic::start() {
  // The producer first: it creates the subscription that keeps what is written.
  const auto produces = co_await open_producer();
  if (!produces) co_return produces.error();
  ReaderOptions options;
  options.topic = options_.topic;
  auto reader = co_await Reader::open(client_, std::move(options));
  if (!reader) co_return reader.error();
  reader_ = std::move(*reader);
  for (;;) {
    const auto more = co_await reader_->has_more();
    if (!more) co_return more.error();
    if (!*more) break;
    const auto read = co_await read_entry();
    if (!read) co_return read.error();
  }
  if (collecting_) end_collecting();
  gate_.spawn("following " + options_.topic, follow());
  co_return Result<void>();
}

aio::Task<void> KeyValueTopic::follow() {
  const auto self = shared_from_this();
  for (;;) {
    const auto read = co_await read_entry();
    if (read) continue;
    if (!read.error().cancelled())
      log::error(kPart, "{} is followed no more: {}", options_.topic, read.error().text());
    failed_ = read.error();
    changed_.notify();
    co_return;
  }
}

aio::Task<Result<void>> KeyValueTopic::read_entry() {
  const auto messages = co_await reader_->next();
  if (!messages) co_return messages.error();
  if ((*messages)->damage) co_return (*messages)->damage->with("message " + (*messages)->id.text());
  for (const auto& message : (*messages)->list) read(message);
  last_read_ = (*messages)->id;
  changed_.notify();
  co_return Result<void>();
}

void KeyValueTopic::read(const Message& message) {
  Record record;
  record.id = message.id;
  record.key = message.key.value_or("");
  record.value = message.value;
  bool ours = false;
  for (const auto& [name, value] : message.properties) {
    if (name == "v") record.version = number_of(value), ours = true;
    if (name == "r") record.replaces = number_of(value);
    if (name == "w") record.writer = value;
    if (name == "n") record.number = number_of(value);
    if (name == "snapshot") record.snapshot = value;
    if (name == "mark") record.mark = value;
  }
  if (!ours && record.snapshot.empty()) {
    record.version = 1;
    record.replaces = 0;
  }
  collecting_ ? collect(std::move(record)) : apply(record);
}

// ---- before the state is known

void KeyValueTopic::collect(Record record) {
  if (record.snapshot.empty()) {
    log_.push_back(std::move(record));
    return;
  }
  if (record.mark == kBegin) {
    open_snapshots_[record.snapshot] = {{}, log_.size()};
    return;
  }
  const auto open = open_snapshots_.find(record.snapshot);
  if (open == open_snapshots_.end()) return;  // its begin was trimmed
  if (record.mark != kEnd) {
    // A writer's number stands in the key's place of records that hold one.
    if (!record.writer.empty()) {
      open->second.state.note(record.writer, record.number);
    } else {
      open->second.state.values[record.key] = {std::move(record.value), record.version};
    }
    return;
  }
  const size_t behind = open->second.behind;
  state_ = std::move(open->second.state);
  state_.version = record.version;
  log_.erase(log_.begin(), log_.begin() + static_cast<ptrdiff_t>(behind));
  end_collecting();
}

void KeyValueTopic::end_collecting() {
  collecting_ = false;
  open_snapshots_.clear();
  const auto log = std::exchange(log_, {});
  for (const auto& record : log) apply(record);
}

// ---- the state

void KeyValueTopic::apply(const Record& record) {
  if (!record.snapshot.empty()) return mark(record);
  ++updates_;
  auto outcome = change(record);
  if (record.writer != writer_) return;
  const auto waiting = waiting_.find(record.number);
  if (waiting != waiting_.end() && !waiting->second.outcome)
    waiting->second.outcome = std::move(outcome);
}

bool KeyValueTopic::State::note(const std::string& writer, uint64_t number) {
  auto& last = writers[writer];
  if (number <= last.number) return false;
  last = {number, ++records};
  if (writers.size() > kWritersMax) {
    writers.erase(std::min_element(
        writers.begin(), writers.end(),
        [](const auto& a, const auto& b) { return a.second.seen < b.second.seen; }));
  }
  return true;
}

Result<uint64_t> KeyValueTopic::change(const Record& record) {
  if (!record.writer.empty() && !state_.note(record.writer, record.number))
    return record.version;  // sent twice
  const auto known = state_.values.find(record.key);
  const uint64_t current = known == state_.values.end() ? 0 : known->second.version;
  if (record.replaces && *record.replaces != current) {
    return Error(Code::busy, fmt::format("{} of {} is at version {}, not {}: somebody else was "
                                         "first",
                                         record.key, options_.topic, current, *record.replaces));
  }
  state_.version = std::max(state_.version, record.version);
  if (record.value.empty()) {
    if (known != state_.values.end()) state_.values.erase(known);
  } else {
    state_.values[record.key] = {record.value, record.version};
  }
  return record.version;
}

// Snapshots say nothing new to whoever has the state; their begins count.
void KeyValueTopic::mark(const Record& record) {
  if (record.mark != kBegin) return;
  updates_ = 0;
  if (!begun_ || begun_->id != record.snapshot || begun_->state) return;
  begun_->state = state_;
  begun_->before = last_read_;
}

const KeyValueTopic::Value* KeyValueTopic::find(const std::string& key) const {
  const auto known = state_.values.find(key);
  return known == state_.values.end() ? nullptr : &known->second;
}

aio::Task<Result<void>> KeyValueTopic::refresh() {
  const auto self = shared_from_this();
  // The end of the log is asked for by a reader of its own: ours is being waited on.
  ReaderOptions options;
  options.topic = options_.topic;
  options.start = kLatest;
  const auto reader = co_await Reader::open(client_, std::move(options));
  if (!reader) co_return reader.error();
  const auto end = (*reader)->begin();
  co_await (*reader)->close();
  if (end.entry < 0) co_return Result<void>();
  while (!failed_ && (!last_read_ || place(*last_read_) < place(end))) {
    const bool woken = co_await changed_.wait();
    if (!woken) co_return Error(Code::cancelled, "stopped");
  }
  if (failed_) co_return *failed_;
  co_return Result<void>();
}

// ---- writing

aio::Task<Result<void>> KeyValueTopic::open_producer() {
  ProducerOptions options;
  options.topic = options_.topic;
  options.initial_subscription = options_.subscription;
  // Each record is an entry: a subscription can stand before any of them.
  options.batching = Batching::off;
  auto producer = co_await client_.create_producer(std::move(options));
  if (!producer) co_return producer.error();
  producer_ = std::move(*producer);
  co_return Result<void>();
}

aio::Task<Result<MessageId>> KeyValueTopic::send(Record record) {
  std::vector<std::pair<std::string, std::string>> texts;
  if (record.version > 0 || record.mark == kEnd)
    texts.emplace_back("v", std::to_string(record.version));
  if (record.replaces) texts.emplace_back("r", std::to_string(*record.replaces));
  if (!record.writer.empty()) {
    texts.emplace_back("w", record.writer);
    texts.emplace_back("n", std::to_string(record.number));
  }
  if (!record.snapshot.empty()) texts.emplace_back("snapshot", record.snapshot);
  if (!record.mark.empty()) texts.emplace_back("mark", record.mark);
  const std::vector<Property> properties(texts.begin(), texts.end());
  const wire::Outgoing message{.value = record.value, .key = record.key, .properties = properties};
  const auto stored = std::make_shared<std::optional<Result<MessageId>>>();
  producer_->send({&message, 1}, [stored, self = shared_from_this()](const auto& id) {
    *stored = id;
    self->changed_.notify();
  });
  while (!*stored) {
    const bool woken = co_await changed_.wait();
    if (!woken) co_return Error(Code::cancelled, "stopped");
  }
  co_return **stored;
}

aio::Task<Result<uint64_t>> KeyValueTopic::write(std::string key, std::string value,
                                                 std::optional<uint64_t> replaces) {
  const auto self = shared_from_this();
  if (failed_) co_return *failed_;
  Record record;
  record.key = std::move(key);
  record.value = std::move(value);
  version_given_ = std::max(version_given_, state_.version) + 1;
  record.version = version_given_;
  record.replaces = replaces;
  record.writer = writer_;
  record.number = ++number_;
  const uint64_t number = record.number;
  waiting_[number];
  const auto stored = co_await send(std::move(record));
  if (!stored) {
    waiting_.erase(number);
    co_return stored.error().with("writing to " + options_.topic);
  }
  while (!waiting_[number].outcome && !failed_) {
    const bool woken = co_await changed_.wait();
    if (woken) continue;
    waiting_.erase(number);
    co_return Error(Code::cancelled, "stopped");
  }
  const auto outcome = waiting_[number].outcome;
  waiting_.erase(number);
  if (!outcome) co_return *failed_;
  co_return *outcome;
}

aio::Task<Result<uint64_t>> KeyValueTopic::put(std::string key, std::string value) {
  if (value.empty()) co_return Error(Code::invalid, "an empty value would delete the key");
  co_return co_await write(std::move(key), std::move(value), std::nullopt);
}
aio::Task<Result<uint64_t>> KeyValueTopic::put(std::string key, std::string value,
                                               uint64_t replaces) {
  if (value.empty()) co_return Error(Code::invalid, "an empty value would delete the key");
  co_return co_await write(std::move(key), std::move(value), replaces);
}
aio::Task<Result<uint64_t>> KeyValueTopic::remove(std::string key) {
  co_return co_await write(std::move(key), "", std::nullopt);
}
aio::Task<Result<uint64_t>> KeyValueTopic::remove(std::string key, uint64_t replaces) {
  co_return co_await write(std::move(key), "", replaces);
}

// ---- snapshots

bool KeyValueTopic::snapshot_due() const {
  return updates_ > std::max(options_.snapshot_updates_min, 2 * state_.values.size());
}

aio::Task<Result<void>> KeyValueTopic::snapshot() {
  const auto self = shared_from_this();
  if (begun_) co_return Error(Code::busy, "a snapshot of " + options_.topic + " is being written");
  if (failed_) co_return *failed_;
  begun_.emplace();
  begun_->id = random_hex(8);
  std::vector<Record> records(1);
  records.front().mark = kBegin;
  std::optional<Error> why;
  for (size_t i = 0; i < records.size() && !why; ++i) {
    records[i].snapshot = begun_->id;
    auto record = std::move(records[i]);
    const bool begins = record.mark == kBegin;
    const auto stored = co_await send(std::move(record));
    if (!stored) why = stored.error();
    if (!stored || !begins) continue;
    // What counts is the state where the begin stands in the log, not where it was sent.
    while (!begun_->state && !failed_) {
      const bool woken = co_await changed_.wait();
      if (!woken) break;
    }
    if (!begun_->state) {
      why = failed_.value_or(Error(Code::cancelled, "stopped"));
      continue;
    }
    for (const auto& [key, value] : begun_->state->values) {
      auto& live = records.emplace_back();
      live.key = key;
      live.value = value.value;
      live.version = value.version;
    }
    // In the order they wrote in, which whoever reads the snapshot goes on with.
    std::map<uint64_t, std::pair<std::string, uint64_t>> by_age;
    for (const auto& [writer, last] : begun_->state->writers)
      by_age[last.seen] = {writer, last.number};
    for (const auto& [seen, writer] : by_age) {
      auto& last = records.emplace_back();
      last.writer = writer.first;
      last.number = writer.second;
    }
    auto& end = records.emplace_back();
    end.mark = kEnd;
    end.version = begun_->state->version;
  }
  const auto before = begun_->before;
  begun_.reset();
  if (why) co_return why->with("writing a snapshot of " + options_.topic);
  if (!before) co_return Result<void>();
  co_return co_await trim(*before);
}

// The snapshot is stored: what lies before it may go.
aio::Task<Result<void>> KeyValueTopic::trim(MessageId until) {
  ConsumerOptions options;
  options.topic = options_.topic;
  options.subscription = options_.subscription;
  options.type = pb::CommandSubscribe::Failover;
  options.initial_position = pb::CommandSubscribe::Earliest;
  options.messages_max = 1;
  const auto consumer = co_await client_.subscribe(std::move(options));
  if (!consumer) co_return consumer.error().with("moving the subscription of " + options_.topic);
  (*consumer)->ack_until(until);
  const auto moved = co_await (*consumer)->flush_acks();
  co_await (*consumer)->close();
  if (!moved) co_return moved.error().with("moving the subscription of " + options_.topic);
  co_return Result<void>();
}

aio::Task<void> KeyValueTopic::close() {
  const auto self = shared_from_this();
  co_await gate_.close();
  if (!failed_) failed_ = Error(Code::cancelled, "closed");
  changed_.notify();
  if (reader_) co_await reader_->close();
  if (producer_) co_await producer_->close();
}

}  // namespace hulse::client

#include "runtime/exact_output.h"

#include <boost/json.hpp>

#include "aio/timeout.h"
#include "base/base64.h"
#include "wire/peek.h"
#include "wire/topic_name.h"

namespace hulse::runtime {
namespace {

namespace json = boost::json;

// A place whose messages have been trimmed may look as if there were more, and never come.
constexpr aio::Duration kReadMax = std::chrono::seconds(10);

// What an entry says of its positions; nothing when it says nothing, or it is another one's.
std::map<std::string, std::string> positions_in(const wire::pb::MessageMetadata& metadata) {
  std::map<std::string, std::string> out;
  for (const auto& property : metadata.properties()) {
    if (property.key() != kPositionProperty) continue;
    boost::system::error_code error;
    const auto value = json::parse(property.value(), error);
    if (error || !value.is_object()) continue;
    for (const auto& [lane, position] : value.get_object()) {
      if (!position.is_string()) continue;
      if (auto bytes = base64_decode(position.get_string())) out[std::string(lane)] = *bytes;
    }
  }
  return out;
}

}  // namespace

ExactOutput::ExactOutput(client::Client& client, client::ProducerOptions options,
                         SourceOffsets& offsets)
    : client_(client), options_(std::move(options)), offsets_(offsets) {}

aio::Task<Result<void>> ExactOutput::open() {
  const auto name = wire::TopicName::parse(options_.topic);
  if (!name) co_return name.error();
  const auto count = co_await client_.partitions(options_.topic);
  if (!count) co_return count.error();
  for (unsigned i = 0; i < *count; ++i)
    destinations_.emplace_back().topic = name->partition_of(static_cast<int>(i)).text();
  if (*count == 0) destinations_.emplace_back().topic = name->text();
  sorted_.resize(destinations_.size());
  // The first says what the broker takes; the others are opened when something goes there.
  co_return co_await open_destination(destinations_.front());
}

aio::Task<Result<void>> ExactOutput::open_destination(Destination& destination) {
  auto options = options_;
  options.topic = destination.topic;
  options.always_batch = true;
  options.resend = false;
  options.mark_entry = [&destination](std::span<const uint64_t> tokens,
                                      wire::pb::MessageMetadata& metadata) {
    mark_entry(destination, tokens, metadata);
  };
  auto producer = co_await client_.create_producer(std::move(options));
  if (!producer) co_return producer.error();
  destination.producer = std::move(*producer);
  const auto known = offsets_.offset().read_from.find(destination.topic);
  if (known != offsets_.offset().read_from.end())
    co_return co_await read_back(destination, known->second);
  // Nothing of ours is in it. Where that will begin is remembered before anything is sent.
  client::ReaderOptions at_the_end;
  at_the_end.topic = destination.topic;
  at_the_end.start = kLatest;
  const auto reader = co_await client::Reader::open(client_, std::move(at_the_end));
  if (!reader) co_return reader.error();
  std::function<void(Offset&)> note = [topic = destination.topic, begin = (*reader)->begin()](
                                          Offset& offset) { offset.read_from[topic] = begin; };
  const auto noted = co_await offsets_.change(std::move(note));
  co_await (*reader)->close();
  co_return noted;
}

aio::Task<Result<void>> ExactOutput::read_back(Destination& destination, MessageId from) {
  client::ReaderOptions options;
  options.topic = destination.topic;
  options.start = from.entry < 0 ? kEarliest : from;
  options.start_inclusive = true;
  const auto reader = co_await client::Reader::open(client_, std::move(options));
  if (!reader) co_return reader.error();
  bool first = true;
  Result<void> result;
  for (;;) {
    const auto more = co_await (*reader)->has_more();
    if (!more) result = more.error();
    if (!more || !*more) break;
    const auto messages = co_await aio::with_timeout(kReadMax, "reading back " + destination.topic,
                                                     (*reader)->next());
    if (!messages && messages.error().code() == Code::timeout) break;
    if (!messages) {
      result = messages.error();
      break;
    }
    const auto& entry = **messages;
    if (std::exchange(first, false) && from.entry >= 0 &&
        std::pair(entry.id.ledger, entry.id.entry) != std::pair(from.ledger, from.entry)) {
      doubt_ = fmt::format(
          "possible duplicates: {} should be read back from {}:{} on, but begins at {} (trimmed: "
          "give it a retention, or a subscription that keeps it)",
          destination.topic, from.ledger, from.entry, entry.id.text());
    }
    if (entry.metadata.producer_name() != options_.name) continue;
    for (auto& [lane, position] : positions_in(entry.metadata)) {
      auto& last = destination.stored[lane];
      if (position > last) last = std::move(position);
    }
  }
  co_await (*reader)->close();
  co_return result;
}

void ExactOutput::mark_entry(Destination& destination, std::span<const uint64_t> tokens,
                             wire::pb::MessageMetadata& metadata) {
  json::object last;
  for (const uint64_t token : tokens) {
    const auto& mark = destination.marks[token - destination.first_mark];
    last[mark.lane] = base64_encode(mark.position);
  }
  auto* property = metadata.add_properties();
  property->set_key(kPositionProperty);
  property->set_value(json::serialize(last));
  // Entries are made in the order of their messages.
  while (!tokens.empty() && destination.first_mark <= tokens.back()) {
    destination.marks.pop_front();
    ++destination.first_mark;
  }
}

aio::Task<Result<size_t>> ExactOutput::send(const connect::SourceBatch& batch, Done done) {
  const auto destination_of = [&](const connect::SourceRecord& record) {
    return wire::murmur3(record.key ? *record.key : record.lane) % destinations_.size();
  };
  for (const auto& record : batch.records) {
    auto& destination = destinations_[destination_of(record)];
    if (destination.producer) continue;
    const auto opened = co_await open_destination(destination);
    if (!opened) co_return opened.error();
  }
  size_t already = 0;
  for (auto& part : sorted_) part.clear();
  for (const auto& record : batch.records) {
    const size_t at = destination_of(record);
    auto& destination = destinations_[at];
    const auto stored = destination.stored.find(record.lane);
    if (stored != destination.stored.end() && record.position <= stored->second) {
      ++already;
      continue;
    }
    destination.marks.push_back({std::string(record.lane), std::string(record.position)});
    sorted_[at].push_back({.value = record.value,
                           .key = record.key,
                           .properties = record.properties,
                           .event_time = record.event_time,
                           .token = destination.first_mark + destination.marks.size() - 1});
  }
  struct Parts {
    size_t open = 0;
    Stored stored;
    Done done;
  };
  const auto parts = std::make_shared<Parts>();
  parts->done = std::move(done);
  for (const auto& part : sorted_) parts->open += part.empty() ? 0 : 1;
  if (parts->open == 0) parts->done(std::move(parts->stored));
  for (size_t at = 0; at < sorted_.size(); ++at) {
    if (sorted_[at].empty()) continue;
    destinations_[at].producer->send(
        sorted_[at], [parts, topic = destinations_[at].topic](const Result<MessageId>& id) {
          if (id) {
            parts->stored.last[topic] = *id;
          } else if (parts->stored.result) {
            parts->stored.result = id.error();
          }
          if (--parts->open == 0) parts->done(std::move(parts->stored));
        });
  }
  co_return already;
}

aio::Task<bool> ExactOutput::wait_for_room() {
  for (auto& destination : destinations_) {
    if (!destination.producer) continue;
    const bool room = co_await destination.producer->wait_for_room();
    if (!room) co_return false;
  }
  co_return true;
}

aio::Task<Result<void>> ExactOutput::flush() {
  Result<void> result;
  for (auto& destination : destinations_) {
    if (!destination.producer) continue;
    const auto flushed = co_await destination.producer->flush();
    if (!flushed && result) result = flushed.error();
  }
  co_return result;
}

aio::Task<void> ExactOutput::close() {
  for (auto& destination : destinations_) {
    if (destination.producer) co_await destination.producer->close();
  }
}

}  // namespace hulse::runtime

// Worker's replay: a sink goes on from another place of its topics.
#include "aio/timeout.h"
#include "base/log.h"
#include "client/reader.h"
#include "client/topic_finder.h"
#include "runtime/worker_parts.h"
#include "wire/topic_name.h"

namespace hulse::runtime {
namespace {

constexpr auto kLookMax = std::chrono::seconds(20);
constexpr auto kEndMax = std::chrono::seconds(15);  // of instances, on whichever worker

// The first message from a place on; nothing when there is none.
aio::Task<Result<std::optional<Message>>> first_from(client::Client& client, std::string topic,
                                                     Place place) {
  client::ReaderOptions options{.topic = topic};
  if (place.message) {
    options.start = *place.message;
    options.start_inclusive = true;
  }
  const auto reader = co_await client::Reader::open(client, options);
  if (!reader) co_return reader.error();
  Result<void> moved;
  if (place.time_ms) moved = co_await (*reader)->seek(*place.time_ms);
  Result<std::optional<Message>> found = std::optional<Message>();
  while (moved) {
    const auto more = co_await (*reader)->has_more();
    if (!more) {
      moved = more.error();
      break;
    }
    if (!*more) break;
    const auto messages =
        co_await aio::with_timeout(kLookMax, "reading " + topic, (*reader)->next());
    if (!messages) {
      moved = messages.error();
      break;
    }
    if ((*messages)->list.empty()) continue;  // a marker
    // What it says of the message, without its views.
    const auto& first = (*messages)->list.front();
    Message message;
    message.id = first.id;
    message.publish_time = first.publish_time;
    found = std::optional(message);
    break;
  }
  co_await (*reader)->close();
  if (!moved) co_return moved.error();
  co_return found;
}

std::string told(const std::string& topic, const std::optional<Message>& message) {
  if (!message) return fmt::format("{}: behind its last message", topic);
  return fmt::format("{}: at message {}, published {}", topic, message->id.text(),
                     time_text(message->publish_time));
}

// Where a topic is read from, or why not.
aio::Task<Result<std::string>> look(client::Client& client, std::string topic, Place place) {
  if (place.message == kLatest) co_return fmt::format("{}: behind its last message", topic);
  const Place earliest{kEarliest, std::nullopt};
  const auto oldest = co_await first_from(client, topic, earliest);
  if (!oldest) co_return oldest.error();
  if (place.message == kEarliest) co_return told(topic, *oldest);
  if (place.message) {
    const auto& asked = *place.message;
    const bool gone = !*oldest || std::pair(asked.ledger, asked.entry) <
                                      std::pair((*oldest)->id.ledger, (*oldest)->id.entry);
    if (gone) {
      co_return Error(
          Code::invalid,
          fmt::format("message {} of {} is not stored any more; {}", asked.text(), topic,
                      *oldest
                          ? fmt::format("the oldest is {}, published {} (--from "
                                        "earliest begins there)",
                                        (*oldest)->id.text(), time_text((*oldest)->publish_time))
                          : "the topic holds none"));
    }
  }
  const auto first = co_await first_from(client, topic, place);
  if (!first) co_return first.error();
  auto text = told(topic, *first);
  if (place.time_ms && *oldest && (*oldest)->publish_time > *place.time_ms)
    text += "; nothing older is stored";
  co_return text;
}

aio::Task<Result<void>> seek_subscription(client::Client& client, const Component& component,
                                          std::string topic, Place place) {
  client::ConsumerOptions options;
  options.topic = topic;
  options.subscription = component.subscription;
  options.type = component.subscription_type();
  const auto consumer = co_await client.subscribe(std::move(options));
  if (!consumer) co_return consumer.error();
  Result<void> moved;
  if (place.message) {
    moved = co_await (*consumer)->seek(*place.message);
  } else {
    moved = co_await (*consumer)->seek(*place.time_ms);
  }
  co_await (*consumer)->close();
  if (!moved) co_return moved.error().with("moving the subscription of " + topic);
  co_return Result<void>();
}

}  // namespace

aio::Task<Result<std::vector<std::string>>> Worker::replay(ComponentName name, Place place,
                                                           std::string only_topic) {
  auto turn = co_await take_turn(name.text());
  auto found = find(connect::Kind::sink, name, false);
  if (!found) co_return found.error();
  std::vector<std::string> notes;
  const auto component = parse_component(found->record.kind, found->record.config, notes);
  if (!component) co_return component.error();
  const auto client = client_;
  if (!client) co_return not_ready();
  auto finder = client::TopicFinder::make(
      *client, {.topics = component->inputs, .pattern = component->topics_pattern});
  if (!finder) co_return finder.error();
  auto topics = co_await (*finder)->find();
  if (!topics) co_return topics.error();
  if (!only_topic.empty()) {
    const auto wanted = wire::TopicName::parse(only_topic);
    if (!wanted) co_return wanted.error();
    std::erase_if(*topics, [&](const std::string& topic) { return topic != wanted->text(); });
    if (topics->empty())
      co_return Error(Code::invalid, fmt::format("the sink does not read {}", only_topic));
  }
  const bool a_message = place.message && *place.message != kEarliest && *place.message != kLatest;
  if (a_message && topics->size() > 1) {
    co_return Error(Code::invalid,
                    fmt::format("a message is one of one topic, and the sink reads {}: say which "
                                "(--topic)",
                                topics->size()));
  }
  std::vector<std::string> from;
  for (const auto& topic : *topics) {
    const auto where = co_await look(*client, topic, place);
    if (!where) co_return where.error();
    from.push_back(*where);
  }
  // Nobody may read while the subscription moves.
  const auto before = found->record.stopped;
  auto record = found->record;
  for (unsigned i = 0; i < component->parallelism; ++i) record.stopped.insert(i);
  auto stored = co_await store(name, record, found->version);
  if (!stored) co_return stored.error();
  turn.end();
  co_await wait_applied(name.text(), *stored);
  const auto until = aio::Clock::now() + kEndMax;
  while (!ended_everywhere(name.text()) && aio::Clock::now() < until) {
    co_await changed_.wait_until(until);
    const bool stopped = co_await aio::cancelled();
    if (stopped) break;
  }
  Result<void> moved;
  if (!ended_everywhere(name.text())) {
    moved = Error(Code::timeout, "its instances have not ended in time; nothing was moved");
  }
  for (size_t i = 0; moved && i < topics->size(); ++i)
    moved = co_await seek_subscription(*client, *component, (*topics)[i], place);
  // Whatever came of it, it goes on.
  const auto again = co_await take_turn(name.text());
  found = find(connect::Kind::sink, name, false);
  if (!found) co_return found.error();
  record = found->record;
  record.stopped = before;
  stored = co_await store(name, record, found->version);
  if (!moved) co_return moved.error();
  if (!stored) co_return stored.error().with("it was moved, and stands still: start it");
  for (const auto& line : from) log::info("worker", "{} goes on: {}", name.text(), line);
  co_return from;
}

}  // namespace hulse::runtime

// REST of topics and subscriptions: /admin/v2/persistent/{tenant}/{namespace}/{topic}/….
#include <charconv>

#include "broker/rest_common.h"
#include "broker/stats.h"
#include "broker/subscription.h"
#include "wire/messages.h"

namespace hulse::broker {
namespace {

using Maybe = std::optional<aio::HttpResponse>;

json::object id_json(const MessageId& id) {
  return {{"ledgerId", id.ledger},
          {"entryId", id.entry},
          {"partitionIndex", id.partition},
          {"batchSize", 0},
          {"batchIndex", -1}};
}

// A number in a path, and nothing else: what moves a position is not guessed at.
std::optional<uint64_t> number_in(const std::string& text) {
  uint64_t number = 0;
  const auto* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  if (text.empty() || parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return number;
}

Result<uint64_t> index_in(const Topic& topic, const json::value& body) {
  if (body.is_null()) return topic.end_index();
  if (body.is_string()) {
    const auto& word = body.get_string();
    if (word == "latest") return topic.end_index();
    if (word == "earliest") return topic.first_index();
  }
  for (const char* key : {"ledgerId", "entryId"}) {
    const auto* value = body.is_object() ? body.get_object().if_contains(key) : nullptr;
    if (value == nullptr || !value->is_number()) {
      return Error(Code::invalid,
                   "a message id is expected: {\"ledgerId\": number, \"entryId\": number}");
    }
  }
  const auto number = [&](std::string_view key) -> int64_t {
    const auto* value = body.get_object().if_contains(key);
    boost::system::error_code error;
    const int64_t out =
        value != nullptr && value->is_number() ? value->to_number<int64_t>(error) : -1;
    return error ? INT64_MAX : out;  // above what fits: the end
  };
  return topic.index_of(static_cast<uint64_t>(number("ledgerId")),
                        static_cast<uint64_t>(number("entryId")));
}

std::string percent_safe(std::string_view value) {
  std::string out;
  for (const char c : value) out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  return out;
}

// One message, with what is known of it in headers.
aio::Task<aio::HttpResponse> show_message(std::shared_ptr<Topic> topic, uint64_t index) {
  if (index >= topic->end_index()) co_return refuse(404, "Message not found");
  const auto read = co_await topic->read(index, 1, 1);
  if (!read) co_return refuse(500, read.error().text());
  if (read->empty()) co_return refuse(404, "Message not found");
  const auto id = topic->message_id(read->front().index);
  auto entry = wire::parse_entry(read->front().entry);
  if (!entry) co_return refuse(500, entry.error().text());
  const auto& meta = entry->metadata;
  // A batch goes out whole: the tool takes it apart.
  aio::HttpResponse out;
  if (meta.has_num_messages_in_batch()) {
    out.headers.emplace_back("X-Pulsar-num-batch-message",
                             std::to_string(meta.num_messages_in_batch()));
  }
  const auto messages =
      wire::decode_messages(read->front().entry, id, {}, 0, wire::kMessageBytesMax * 4);
  if (!messages) co_return refuse(500, messages.error().text());
  out.body = meta.compression() == wire::pb::NONE ? std::string(entry->payload.view())
                                                  : (*messages)->plain;
  out.content_type = "application/octet-stream";
  out.headers.emplace_back("X-Pulsar-Message-ID", position(id));
  out.headers.emplace_back("X-Pulsar-publish-time",
                           iso_time(static_cast<int64_t>(meta.publish_time())));
  out.headers.emplace_back("X-Pulsar-producer-name", percent_safe(meta.producer_name()));
  out.headers.emplace_back("X-Pulsar-sequence-id", std::to_string(meta.sequence_id()));
  if (meta.event_time() != 0) {
    out.headers.emplace_back("X-Pulsar-event-time",
                             iso_time(static_cast<int64_t>(meta.event_time())));
  }
  if (meta.has_partition_key())
    out.headers.emplace_back("X-Pulsar-partition-key", percent_safe(meta.partition_key()));
  json::object properties;
  for (const auto& property : meta.properties()) properties[property.key()] = property.value();
  if (!properties.empty())
    out.headers.emplace_back("X-Pulsar-PROPERTY", json::serialize(properties));
  co_return out;
}

// The n-th unacknowledged one, from 1.
aio::Task<aio::HttpResponse> peek_message(std::shared_ptr<Topic> topic,
                                          std::shared_ptr<Subscription> subscription,
                                          uint64_t nth) {
  uint64_t index = subscription->cursor().next_unacked(topic->first_index());
  for (uint64_t i = 1; i < nth && index < topic->end_index(); ++i)
    index = subscription->cursor().next_unacked(index + 1);
  auto shown = co_await show_message(std::move(topic), index);
  co_return shown;
}

aio::Task<Result<void>> wait_for(Topic& topic, std::function<void(Subscription::Done)> start) {
  aio::Event answered(topic.shared().executor);
  std::optional<Result<void>> result;
  start([&](const Result<void>& written) {
    result = written;
    answered.notify();
  });
  while (!result) co_await answered.wait_uncancelled();
  co_return *result;
}

aio::Task<aio::HttpResponse> seek(std::shared_ptr<Topic> topic,
                                  std::shared_ptr<Subscription> subscription, uint64_t index) {
  const auto written = co_await wait_for(
      *topic, [&](Subscription::Done told) { subscription->seek(index, std::move(told)); });
  co_return done(written);
}

// Topics a call on `name` means: itself, or each partition.
std::vector<std::string> targets(Call& call, const wire::TopicName& name) {
  const int partitions = call.broker.partitions(name);
  if (partitions == 0) return {name.text()};
  std::vector<std::string> out;
  for (int i = 0; i < partitions; ++i) out.push_back(name.partition_of(i).text());
  return out;
}

aio::Task<Maybe> on_subscription(Call& call, const wire::TopicName& name) {
  const std::string& subscription_name = call.parts[7];
  const std::string action = call.parts.size() > 8 ? call.parts[8] : "";
  const std::string argument = call.parts.size() > 9 ? call.parts[9] : "";
  const auto body = call.body();
  if (!body) co_return refuse(400, body.error().text());
  const bool creates = call.parts.size() == 8 && call.put();
  Maybe last = no_content();
  for (const auto& target : targets(call, name)) {
    const auto found = call.broker.topic(target, creates && call.broker.partitions(name) > 0);
    if (found.refusal) co_return refuse(404, fmt::format("Topic {} not found", target));
    const auto topic = found.topic;
    const auto subscription = topic->find(subscription_name);
    if (creates) {
      if (subscription) co_return refuse(409, "Subscription already exists for topic");
      const auto index = index_in(*topic, *body);
      if (!index) co_return refuse(400, index.error().text());
      const auto written = co_await wait_for(*topic, [&](Subscription::Done told) {
        topic->create(subscription_name, true, *index, std::move(told));
      });
      if (!written) co_return done(written);
      continue;
    }
    if (!subscription)
      co_return refuse(404, fmt::format("Subscription {} not found", subscription_name));
    const auto given = number_in(argument);
    if (!argument.empty() && !given) {
      co_return refuse(412, fmt::format("{}: \"{}\" is no number from 0 on", action, argument));
    }
    const uint64_t number = given.value_or(0);
    if (call.parts.size() == 8 && call.del()) {
      if (!subscription->consumers().empty() && !call.flag("force")) {
        co_return refuse(412, "Subscription has active connected consumers");
      }
      const auto consumers = subscription->consumers();
      for (const auto& consumer : consumers) consumer->link->drop_consumer(consumer->id);
      const auto written = co_await wait_for(*topic, [&](Subscription::Done told) {
        topic->remove(subscription_name, std::move(told));
      });
      if (!written) co_return done(written);
    } else if (action == "position" && call.get()) {
      last = co_await peek_message(topic, subscription, std::max<uint64_t>(1, number));
    } else if (action == "skip_all" && call.post()) {
      last = co_await seek(topic, subscription, topic->end_index());
    } else if (action == "skip" && call.post()) {
      uint64_t index = subscription->cursor().next_unacked(topic->first_index());
      for (uint64_t i = 0; i < number && index < topic->end_index(); ++i) {
        index = subscription->cursor().next_unacked(index + 1);
      }
      last = co_await seek(topic, subscription, std::min(index, topic->end_index()));
    } else if (action == "resetcursor" && call.post() && call.parts.size() == 10) {
      const auto index = co_await topic->index_at(number);
      if (!index) co_return refuse(500, index.error().text());
      last = co_await seek(topic, subscription, *index);
    } else if (action == "resetcursor" && call.post()) {
      if (body->is_null()) co_return refuse(412, "the body is the message id to go to");
      const auto index = index_in(*topic, *body);
      if (!index) co_return refuse(400, index.error().text());
      last = co_await seek(topic, subscription, *index);
    } else if (action == "expireMessages" && call.post()) {
      const auto now = static_cast<uint64_t>(aio::wall_ms());
      const auto index = co_await topic->index_at(now - std::min(now, number * 1000));
      if (!index) co_return refuse(500, index.error().text());
      subscription->expire_until(*index);
    } else {
      co_return std::nullopt;
    }
    if (last && last->status >= 400) co_return last;
  }
  co_return last;
}

bool all_texts(const json::object& object) {
  return std::all_of(object.begin(), object.end(),
                     [](const auto& property) { return property.value().is_string(); });
}

aio::Task<Maybe> on_partitions(Call& call, const wire::TopicName& name) {
  auto& namespaces = call.broker.namespaces();
  const int present = call.broker.partitions(name);
  if (call.get()) {
    json::object shown{{"partitions", present}, {"deleted", false}};
    auto properties = namespaces.properties(name.text());
    if (present > 0 && !properties.empty()) shown["properties"] = std::move(properties);
    co_return answer(shown);
  }
  if (call.del()) {
    if (present == 0)
      co_return refuse(
          404, fmt::format("Partitioned Topic not found: {} has zero partitions", name.text()));
    for (const auto& target : targets(call, name)) {
      const auto loaded = call.broker.loaded().find(target);
      const bool used = loaded != call.broker.loaded().end() && loaded->second->in_use();
      if (used && !call.flag("force"))
        co_return refuse(412, "Topic has active producers/subscriptions");
    }
    const auto forgotten = co_await namespaces.remove_partitions(name.text());
    if (!forgotten) co_return done(forgotten);
    const auto without = co_await namespaces.put_properties(name.text(), {});
    if (!without) co_return done(without);
    for (int i = 0; i < present; ++i) {
      const std::string partition = name.partition_of(i).text();
      if (!call.broker.known(partition)) continue;
      const auto removed = co_await call.broker.remove(partition);
      if (!removed) co_return done(removed);
    }
    co_return no_content();
  }
  auto body = call.body();
  if (!body) co_return refuse(400, body.error().text());
  boost::system::error_code error;
  // A bare number, as a text from some clients, or {"partitions": n, "properties": …}.
  json::object properties;
  if (body->is_object() && body->get_object().contains("partitions")) {
    if (const auto* given = body->get_object().if_contains("properties");
        given && !given->is_null()) {
      if (!given->is_object() || !all_texts(given->get_object()))
        co_return refuse(400, "properties: a map of texts is expected");
      properties = given->get_object();
    }
    *body = json::value(body->get_object().at("partitions"));
  }
  const int count = body->is_number() ? body->to_number<int>(error)
                    : body->is_string()
                        ? static_cast<int>(std::min<uint64_t>(
                              number_in(std::string(body->get_string())).value_or(0), 100'000))
                        : 0;
  if (error || count < 1 || count > 10'000)
    co_return refuse(406, "Number of partitions should be between 1 and 10000");
  if (call.put()) {
    if (present > 0 || call.broker.known(name.text()))
      co_return refuse(409, "This topic already exists");
  } else if (call.post()) {
    if (present == 0) co_return refuse(404, "Topic is not partitioned topic");
    if (count < present)
      co_return refuse(
          422, fmt::format("Expect partitions {} can't less than current partitions {}.", count,
                           present));
  } else {
    co_return refuse(405, call.request.method + " is not possible here");
  }
  // New partitions get the subscriptions of the old ones, so that nothing in them is missed.
  std::vector<std::string> subscriptions;
  if (present > 0 && call.broker.known(name.partition_of(0).text())) {
    const auto first = call.broker.topic(name.partition_of(0).text(), false);
    if (first.topic) {
      for (const auto& [subscription, state] : first.topic->subscriptions()) {
        if (state->durable()) subscriptions.push_back(subscription);
      }
    }
  }
  // Before the topic is there, so that it never is without them.
  if (!properties.empty()) {
    const auto kept = co_await namespaces.put_properties(name.text(), std::move(properties));
    if (!kept) co_return done(kept);
  }
  const auto written = co_await namespaces.put_partitions(name.text(), count);
  if (!written) co_return done(written);
  for (int i = present; i < count && !subscriptions.empty(); ++i) {
    const auto found = call.broker.topic(name.partition_of(i).text(), true);
    if (found.refusal) co_return refuse(500, found.refusal->message);
    for (const auto& subscription : subscriptions) {
      const auto topic = found.topic;
      const auto made = co_await wait_for(*topic, [&](Subscription::Done told) {
        topic->create(subscription, true, topic->first_index(), std::move(told));
      });
      if (!made) co_return done(made);
    }
  }
  co_return no_content();
}

// Of a topic, partitioned or not: all are shown, some are set or one is taken out (?key=…).
aio::Task<Maybe> on_properties(Call& call, const wire::TopicName& name) {
  auto& namespaces = call.broker.namespaces();
  const std::string text = name.text();
  if (!call.broker.known(text) && call.broker.partitions(name) == 0)
    co_return refuse(404, fmt::format("Topic {} not found", text));
  auto properties = namespaces.properties(text);
  if (call.get()) co_return answer(properties);
  if (call.put()) {
    const auto body = call.body();
    if (!body) co_return refuse(400, body.error().text());
    if (!body->is_object() || !all_texts(body->get_object()))
      co_return refuse(400, "properties: a map of texts is expected");
    for (const auto& [key, value] : body->get_object()) properties[key] = value;
  } else if (call.del()) {
    const auto key = call.query.find("key");
    if (key == call.query.end()) co_return refuse(400, "?key= says which property goes");
    properties.erase(key->second);
  } else {
    co_return refuse(405, call.request.method + " is not possible here");
  }
  const auto kept = co_await namespaces.put_properties(text, std::move(properties));
  co_return done(kept);
}

aio::Task<Maybe> on_topic(Call& call, const wire::TopicName& name) {
  const std::string text = name.text();
  if (call.parts.size() == 6) {
    if (call.put()) {
      if (call.broker.known(text) || call.broker.partitions(name) > 0)
        co_return refuse(409, "This topic already exists");
      json::object properties;
      if (!call.request.body.empty()) {
        const auto body = call.body();
        if (!body) co_return refuse(400, body.error().text());
        const bool fits = body->is_null() || (body->is_object() && all_texts(body->get_object()));
        if (!fits) co_return refuse(400, "properties: a map of texts is expected");
        if (body->is_object()) properties = body->get_object();
      }
      const auto made = call.broker.create(text);
      if (made) co_return refuse(500, made->message);
      const auto kept =
          co_await call.broker.namespaces().put_properties(text, std::move(properties));
      if (!kept) co_return done(kept);
      co_return no_content();
    }
    if (call.del()) {
      if (!call.broker.known(text)) co_return refuse(404, fmt::format("Topic {} not found", text));
      const auto loaded = call.broker.loaded().find(text);
      const bool used = loaded != call.broker.loaded().end() && loaded->second->in_use();
      if (used && !call.flag("force"))
        co_return refuse(412, "Topic has active producers/subscriptions");
      const auto removed = co_await call.broker.remove(text);
      co_return done(removed);
    }
    co_return std::nullopt;
  }
  const std::string& what = call.parts[6];
  if (what == "partitions" && call.parts.size() == 7) {
    const auto answered = co_await on_partitions(call, name);
    co_return answered;
  }
  if (what == "properties" && call.parts.size() == 7) {
    const auto answered = co_await on_properties(call, name);
    co_return answered;
  }
  if (what == "subscription" && call.parts.size() >= 8) {
    const auto answered = co_await on_subscription(call, name);
    co_return answered;
  }
  if (what == "subscriptions" && call.get()) {
    std::set<std::string> names;
    for (const auto& target : targets(call, name)) {
      const auto found = call.broker.topic(target, call.broker.partitions(name) > 0);
      if (found.refusal) co_return refuse(404, fmt::format("Topic {} not found", target));
      for (const auto& [subscription, state] : found.topic->subscriptions())
        names.insert(subscription);
    }
    json::array list;
    for (const auto& subscription : names) list.emplace_back(subscription);
    co_return answer(list);
  }
  if (what == "partitioned-stats" && call.get()) {
    const int count = call.broker.partitions(name);
    if (count == 0) co_return refuse(404, fmt::format("Partitioned topic {} not found", text));
    std::vector<std::shared_ptr<Topic>> partitions;
    for (const auto& target : targets(call, name)) {
      const auto found = call.broker.topic(target, true);
      if (found.topic) partitions.push_back(found.topic);
    }
    const auto each = call.query.find("perPartition");
    co_return answer(
        partitioned_stats(partitions, each == call.query.end() || each->second == "true"));
  }
  if (what == "unload" && call.put()) {
    for (const auto& target : targets(call, name)) co_await call.broker.unload(target);
    co_return no_content();
  }
  if (what == "compaction" && call.put()) {
    bool started = true;
    for (const auto& target : targets(call, name)) {
      const auto found = call.broker.topic(target, call.broker.partitions(name) > 0);
      if (found.refusal) co_return refuse(404, fmt::format("Topic {} not found", target));
      started = call.broker.start_compaction(found.topic) && started;
    }
    co_return started ? no_content() : refuse(409, "Compaction already in progress");
  }
  const auto found = call.broker.topic(text, false);
  if (found.refusal) co_return refuse(404, fmt::format("Topic {} not found", text));
  const auto topic = found.topic;
  if (call.is(6, {"ledger", "*", "entry", "*"}) && call.get()) {
    const auto ledger = number_in(call.parts[7]);
    const auto entry = number_in(call.parts[9]);
    if (!ledger || !entry) co_return refuse(412, "ledger and entry are numbers from 0 on");
    const auto index = topic->exact_index(*ledger, *entry);
    auto shown = co_await show_message(topic, index ? *index : topic->end_index());
    co_return shown;
  }
  if (what == "compaction" && call.get()) {
    const auto& state = topic->compaction_state();
    const char* status = state.running                                     ? "RUNNING"
                         : !state.error.empty()                            ? "ERROR"
                         : state.succeeded_ms || topic->record().compacted ? "SUCCESS"
                                                                           : "NOT_RUN";
    co_return answer(json::object{{"status", status}, {"lastError", state.error}});
  }
  if (what == "stats" && call.get()) co_return answer(topic_stats(*topic));
  if ((what == "internalStats" || what == "internal-info") && call.get())
    co_return answer(internal_stats(*topic));
  if (what == "lastMessageId" && call.get()) co_return answer(id_json(topic->last_id()));
  if (what == "terminate" && call.post()) {
    const auto written = co_await wait_for(
        *topic, [&](Subscription::Done told) { topic->terminate(std::move(told)); });
    if (!written) co_return done(written);
    co_return answer(id_json(topic->last_id()));
  }
  co_return std::nullopt;
}

}  // namespace

aio::Task<std::optional<aio::HttpResponse>> handle_topics(Call& call) {
  if (call.parts.size() < 5 || call.parts[0] != "admin" || call.parts[1] != "v2" ||
      (call.parts[2] != "persistent" && call.parts[2] != "non-persistent")) {
    co_return std::nullopt;
  }
  const std::string name_space = call.parts[3] + "/" + call.parts[4];
  if (!call.broker.namespaces().exists(name_space))
    co_return refuse(404, "Namespace does not exist");
  if (call.parts[2] == "non-persistent") {
    // There are none, and tools ask for both kinds.
    if (call.get() && (call.parts.size() == 5 || call.is(5, {"partitioned"})))
      co_return answer(json::array());
    co_return refuse(405, "non-persistent topics are not supported by this broker");
  }
  if (call.parts.size() == 5 && call.get()) {
    json::array names;
    for (auto& name : call.broker.topics(name_space)) names.emplace_back(std::move(name));
    co_return answer(names);
  }
  if (call.is(5, {"partitioned"}) && call.get()) {
    json::array names;
    const std::string prefix = "persistent://" + name_space + "/";
    for (const auto& [name, count] : call.broker.namespaces().partitioned()) {
      if (name.starts_with(prefix)) names.emplace_back(name);
    }
    co_return answer(names);
  }
  if (call.parts.size() < 6) co_return std::nullopt;
  const auto name =
      wire::TopicName::parse(fmt::format("persistent://{}/{}", name_space, call.parts[5]));
  if (!name) co_return refuse(412, name.error().text());
  const auto answered = co_await on_topic(call, *name);
  co_return answered;
}

}  // namespace hulse::broker

// hulse deadletters: what sinks rejected. Looked at, brought back, or dropped.
#include <CLI/CLI.hpp>
#include <iostream>
#include <map>

#include "aio/timeout.h"
#include "base/text.h"
#include "cli/data_commands.h"
#include "cli/masking.h"
#include "cli/with_client.h"
#include "client/dead_letter.h"
#include "wire/topic_name.h"

namespace hulse::cli {
namespace {

constexpr auto kWaitMax = std::chrono::seconds(10);
constexpr auto kTailWait = std::chrono::milliseconds(500);
constexpr auto kStopMax = std::chrono::seconds(10);

enum class Deed { list, show, replay, drop };

struct Words {
  ClientWords client;
  ComponentRef sink;
  std::string topic;
  std::string reason;
  std::string text;
  std::string since;
  std::string until;
  std::string id;
  std::string to;
  int64_t count = 0;
  bool dry_run = false;
  bool all = false;
};

// What is asked for, taken apart.
struct Order {
  Deed deed = Deed::list;
  const Words& words;
  std::string topic;              // of the dead letters
  std::optional<std::string> to;  // instead of where each came from
  std::optional<int64_t> since_ms = {};
  std::optional<int64_t> until_ms = {};
};

std::string_view property(const Message& letter, std::string_view name) {
  for (const auto& [key, value] : letter.properties) {
    if (key == name) return value;
  }
  return {};
}

bool matches(const Order& order, const Message& letter) {
  const auto& words = order.words;
  const auto holds = [](std::string_view text, const std::string& part) {
    return part.empty() || text.find(part) != std::string_view::npos;
  };
  if (!holds(property(letter, runtime::kDeadLetterReason), words.reason)) return false;
  if (!holds(letter.value, words.text)) return false;
  if (order.since_ms && letter.publish_time < *order.since_ms) return false;
  if (order.until_ms && letter.publish_time >= *order.until_ms) return false;
  return words.id.empty() || letter.id.text() == words.id ||
         property(letter, client::kOriginMessageId) == words.id;
}

void show_line(const Message& letter) {
  std::cout << fmt::format(
      "{:<12} {} {} {} {}\n", letter.id.text(), runtime::time_text(letter.publish_time),
      property(letter, client::kRealTopic), property(letter, client::kOriginMessageId),
      shown_value(property(letter, runtime::kDeadLetterReason), 200));
}

void show_whole(const Message& letter) {
  std::cout << fmt::format("letter:    {} of {}\n", letter.id.text(),
                           runtime::time_text(letter.publish_time))
            << fmt::format("reason:    {}\n",
                           shown_value(property(letter, runtime::kDeadLetterReason), 10'000))
            << fmt::format("came from: message {} of {}\n",
                           property(letter, client::kOriginMessageId),
                           property(letter, client::kRealTopic));
  if (letter.key) std::cout << fmt::format("key:       {}\n", shown_value(*letter.key, 1000));
  for (const auto& [name, value] : letter.properties) {
    if (name == runtime::kDeadLetterReason || name == client::kRealTopic) continue;
    std::cout << fmt::format("property:  {}={}\n", shown_value(name, 1000),
                             is_sensitive_name(name) ? kRedacted : shown_value(value, 1000));
  }
  std::cout << "value:     " << (letter.null_value ? "null" : shown_value(letter.value, 100'000))
            << "\n\n";
}

// Sends letters to where they came from; one producer a topic.
class Return {
 public:
  explicit Return(client::Client& client) : client_(client) {}

  aio::Task<Result<void>> send(const Message& letter, std::string topic) {
    auto& producer = producers_[topic];
    if (!producer) {
      client::ProducerOptions options;
      options.topic = topic;
      options.chunking = true;
      auto made = co_await client_.create_producer(options);
      if (!made) {
        producers_.erase(topic);
        co_return made.error();
      }
      producer = std::move(*made);
    }
    std::vector<Property> properties;
    // The first origin stays: it tells two letters of one message from two messages.
    for (const auto& one : letter.properties) {
      if (one.first != runtime::kDeadLetterReason) properties.push_back(one);
    }
    const wire::Outgoing message{.value = letter.value,
                                 .key = letter.key,
                                 .properties = properties,
                                 .event_time = letter.event_time,
                                 .null_value = letter.null_value};
    std::optional<Error> failed;
    producer->send({&message, 1}, [&failed](const Result<MessageId>& id) {
      if (!id) failed = id.error();
    });
    const auto flushed = co_await producer->flush();
    if (!flushed) co_return flushed.error();
    if (failed) co_return *failed;
    co_return Result<void>();
  }

  aio::Task<void> close() {
    for (const auto& [topic, producer] : producers_) co_await producer->close();
    producers_.clear();
  }

 private:
  client::Client& client_;
  std::map<std::string, std::shared_ptr<client::Producer>> producers_;
};

struct Totals {
  int64_t seen = 0;
  int64_t matching = 0;
  int64_t done = 0;
};

// Subscribing makes a topic that is not there; looking must not.
aio::Task<Result<void>> check_exists(client::Client& client, std::string topic) {
  const auto name = wire::TopicName::parse(topic);
  if (!name) co_return name.error();
  const auto listed = co_await client.topics(name->namespace_text(), "");
  if (!listed) co_return listed.error();
  for (const auto& known : listed->names) {
    const auto other = wire::TopicName::parse(known);
    if (other && other->base().text() == name->base().text()) co_return Result<void>();
  }
  co_return Error(Code::not_found,
                  fmt::format("there are no dead letters: {} does not exist", name->text()));
}

aio::Task<Result<void>> handle(const Order& order, const Message& letter,
                               client::Consumer& consumer, Return& back) {
  switch (order.deed) {
    case Deed::list: show_line(letter); co_return Result<void>();
    case Deed::show: show_whole(letter); co_return Result<void>();
    case Deed::replay: {
      const std::string to =
          order.to ? *order.to : std::string(property(letter, client::kRealTopic));
      if (to.empty()) {
        co_return Error(Code::invalid,
                        fmt::format("letter {} does not say where it came from; say where to with "
                                    "--to",
                                    letter.id.text()));
      }
      if (!order.words.dry_run) {
        const auto sent = co_await back.send(letter, to);
        if (!sent) co_return sent.error().with("replaying letter " + letter.id.text());
        // Only what is stored again goes.
        consumer.ack_message(letter.id);
      }
      co_return Result<void>();
    }
    case Deed::drop:
      if (!order.words.dry_run) consumer.ack_message(letter.id);
      co_return Result<void>();
  }
  co_return Result<void>();
}

// The letters of one topic, as its subscription has them: without acknowledging they stay.
aio::Task<Result<void>> walk(const Order& order, std::string topic, Totals& totals, Return& back,
                             client::Client& client) {
  client::ConsumerOptions options;
  options.topic = topic;
  options.subscription = runtime::kDeadLetterSubscription;
  options.type = wire::pb::CommandSubscribe::Exclusive;
  options.initial_position = wire::pb::CommandSubscribe::Earliest;
  options.name = "hulse-deadletters";
  const auto consumer = co_await client.subscribe(std::move(options));
  if (!consumer) co_return consumer.error().with("reading the dead letters of " + topic);
  const auto backlog = co_await (*consumer)->backlog();
  Result<void> result;
  if (!backlog) result = backlog.error();
  uint64_t entries = 0;
  uint64_t messages = 0;
  const auto enough = [&] { return order.words.count > 0 && totals.matching >= order.words.count; };
  while (result && entries < *backlog && !enough()) {
    // Apache Pulsar counts entries, our broker messages: once as many messages have come, what is
    // left has come too or does not come.
    const aio::Duration limit = messages < *backlog ? aio::Duration(kWaitMax) : kTailWait;
    const auto came =
        co_await aio::with_timeout(limit, "waiting for dead letters", (*consumer)->receive());
    if (!came) {
      const bool over = came.error().code() == Code::timeout && messages >= *backlog;
      if (!over) result = came.error();
      break;
    }
    ++entries;
    messages += (*came)->list.size();
    for (const auto& letter : (*came)->list) {
      if (enough()) break;
      ++totals.seen;
      if (!matches(order, letter)) continue;
      ++totals.matching;
      const auto handled = co_await handle(order, letter, **consumer, back);
      if (!handled) {
        result = handled.error();
        break;
      }
      ++totals.done;
    }
  }
  co_await aio::start_cleanup();
  const auto acked =
      co_await aio::with_timeout(kStopMax, "acknowledging", (*consumer)->flush_acks());
  co_await (*consumer)->close();
  if (!acked && result) result = acked.error();
  co_return result;
}

aio::Task<Result<void>> all(const Order& order, client::Client& client) {
  const auto exists = co_await check_exists(client, order.topic);
  if (!exists) co_return exists.error();
  std::vector<std::string> names = {order.topic};
  const auto topics = co_await find_topics(client, std::move(names), "");
  if (!topics) co_return topics.error();
  Totals totals;
  Return back(client);
  Result<void> result;
  for (const auto& topic : *topics) {
    result = co_await walk(order, topic, totals, back, client);
    if (!result) break;
  }
  co_await aio::start_cleanup();
  co_await back.close();
  const bool changes = order.deed == Deed::replay || order.deed == Deed::drop;
  const char* done = order.deed == Deed::replay ? "replayed" : "dropped";
  if (!changes) {
    std::cout << fmt::format("{} of {} dead letters\n", totals.matching, totals.seen);
  } else if (order.words.dry_run) {
    std::cout << fmt::format("{} of {} dead letters would be {}\n", totals.matching, totals.seen,
                             done);
  } else {
    std::cout << fmt::format("{} of {} dead letters {}\n", totals.done, totals.seen, done);
  }
  co_return result;
}

Result<void> run(Deed deed, const Words& words, const AdminWords& admin) {
  Order order{deed, words, words.topic, std::nullopt};
  const int64_t now = aio::wall_ms();
  for (const auto& [word, text, to] : {std::tuple("--since", &words.since, &order.since_ms),
                                       std::tuple("--until", &words.until, &order.until_ms)}) {
    if (text->empty()) continue;
    const auto time = runtime::parse_time(*text, now);
    if (!time) return time.error().with(word);
    *to = *time;
  }
  const bool filtered = !words.reason.empty() || !words.text.empty() || !words.id.empty() ||
                        order.since_ms || order.until_ms || words.count > 0;
  if (deed == Deed::drop && !filtered && !words.all && !words.dry_run)
    return Error(Code::invalid, "this would drop every dead letter: say --all, or which ones");
  if (words.topic.empty() == words.sink.name.empty())
    return Error(Code::invalid, "whose dead letters? Either --name of a sink, or --topic");
  if (!words.to.empty() && words.to != "input") order.to = words.to;
  if (!words.sink.name.empty()) {
    const auto sink = fetch_component(with_login(admin, words.client), words.sink);
    if (!sink) return sink.error();
    order.topic = runtime::dead_letter_topic(*sink);
    if (words.to == "input") {
      if (sink->inputs.size() != 1)
        return Error(Code::invalid, "--to input: the sink reads several topics; name one");
      order.to = sink->inputs.front();
    }
  } else if (words.to == "input") {
    return Error(Code::invalid, "--to input goes with --name");
  }
  auto options = client_options(words.client);
  if (!options) return options.error();
  return run_with_client(std::move(*options),
                         [&](client::Client& client) { return all(order, client); });
}

void add_deed(CLI::App& group, Action& action, const std::shared_ptr<AdminWords>& admin, Deed deed,
              const char* name, const char* help) {
  const auto words = std::make_shared<Words>();
  auto* command = group.add_subcommand(name, help);
  add_client_flags(*command, words->client);
  command->add_option("--admin-url", admin->url, "Web interface of the server");
  command->add_option("--name", words->sink.name, "Name of the sink that rejected them");
  command->add_option("--tenant", words->sink.tenant, "Its tenant");
  command->add_option("--namespace", words->sink.name_space, "Its namespace");
  command->add_option("--topic", words->topic, "The dead letter topic, instead of a sink");
  command->add_option("--reason", words->reason, "Only those whose reason holds this text");
  command->add_option("--text", words->text, "Only those whose value holds this text");
  command->add_option("--since", words->since,
                      "Only those rejected at that time or later (2h: ago)");
  command->add_option("--until", words->until, "Only those rejected before that time");
  command->add_option("--id", words->id, "Only that letter, by its id or the original message's");
  command->add_option("-n,--limit", words->count, "No more than so many; 0: all")
      ->check(CLI::NonNegativeNumber);
  if (deed == Deed::replay) {
    command->add_option("--to", words->to,
                        "Another topic than the one each came from; \"input\": the sink's");
  }
  if (deed == Deed::drop) command->add_flag("--all", words->all, "Every one of them");
  if (deed == Deed::replay || deed == Deed::drop)
    command->add_flag("--dry-run", words->dry_run, "Only count");
  command->callback([=, &action] { action = [=] { return run(deed, *words, *admin); }; });
}

}  // namespace

void add_dead_letter_commands(CLI::App& app, Action& action,
                              const std::shared_ptr<AdminWords>& admin) {
  auto* group = app.add_subcommand("deadletters", "Records that sinks rejected");
  group->require_subcommand(1);
  add_deed(*group, action, admin, Deed::list, "list", "One line each, with the reason");
  add_deed(*group, action, admin, Deed::show, "show", "Each with its properties and value");
  add_deed(*group, action, admin, Deed::replay, "replay",
           "Send them to the topic they came from; what is stored there leaves the dead letters");
  add_deed(*group, action, admin, Deed::drop, "drop", "Take them off the dead letters for good");
}

}  // namespace hulse::cli

// Worker::trigger: one message through a function, and what comes out of it.
#include <algorithm>

#include "aio/timeout.h"
#include "client/reader.h"
#include "client/topic_finder.h"
#include "runtime/function_sink.h"
#include "runtime/worker_parts.h"
#include "wire/topic_name.h"

namespace hulse::runtime {
namespace {

constexpr auto kAnswerMax = std::chrono::seconds(10);

// What is waited for: the output made of the message that was sent.
struct Triggered {
  explicit Triggered(aio::Executor executor) : changed(executor), gate(executor) {}
  aio::Event changed;
  aio::Gate gate;
  std::vector<std::unique_ptr<client::Reader>> readers;
  std::optional<Result<MessageId>> sent;
  std::optional<Result<std::string>> answer;
};

bool made_of(const Message& message, const MessageId& input) {
  for (const auto& [name, value] : message.properties) {
    if (name != kInputMessageId) continue;
    const auto id = parse_input_message_id(value);
    // Ledgers are a bus's own: they tell the partition, too.
    return id && id->ledger == input.ledger && id->entry == input.entry;
  }
  return false;
}

aio::Task<void> look_for(std::shared_ptr<Triggered> triggered, size_t reader) {
  const MessageId input = triggered->sent->value();
  while (!triggered->answer) {
    const auto messages = co_await triggered->readers[reader]->next();
    if (!messages && messages.error().cancelled()) co_return;
    if (!messages) {
      triggered->answer = messages.error();
    } else {
      for (const auto& message : (*messages)->list) {
        if (made_of(message, input)) triggered->answer = std::string(message.value);
      }
    }
    if (triggered->answer) triggered->changed.notify();
  }
}

aio::Task<Result<void>> open_readers(client::Client& client, std::string output,
                                     std::shared_ptr<Triggered> triggered) {
  const auto count = co_await client.partitions(output);
  if (!count) co_return count.error();
  const auto name = wire::TopicName::parse(output);
  if (!name) co_return name.error();
  for (unsigned i = 0; i < std::max(1u, *count); ++i) {
    client::ReaderOptions options;
    options.topic = *count == 0 ? output : name->partition_of(static_cast<int>(i)).text();
    options.start = kLatest;
    options.name = "trigger";
    auto reader = co_await client::Reader::open(client, std::move(options));
    if (!reader) co_return reader.error();
    triggered->readers.push_back(std::move(*reader));
  }
  co_return Result<void>();
}

aio::Task<Result<void>> wait_sent(std::shared_ptr<Triggered> triggered) {
  while (!triggered->sent) {
    const bool woken = co_await triggered->changed.wait();
    if (!woken) co_return Error(Code::cancelled, "stopped");
  }
  if (!*triggered->sent) co_return triggered->sent->error();
  co_return Result<void>();
}

aio::Task<Result<std::string>> wait_answer(std::shared_ptr<Triggered> triggered) {
  while (!triggered->answer) {
    const bool woken = co_await triggered->changed.wait();
    if (!woken) co_return Error(Code::cancelled, "stopped");
  }
  co_return *triggered->answer;
}

}  // namespace

aio::Task<Result<std::string>> Worker::trigger_input(std::shared_ptr<const Component> component,
                                                     std::string topic) {
  if (topic.empty()) {
    if (component->inputs.size() == 1) co_return component->inputs.front();
    co_return Error(Code::invalid,
                    "Function in trigger function has more than 1 input topics: name one "
                    "(--topic)");
  }
  const auto name = wire::TopicName::parse(topic);
  if (!name) co_return name.error();
  const auto wanted = name->base().text();
  auto topics = component->inputs;
  if (topics.empty()) {
    const auto client = client_;
    if (!client) co_return not_ready();
    auto finder = client::TopicFinder::make(*client, {.pattern = component->topics_pattern});
    if (!finder) co_return finder.error();
    const auto found = co_await (*finder)->find();
    if (!found) co_return found.error();
    topics = *found;
  }
  for (const auto& input : topics) {
    const auto known = wire::TopicName::parse(input);
    if (known && known->base().text() == wanted) co_return wanted;
  }
  co_return Error(
      Code::invalid,
      fmt::format("Function in trigger function has unidentified topic: {} is not read by it",
                  topic));
}

aio::Task<Result<std::optional<std::string>>> Worker::trigger(ComponentName name, std::string topic,
                                                              std::string value) {
  const auto found = find(connect::Kind::function, name, false);
  if (!found) co_return found.error();
  std::vector<std::string> notes;
  auto parsed = parse_component(connect::Kind::function, found->record.config, notes);
  if (!parsed) co_return parsed.error();
  const auto component = std::make_shared<const Component>(std::move(*parsed));
  const auto input = co_await trigger_input(component, std::move(topic));
  if (!input) co_return input.error();
  const auto instances = co_await status(connect::Kind::function, name);
  if (!instances) co_return instances.error();
  const bool runs = std::any_of(
      instances->begin(), instances->end(),
      [](const InstanceStatus& instance) { return instance.status.state == State::running; });
  if (!runs) {
    co_return Error(Code::invalid,
                    "Function in trigger function is not ready: no instance of it is running");
  }
  const auto client = client_;
  if (!client) co_return not_ready();
  const auto triggered = std::make_shared<Triggered>(executor_);
  client::ProducerOptions options;
  options.topic = *input;
  options.chunking = true;
  const auto producer = co_await client->create_topic_producer(std::move(options));
  if (!producer) co_return producer.error().with("publishing to " + *input);
  Result<void> done;
  if (!component->output.empty())
    done = co_await open_readers(*client, component->output, triggered);
  if (done) {
    const wire::Outgoing message{.value = value};
    (*producer)->send({&message, 1}, [triggered](const Result<MessageId>& id) {
      triggered->sent = id;
      triggered->changed.notify();
    });
    done = co_await aio::with_timeout(kAnswerMax, "publishing to " + *input, wait_sent(triggered));
  }
  Result<std::optional<std::string>> out = std::optional<std::string>();
  if (!done) {
    out = done.error();
  } else if (!component->output.empty()) {
    for (size_t i = 0; i < triggered->readers.size(); ++i)
      triggered->gate.spawn("output of " + name.text(), look_for(triggered, i));
    auto answer =
        co_await aio::with_timeout(kAnswerMax, "waiting for the output", wait_answer(triggered));
    if (answer) {
      out = std::optional(std::move(*answer));
    } else {
      out = answer.error();
    }
  }
  co_await aio::start_cleanup();
  co_await triggered->gate.close();
  for (const auto& reader : triggered->readers) co_await reader->close();
  co_await (*producer)->close();
  co_return out;
}

}  // namespace hulse::runtime

// What the runtime makes of a function's answers, and the state of components, on a bus.
#include <map>

#include "broker/subscription.h"
#include "bus/bus_fixture.h"
#include "client/reader.h"
#include "runtime/function_sink.h"
#include "runtime/instance.h"
#include "runtime/state_store.h"

namespace hulse {
namespace {

using connect::Verdict;
using namespace std::chrono_literals;

// What the function of this test does; one test at a time.
struct Script {
  std::function<aio::Task<functions::Answers>(const connect::RecordBatch&)> process;
  int opened = 0;
  int closed = 0;
};
Script* script = nullptr;

class ScriptedFunction : public functions::Function {
 public:
  aio::Task<Result<void>> open(const connect::Context&) override {
    ++script->opened;
    co_return Result<void>();
  }
  aio::Task<functions::Answers> process(const connect::RecordBatch& batch) override {
    return script->process(batch);
  }
  aio::Task<void> close() override {
    ++script->closed;
    co_return;
  }
};

Result<std::unique_ptr<functions::Function>> make_scripted(const config::Given&) {
  return std::unique_ptr<functions::Function>(std::make_unique<ScriptedFunction>());
}

constexpr functions::Descriptor kScripted{
    .name = "scripted", .description = "", .batches_max = 8, .make = &make_scripted};

// One message as it was published.
struct Published {
  std::string value;
  std::optional<std::string> key;
  std::map<std::string, std::string> properties;
};

class FunctionInstances : public BusTest {
 protected:
  FunctionInstances() {
    script = &script_;
    component_.kind = connect::Kind::function;
    component_.name = "f";
    component_.function = &kScripted;
    component_.inputs = {"in"};
    component_.output = "out";
    component_.subscription = "public/default/f";
    component_.from_earliest = true;
    component_.policy.retry_initial = 1ms;
  }

  // Publishes 0 … count-1 with key k<i> and a property, runs the function until `done`, and reads
  // the topics named.
  runtime::Status run_function(int count, std::function<bool(const runtime::Status&)> done,
                               std::vector<std::string> topics) {
    runtime::Status status;
    with_client([&](client::Client& client) -> aio::Task<void> {
      client::ProducerOptions options;
      options.topic = "in";
      options.initial_subscription = component_.subscription;
      options.batching = client::Batching::off;
      const auto producer = co_await client.create_producer(options);
      EXPECT_TRUE(producer);
      for (int i = 0; i < count; ++i) {
        const std::string value = std::to_string(i);
        const std::string key = "k" + value;
        const std::vector<Property> properties = {{"from", "test"},
                                                  {runtime::kInputTopic, "an older one"}};
        const wire::Outgoing message{.value = value, .key = key, .properties = properties};
        (*producer)->send({&message, 1}, [](const auto& id) { EXPECT_TRUE(id); });
      }
      const auto flushed = co_await (*producer)->flush();
      EXPECT_TRUE(flushed);
      co_await (*producer)->close();
      // What is read afterwards must not be trimmed.
      for (const auto& topic : topics) {
        client::ProducerOptions kept;
        kept.topic = topic;
        kept.initial_subscription = "kept";
        const auto keeper = co_await client.create_producer(kept);
        EXPECT_TRUE(keeper);
        co_await (*keeper)->close();
      }
      const auto executor = co_await aio::asio::this_coro::executor;
      client::Options of_bus;
      of_bus.service_url = broker_->service_url();
      bus_ = {std::make_shared<runtime::Clients>(of_bus), "bus"};
      const auto instance = runtime::make_instance(
          std::make_shared<const runtime::Component>(component_), 0, bus_, executor);
      aio::Gate gate(executor);
      gate.spawn("instance", instance->run());
      const auto limit = aio::Clock::now() + 30s;
      while (gate.running() > 0 && !done(instance->status()) && aio::Clock::now() < limit) {
        co_await aio::sleep(1ms);
      }
      co_await gate.close();
      co_await bus_.clients->stop();
      status = instance->status();
      for (const auto& topic : topics) co_await read_topic(client, topic);
    });
    const auto& c = status.counters;
    EXPECT_EQ(c.received, c.written + c.dead_lettered + c.skipped + c.returned + c.in_flight);
    EXPECT_EQ(script_.opened, script_.closed);
    return status;
  }

  aio::Task<void> read_topic(client::Client& client, std::string topic) {
    client::ReaderOptions options;
    options.topic = topic;
    const auto reader = co_await client::Reader::open(client, std::move(options));
    EXPECT_TRUE(reader);
    for (;;) {
      const auto more = co_await (*reader)->has_more();
      EXPECT_TRUE(more);
      if (!more || !*more) break;
      const auto messages = co_await (*reader)->next();
      EXPECT_TRUE(messages);
      if (!messages) break;
      for (const auto& message : (*messages)->list) {
        Published one{std::string(message.value), std::nullopt, {}};
        if (message.key) one.key = std::string(*message.key);
        for (const auto& [name, value] : message.properties)
          one.properties[std::string(name)] = std::string(value);
        published_[topic].push_back(std::move(one));
      }
    }
    co_await (*reader)->close();
  }

  std::vector<std::string> values(const std::string& topic) {
    std::vector<std::string> out;
    for (const auto& one : published_[topic]) out.push_back(one.value);
    return out;
  }

  static functions::Output copy(const connect::RecordBatch& batch, uint32_t i) {
    return {.input = i, .value = batch[i].value, .key = batch[i].key};
  }

  Script script_;
  runtime::Component component_;
  runtime::Bus bus_;
  std::map<std::string, std::vector<Published>> published_;
};

TEST_F(FunctionInstances, OutputsCarryWhatTheyWereMadeOf) {
  script_.process = [](const connect::RecordBatch& batch) -> aio::Task<functions::Answers> {
    functions::Answers answers;
    for (uint32_t i = 0; i < batch.size(); ++i) answers.outputs.push_back(copy(batch, i));
    co_return answers;
  };
  const auto status =
      run_function(3, [](const auto& s) { return s.counters.written == 3; }, {"out"});
  EXPECT_EQ(status.state, runtime::State::stopped);
  EXPECT_EQ(status.latency.records, 3u);
  ASSERT_EQ(values("out"), (std::vector<std::string>{"0", "1", "2"}));
  const auto& last = published_["out"].back();
  EXPECT_EQ(last.key, "k2");
  EXPECT_EQ(last.properties.at("from"), "test");
  EXPECT_EQ(last.properties.at("__pfn_input_topic__"), "persistent://public/default/in");
  const auto id = runtime::parse_input_message_id(last.properties.at("__pfn_input_msg_id__"));
  ASSERT_TRUE(id);
  EXPECT_EQ(id->entry, 2);
}

TEST_F(FunctionInstances, WithoutForwardingOnlyTheOriginIsTold) {
  component_.forward_properties = false;
  script_.process = [](const connect::RecordBatch& batch) -> aio::Task<functions::Answers> {
    functions::Answers answers;
    for (uint32_t i = 0; i < batch.size(); ++i) answers.outputs.push_back(copy(batch, i));
    co_return answers;
  };
  run_function(1, [](const auto& s) { return s.counters.written == 1; }, {"out"});
  ASSERT_EQ(published_["out"].size(), 1u);
  EXPECT_EQ(published_["out"][0].properties.size(), 2u);
}

TEST_F(FunctionInstances, OutputsKeepTheOrderOfTheInputsWhateverIsFinishedFirst) {
  size_t at_once = 0;
  size_t most = 0;
  script_.process = [&](const connect::RecordBatch& batch) -> aio::Task<functions::Answers> {
    most = std::max(most, ++at_once);
    const int number = std::stoi(std::string(batch[0].value));
    co_await aio::sleep(number % 3 == 0 ? 20ms : 1ms);
    --at_once;
    functions::Answers answers;
    for (uint32_t i = 0; i < batch.size(); ++i) answers.outputs.push_back(copy(batch, i));
    co_return answers;
  };
  run_function(30, [](const auto& s) { return s.counters.written == 30; }, {"out"});
  std::vector<std::string> wanted;
  for (int i = 0; i < 30; ++i) wanted.push_back(std::to_string(i));
  EXPECT_EQ(values("out"), wanted);
  EXPECT_GT(most, 1u);
  EXPECT_LE(most, kScripted.batches_max);
}

TEST_F(FunctionInstances, OneRecordMayBecomeNoneOrSeveralOnSeveralTopics) {
  script_.process = [](const connect::RecordBatch& batch) -> aio::Task<functions::Answers> {
    functions::Answers answers;
    for (uint32_t i = 0; i < batch.size(); ++i) {
      if (batch[i].value == "1") continue;
      answers.outputs.push_back(copy(batch, i));
      answers.outputs.push_back({.input = i, .topic = "other", .value = batch[i].value});
    }
    co_return answers;
  };
  const auto status =
      run_function(3, [](const auto& s) { return s.counters.written == 3; }, {"out", "other"});
  EXPECT_EQ(status.counters.written, 3u);  // a record without output is done, too
  EXPECT_EQ(values("out"), (std::vector<std::string>{"0", "2"}));
  EXPECT_EQ(values("other"), (std::vector<std::string>{"0", "2"}));
}

TEST_F(FunctionInstances, AFailureIsTriedAgainAndPublishesNothingMeanwhile) {
  int tries = 0;
  script_.process = [&](const connect::RecordBatch& batch) -> aio::Task<functions::Answers> {
    functions::Answers answers;
    for (uint32_t i = 0; i < batch.size(); ++i) {
      answers.outputs.push_back(copy(batch, i));
      if (batch[i].value != "1" || ++tries == 4) continue;
      answers.failures.push_back({i, Verdict::retry, Error(Code::unavailable, "not now")});
    }
    co_return answers;
  };
  const auto status =
      run_function(3, [](const auto& s) { return s.counters.written == 3; }, {"out"});
  EXPECT_EQ(status.counters.retries, 3u);
  auto all = values("out");
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all, (std::vector<std::string>{"0", "1", "2"}));
}

TEST_F(FunctionInstances, WhatIsRejectedGoesToTheDeadLetters) {
  component_.policy.retry_attempts_max = 2;
  script_.process = [](const connect::RecordBatch& batch) -> aio::Task<functions::Answers> {
    functions::Answers answers;
    for (uint32_t i = 0; i < batch.size(); ++i) {
      if (batch[i].value == "1") {
        answers.failures.push_back({i, Verdict::retry, Error(Code::internal, "it cannot")});
      } else {
        answers.outputs.push_back(copy(batch, i));
      }
    }
    co_return answers;
  };
  const auto done = [](const auto& s) {
    return s.counters.written == 2 && s.counters.dead_lettered == 1;
  };
  const auto status = run_function(3, done, {"out", "in-f-DLQ"});
  EXPECT_EQ(status.counters.dead_lettered, 1u);
  EXPECT_EQ(values("in-f-DLQ"), std::vector<std::string>{"1"});
  EXPECT_NE(published_["in-f-DLQ"][0].properties.at("HULSE_REASON").find("it cannot"),
            std::string::npos);
}

TEST_F(FunctionInstances, WithoutAnOutputTopicNothingIsPublished) {
  component_.output.clear();
  script_.process = [](const connect::RecordBatch& batch) -> aio::Task<functions::Answers> {
    functions::Answers answers;
    for (uint32_t i = 0; i < batch.size(); ++i) answers.outputs.push_back(copy(batch, i));
    co_return answers;
  };
  const auto status = run_function(3, [](const auto& s) { return s.counters.written == 3; }, {});
  EXPECT_EQ(status.counters.written, 3u);
}

// ---- state

class States : public BusTest {
 protected:
  static aio::Task<void> count(runtime::StateStore& store, int times, int64_t& last) {
    for (int i = 0; i < times; ++i) {
      const auto sum = co_await store.increment("n", 2);
      EXPECT_TRUE(sum) << sum.error().text();
      if (!sum) co_return;
      EXPECT_GT(*sum, last);
      last = *sum;
    }
  }
};

TEST_F(States, SeveralInstancesCountOneKeyExactly) {
  with_client([&](client::Client& client) -> aio::Task<void> {
    const auto executor = co_await aio::asio::this_coro::executor;
    runtime::StateStore one(client, "public/functions", "public/default/f");
    runtime::StateStore two(client, "public/functions", "public/default/f");
    std::vector<int64_t> last(8);
    aio::Gate gate(executor);
    // Four at a time in each.
    for (size_t i = 0; i < last.size(); ++i)
      gate.spawn("counting", count(i % 2 == 0 ? one : two, 25, last[i]));
    while (gate.running() > 0) co_await aio::sleep(1ms);
    co_await gate.close();
    EXPECT_EQ(*std::max_element(last.begin(), last.end()), 8 * 25 * 2);
    const auto seen = co_await one.look("n");
    EXPECT_TRUE(seen);
    EXPECT_EQ(seen->value.number, 8 * 25 * 2);
    co_await one.close();
    co_await two.close();
  });
}

TEST_F(States, ValuesAreThereAgainAndGoWhenTheyAreDropped) {
  with_client([&](client::Client& client) -> aio::Task<void> {
    const std::string name = "public/default/f";
    const std::string bytes("\xff\x00z", 3);
    {
      runtime::StateStore store(client, "public/functions", name);
      const auto none = co_await store.look("k");
      EXPECT_EQ(none.error().code(), Code::not_found);
      const auto put = co_await store.put("k", bytes);
      EXPECT_TRUE(put);
      const auto empty = co_await store.put("empty", "");
      EXPECT_TRUE(empty);
      const auto added = co_await store.increment("k", 1);
      EXPECT_EQ(added.error().code(), Code::invalid) << "three bytes are no number";
      co_await store.close();
    }
    {
      runtime::StateStore store(client, "public/functions", name);
      const auto found = co_await store.get("k");
      EXPECT_TRUE(found);
      EXPECT_EQ(*found, bytes);
      const auto empty = co_await store.get("empty");
      EXPECT_TRUE(empty);
      EXPECT_EQ(*empty, "") << "it is there";
      const auto counted = co_await store.counter("nothing");
      EXPECT_TRUE(counted);
      EXPECT_EQ(*counted, 0);
      const auto removed = co_await store.remove("k");
      EXPECT_TRUE(removed);
      const auto gone = co_await store.get("k");
      EXPECT_TRUE(gone);
      EXPECT_FALSE(*gone);
      const auto dropped = co_await store.drop();
      EXPECT_TRUE(dropped) << dropped.error().text();
      co_await store.close();
    }
    runtime::StateStore store(client, "public/functions", name);
    const auto empty = co_await store.look("empty");
    EXPECT_EQ(empty.error().code(), Code::not_found);
    co_await store.close();
  });
}

TEST_F(States, NothingIsCreatedByAsking) {
  with_client([&](client::Client& client) -> aio::Task<void> {
    runtime::StateStore store(client, "public/functions", "public/default/f");
    const auto none = co_await store.look("k");
    EXPECT_EQ(none.error().code(), Code::not_found);
    const auto dropped = co_await store.drop();
    EXPECT_TRUE(dropped);
    co_await store.close();
    const auto topics = co_await client.topics("public/functions", "");
    EXPECT_TRUE(topics);
    EXPECT_TRUE(topics->names.empty());
  });
}

TEST_F(States, ASnapshotKeepsTheCount) {
  with_client([&](client::Client& client) -> aio::Task<void> {
    runtime::StateStore store(client, "public/functions", "public/default/f");
    int64_t last = 0;
    co_await count(store, 1200, last);  // a snapshot is due after 1000
    co_await aio::sleep(1500ms);
    co_await count(store, 10, last);
    co_await store.close();
    runtime::StateStore again(client, "public/functions", "public/default/f");
    const auto counted = co_await again.counter("n");
    EXPECT_TRUE(counted);
    EXPECT_EQ(*counted, 1210 * 2);
    co_await again.close();
  });
}

}  // namespace
}  // namespace hulse

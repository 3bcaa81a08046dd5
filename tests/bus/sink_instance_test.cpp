// What the runtime makes of a sink's outcomes: retries, rejections, restarts, acknowledgements.
#include <map>

#include "broker/subscription.h"
#include "bus/bus_fixture.h"
#include "runtime/instance.h"

namespace hulse {
namespace {

using connect::Verdict;
using namespace std::chrono_literals;

// What the sink of this test does; one test at a time.
struct Script {
  std::function<void(connect::RecordBatch&, size_t)> on_record;
  std::function<Result<void>()> on_open;
  // The error of the whole batch, from a target that does not tell its records apart.
  std::function<std::optional<connect::Outcome>(const connect::RecordBatch&)> on_batch;
  std::vector<size_t> sizes;  // of the batches written
  std::vector<std::string> seen;
  bool holds = false;  // batches are kept, without an outcome
  std::vector<connect::RecordBatch> held;
  bool stuck = false;  // a write does not return
  int opened = 0;
  int closed = 0;
};
Script* script = nullptr;

class ScriptedSink : public connect::Sink {
 public:
  aio::Task<Result<void>> open(const connect::Context&) override {
    ++script->opened;
    co_return script->on_open ? script->on_open() : Result<void>();
  }
  aio::Task<void> write(connect::RecordBatch batch) override {
    if (script->stuck) {
      (void)co_await aio::sleep(1h);
      co_return;
    }
    if (script->holds) {
      script->held.push_back(std::move(batch));
      co_return;
    }
    script->sizes.push_back(batch.size());
    if (script->on_batch) {
      const auto refused = script->on_batch(batch);
      if (refused) {
        batch.fail_all(refused->verdict, refused->error);
        co_return;
      }
    }
    for (size_t i = 0; i < batch.size(); ++i) {
      script->seen.emplace_back(batch[i].value);
      script->on_record(batch, i);
    }
    co_return;
  }
  aio::Task<void> close() override {
    ++script->closed;
    script->held.clear();
    co_return;
  }
};

Result<std::unique_ptr<connect::Sink>> make_scripted(const config::Given&) {
  return std::unique_ptr<connect::Sink>(std::make_unique<ScriptedSink>());
}

constexpr connect::Descriptor kScripted{.name = "scripted",
                                        .kind = connect::Kind::sink,
                                        .effectively_once = true,
                                        .make_sink = &make_scripted};

class SinkInstances : public BusTest {
 protected:
  SinkInstances() {
    script = &script_;
    component_.name = "s";
    component_.connector = &kScripted;
    component_.inputs = {"t"};
    component_.subscription = "public/default/s";
    component_.from_earliest = true;
    component_.policy.retry_initial = 1ms;
  }

  // Publishes 0 … count-1, runs the instance until `done` says so or it ends by itself, stops it.
  runtime::Status run_instance(int count, std::function<bool(const runtime::Status&)> done) {
    runtime::Status status;
    with_client([&](client::Client& client) -> aio::Task<void> {
      client::ProducerOptions options;
      options.topic = "t";
      options.initial_subscription = component_.subscription;
      const auto producer = co_await client.create_producer(options);
      EXPECT_TRUE(producer);
      std::vector<std::string> texts;
      std::vector<wire::Outgoing> together;
      for (int i = 0; i < count; ++i) texts.push_back(std::to_string(i));
      for (const auto& text : texts) together.push_back({.value = text});
      if (one_entry_) {
        (*producer)->send(together, [](const Result<MessageId>& id) { EXPECT_TRUE(id); });
        const auto flushed = co_await (*producer)->flush();
        EXPECT_TRUE(flushed);
      }
      for (int i = 0; i < count && !one_entry_; ++i) {
        const auto id = co_await send(**producer, texts[static_cast<size_t>(i)]);
        EXPECT_TRUE(id);
      }
      co_await (*producer)->close();
      const auto executor = co_await aio::asio::this_coro::executor;
      client_of_bus_.service_url = broker_->service_url();
      bus_ = {std::make_shared<runtime::Clients>(client_of_bus_), "bus"};
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
      co_await after_(client);
    });
    const auto& c = status.counters;
    EXPECT_EQ(c.received, c.written + c.dead_lettered + c.skipped + c.returned + c.in_flight);
    EXPECT_EQ(script_.opened, script_.closed);
    return status;
  }

  // Entries the subscription still has; on the broker's strand in production, here nobody else is
  // left.
  uint64_t backlog() {
    const auto found = broker_->topic("t", false);
    return found.topic->backlog(found.topic->find(component_.subscription)->cursor());
  }

  // A batch that holds one of these fails as a whole.
  void refuse_batches_with(std::set<std::string> bad, connect::Outcome outcome) {
    script_.on_batch = [bad = std::move(bad), outcome = std::move(outcome)](
                           const connect::RecordBatch& batch) -> std::optional<connect::Outcome> {
      for (size_t i = 0; i < batch.size(); ++i) {
        if (bad.contains(std::string(batch[i].value))) return outcome;
      }
      return std::nullopt;
    };
    script_.on_record = [](connect::RecordBatch& batch, size_t i) { batch.ok(i); };
  }
  std::vector<std::string> numbers_without(int count, const std::set<std::string>& left_out) const {
    std::vector<std::string> out;
    for (int i = 0; i < count; ++i) {
      if (!left_out.contains(std::to_string(i))) out.push_back(std::to_string(i));
    }
    return out;
  }

  bool one_entry_ = false;  // all messages of a run in one batch
  Script script_;
  runtime::Component component_;
  client::Options client_of_bus_;
  runtime::Bus bus_;
  std::function<aio::Task<void>(client::Client&)> after_ = [](client::Client&) -> aio::Task<void> {
    co_return;
  };
};

TEST_F(SinkInstances, WhatIsWrittenIsAcknowledged) {
  script_.on_record = [](connect::RecordBatch& batch, size_t i) { batch.ok(i); };
  after_ = [this](client::Client&) -> aio::Task<void> {
    EXPECT_EQ(backlog(), 0u);
    co_return;
  };
  const auto status = run_instance(50, [](const auto& s) { return s.counters.written == 50; });
  EXPECT_EQ(status.state, runtime::State::stopped);
  EXPECT_EQ(status.counters.received, 50u);
}

TEST_F(SinkInstances, ARetryHappensInPlaceUntilItSucceeds) {
  std::map<std::string, int> tries;
  script_.on_record = [&](connect::RecordBatch& batch, size_t i) {
    const int attempt = ++tries[std::string(batch[i].value)];
    if (batch[i].value == "3" && attempt < 5) {
      batch.fail(i, Verdict::retry, Error(Code::unavailable, "not now"));
    } else {
      batch.ok(i);
    }
  };
  const auto status = run_instance(10, [](const auto& s) { return s.counters.written == 10; });
  EXPECT_EQ(status.counters.written, 10u);
  EXPECT_EQ(status.counters.retries, 4u);
  EXPECT_EQ(status.counters.received, 10u);  // never delivered again by the broker
  EXPECT_EQ(tries["3"], 5);
  EXPECT_EQ(script_.opened, 1);
}

TEST_F(SinkInstances, ARejectedRecordGoesToTheDeadLettersWithItsReason) {
  script_.on_record = [](connect::RecordBatch& batch, size_t i) {
    if (batch[i].value == "4") {
      batch.fail(i, Verdict::reject, Error(Code::invalid, "no number I like"));
    } else {
      batch.ok(i);
    }
  };
  after_ = [this](client::Client& client) -> aio::Task<void> {
    EXPECT_EQ(backlog(), 0u);
    client::ConsumerOptions options;
    options.topic = "persistent://public/default/t-s-DLQ";
    options.subscription = "dead-letters";
    const auto consumer = co_await client.subscribe(options);
    EXPECT_TRUE(consumer);
    const auto messages = co_await (*consumer)->receive();
    EXPECT_TRUE(messages);
    const auto& letter = (*messages)->list.front();
    EXPECT_EQ(letter.value, "4");
    std::map<std::string_view, std::string_view> properties(letter.properties.begin(),
                                                            letter.properties.end());
    EXPECT_EQ(properties["REAL_TOPIC"], "persistent://public/default/t");
    EXPECT_EQ(properties["REAL_SUBSCRIPTION"], "public/default/s");
    EXPECT_EQ(properties["HULSE_REASON"], "no number I like");
    co_await (*consumer)->close();
  };
  const auto status = run_instance(
      10, [](const auto& s) { return s.counters.written + s.counters.dead_lettered == 10; });
  EXPECT_EQ(status.counters.dead_lettered, 1u);
  EXPECT_EQ(status.state, runtime::State::stopped);
}

TEST_F(SinkInstances, ABatchThatIsRejectedAsAWholeIsSplitUntilTheBadRecordIsFound) {
  one_entry_ = true;
  component_.retain_ordering = true;
  refuse_batches_with({"13", "40"},
                      {.verdict = Verdict::reject, .error = Error(Code::invalid, "row is bad")});
  after_ = [this](client::Client&) -> aio::Task<void> {
    EXPECT_EQ(backlog(), 0u);
    co_return;
  };
  const auto status = run_instance(
      64, [](const auto& s) { return s.counters.written + s.counters.dead_lettered == 64; });
  EXPECT_EQ(status.counters.dead_lettered, 2u);
  EXPECT_EQ(status.counters.written, 62u);
  EXPECT_EQ(script_.seen, numbers_without(64, {"13", "40"})) << "each once, and in order";
  EXPECT_LE(script_.sizes.size(), 27u) << "two paths down a tree of six levels";
  ASSERT_FALSE(status.failures.empty());
  EXPECT_EQ(status.failures.back().words, "row is bad");
  EXPECT_EQ((status.meters.failures.at({"reject", Code::invalid})), 2u);
}

TEST_F(SinkInstances, ABatchThatAlwaysFailsAsAWholeIsSplitAfterSomeTries) {
  one_entry_ = true;
  refuse_batches_with({"2"}, {.verdict = Verdict::retry, .error = Error(Code::internal, "oops")});
  // For ever: what is good is written, what is bad is tried on.
  auto status = run_instance(8, [](const auto& s) { return s.counters.written == 7; });
  EXPECT_EQ(status.counters.written, 7u);
  EXPECT_EQ(status.counters.dead_lettered, 0u);
}

TEST_F(SinkInstances, ATargetThatIsNotThereIsNotAskedWithHalves) {
  one_entry_ = true;
  int tries = 0;
  script_.on_batch = [&](const connect::RecordBatch&) -> std::optional<connect::Outcome> {
    if (++tries > 6) return std::nullopt;
    return connect::Outcome{.verdict = Verdict::retry,
                            .error = Error(Code::unavailable, "nobody answers")};
  };
  script_.on_record = [](connect::RecordBatch& batch, size_t i) { batch.ok(i); };
  const auto status = run_instance(8, [](const auto& s) { return s.counters.written == 8; });
  EXPECT_EQ(status.counters.written, 8u);
  EXPECT_EQ(script_.sizes, std::vector<size_t>(7, 8));
}

TEST_F(SinkInstances, ARateLimitHoldsBackWhatIsRead) {
  component_.policy.records_per_second = 100;
  script_.on_record = [](connect::RecordBatch& batch, size_t i) { batch.ok(i); };
  const auto began = aio::Clock::now();
  const auto status = run_instance(60, [](const auto& s) { return s.counters.written == 60; });
  EXPECT_EQ(status.counters.written, 60u);
  EXPECT_GE(aio::Clock::now() - began, 400ms) << "60 records take 0.6 s at 100 a second";
  EXPECT_GE(status.meters.limited_ms, 300u);
  EXPECT_EQ(status.meters.records_limit, 100);
}

TEST_F(SinkInstances, TheLagIsWhatTheSubscriptionHolds) {
  script_.holds = true;
  auto status =
      run_instance(20, [](const auto& s) { return s.meters.lag && s.meters.lag->messages == 20; });
  ASSERT_TRUE(status.meters.lag);
  EXPECT_EQ(status.meters.lag->messages, 20u);
  EXPECT_GT(status.meters.lag->bytes, 0u);
}

TEST_F(SinkInstances, AttemptsRunOutAndThePolicyDecides) {
  component_.policy.retry_attempts_max = 3;
  component_.policy.on_reject = runtime::OnReject::skip;
  script_.on_record = [](connect::RecordBatch& batch, size_t i) {
    if (batch[i].value == "4") {
      batch.fail(i, Verdict::retry, Error(Code::unavailable, "never"));
    } else {
      batch.ok(i);
    }
  };
  const auto status =
      run_instance(10, [](const auto& s) { return s.counters.written + s.counters.skipped == 10; });
  EXPECT_EQ(status.counters.skipped, 1u);
  EXPECT_EQ(std::count(script_.seen.begin(), script_.seen.end(), "4"), 3);
}

TEST_F(SinkInstances, StopOnRejectKeepsTheRecordAndTheReason) {
  component_.guarantee = connect::Guarantee::effectively_once;  // whose default is to stop
  script_.on_record = [](connect::RecordBatch& batch, size_t i) {
    if (batch[i].value == "4") {
      batch.fail(i, Verdict::reject, Error(Code::invalid, "no number I like"));
    } else {
      batch.ok(i);
    }
  };
  after_ = [this](client::Client&) -> aio::Task<void> {
    EXPECT_GE(backlog(), 1u);
    EXPECT_LE(backlog(), 6u);
    co_return;
  };
  const auto status = run_instance(10, [](const auto&) { return false; });
  EXPECT_EQ(status.state, runtime::State::failed);
  EXPECT_NE(status.reason.find("no number I like"), std::string::npos) << status.reason;
  EXPECT_NE(status.reason.find("persistent://public/default/t"), std::string::npos)
      << status.reason;
}

TEST_F(SinkInstances, AReconnectOpensTheSinkAgainAndLosesNothing) {
  int failures = 0;
  std::set<std::string> written;
  script_.on_record = [&](connect::RecordBatch& batch, size_t i) {
    if (batch[i].value == "5" && ++failures <= 2) {
      batch.fail(i, Verdict::reconnect, Error(Code::unavailable, "the line is dead"));
    } else {
      written.emplace(batch[i].value);
      batch.ok(i);
    }
  };
  const auto status = run_instance(10, [&](const auto&) { return written.size() == 10; });
  EXPECT_EQ(written.size(), 10u);
  EXPECT_EQ(status.counters.restarts, 2u);
  EXPECT_EQ(script_.opened, 3);
}

TEST_F(SinkInstances, AConfigurationErrorIsNotTriedAgainAnotherFailureIs) {
  script_.on_open = [] {
    return Result<void>(Error(Code::invalid, "such a table does not exist"));
  };
  auto status = run_instance(1, [](const auto&) { return false; });
  EXPECT_EQ(status.state, runtime::State::failed);
  EXPECT_EQ(script_.opened, 1);
  EXPECT_EQ(status.reason, "such a table does not exist");

  script_.on_record = [](connect::RecordBatch& batch, size_t i) { batch.ok(i); };
  script_.on_open = [this] {
    return script_.opened < 3 ? Result<void>(Error(Code::unavailable, "nobody there"))
                              : Result<void>();
  };
  status = run_instance(1, [](const auto& s) { return s.counters.written >= 1; });
  EXPECT_EQ(status.state, runtime::State::stopped);
  EXPECT_EQ(status.counters.restarts, 1u);
}

TEST_F(SinkInstances, ABatchDroppedWithoutOutcomesIsTriedAgain) {
  int dropped = 0;
  script_.on_record = [&](connect::RecordBatch& batch, size_t i) {
    if (dropped < 3) {
      ++dropped;  // no outcome: the batch ends with the write
    } else {
      batch.ok(i);
    }
  };
  const auto status = run_instance(3, [](const auto& s) { return s.counters.written == 3; });
  EXPECT_EQ(status.counters.written, 3u);
  EXPECT_EQ(status.counters.retries, 3u);
}

TEST_F(SinkInstances, PartitionsThatComeLaterAreReadFromTheirBeginning) {
  component_.inputs = {"p"};
  component_.from_earliest = false;
  client_of_bus_.discovery_period = 50ms;
  script_.on_record = [](connect::RecordBatch& batch, size_t i) { batch.ok(i); };
  with_client([this](client::Client& client) -> aio::Task<void> {
    const std::string name = "persistent://public/default/p";
    const auto say = [&](int partition, std::string text) -> aio::Task<void> {
      client::ProducerOptions options;
      options.topic = fmt::format("{}-partition-{}", name, partition);
      const auto producer = co_await client.create_producer(options);
      EXPECT_TRUE(producer);
      const auto id = co_await send(**producer, std::move(text));
      EXPECT_TRUE(id);
      co_await (*producer)->close();
    };
    const auto make = [&](int count) -> aio::Task<void> {
      const auto made =
          co_await aio::on(threads_.at(0), broker_->namespaces().put_partitions(name, count));
      EXPECT_TRUE(made);
    };
    co_await make(1);
    const auto executor = co_await aio::asio::this_coro::executor;
    client_of_bus_.service_url = broker_->service_url();
    bus_ = {std::make_shared<runtime::Clients>(client_of_bus_), "bus"};
    const auto instance = runtime::make_instance(
        std::make_shared<const runtime::Component>(component_), 0, bus_, executor);
    aio::Gate gate(executor);
    gate.spawn("instance", instance->run());
    const auto written = [&](uint64_t count) -> aio::Task<void> {
      const auto limit = aio::Clock::now() + 30s;
      while (instance->status().counters.written < count && aio::Clock::now() < limit) {
        co_await aio::sleep(1ms);
      }
      EXPECT_EQ(instance->status().counters.written, count);
    };
    while (instance->status().state != runtime::State::running) co_await aio::sleep(1ms);
    co_await say(0, "zero");
    co_await written(1);
    co_await make(2);
    co_await say(1, "one");
    co_await written(2);
    co_await gate.close();
    co_await bus_.clients->stop();
  });
  EXPECT_EQ(script_.seen, (std::vector<std::string>{"zero", "one"}));
}

TEST_F(SinkInstances, ATargetThatDoesNotAnswerInTimeIsOpenedAgain) {
  script_.holds = true;
  script_.on_open = [&]() -> Result<void> {
    script_.holds = script_.opened == 1;
    return {};
  };
  script_.on_record = [](connect::RecordBatch& batch, size_t i) { batch.ok(i); };
  component_.write_timeout = 50ms;
  const auto status = run_instance(5, [](const auto& s) { return s.counters.written == 5; });
  EXPECT_EQ(script_.opened, 2);
  EXPECT_EQ(status.counters.written, 5u);
  ASSERT_EQ(status.failures.size(), 1u);
  EXPECT_NE(status.failures[0].text.find("within 50 ms (timeoutMs)"), std::string::npos);
}

TEST_F(SinkInstances, ASecondTryHasItsDeadlineToo) {
  script_.on_record = [&](connect::RecordBatch& batch, size_t i) {
    if (script_.opened > 1) {
      batch.ok(i);
      return;
    }
    batch.fail(i, Verdict::retry, Error(Code::unavailable, "not now"));
    script_.stuck = true;  // the next try
  };
  script_.on_open = [&]() -> Result<void> {
    script_.stuck = false;
    return {};
  };
  component_.write_timeout = 50ms;
  const auto status = run_instance(1, [](const auto& s) { return s.counters.written == 1; });
  EXPECT_EQ(script_.opened, 2);
  EXPECT_EQ(status.counters.written, 1u);
}

TEST_F(SinkInstances, APatternReadsWhatFitsItButNotItsOwnDeadLetters) {
  script_.on_record = [](connect::RecordBatch& batch, size_t i) {
    batch.fail(i, Verdict::reject, Error(Code::invalid, "no"));
  };
  component_.inputs.clear();
  component_.topics_pattern = "persistent://public/default/.*";
  client_of_bus_.discovery_period = 20ms;
  size_t looks = 0;
  const auto status = run_instance(5, [&](const auto& s) {
    // Long enough to have found what it must not read.
    return s.counters.dead_lettered >= 5 && ++looks > 300;
  });
  EXPECT_EQ(status.counters.received, 5u);
  EXPECT_EQ(status.counters.dead_lettered, 5u);
}

TEST_F(SinkInstances, KeyOrderingIsAKeySharedSubscription) {
  script_.on_record = [](connect::RecordBatch& batch, size_t i) { batch.ok(i); };
  component_.retain_key_ordering = true;
  after_ = [this](client::Client&) -> aio::Task<void> {
    EXPECT_EQ(backlog(), 0u);
    const auto found = broker_->topic("t", false);
    EXPECT_EQ(found.topic->find(component_.subscription)->type(),
              wire::pb::CommandSubscribe::Key_Shared);
    co_return;
  };
  const auto status = run_instance(20, [](const auto& s) { return s.counters.written == 20; });
  EXPECT_EQ(status.counters.written, 20u);
}

}  // namespace
}  // namespace hulse

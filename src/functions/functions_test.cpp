#include <gtest/gtest.h>

#include "aio/run.h"
#include "connect/testing.h"
#include "functions/descriptor.h"

namespace hulse::functions {
namespace {

namespace json = boost::json;
namespace testing = connect::testing;

// Counts, or fails to.
class FakeState : public connect::State {
 public:
  aio::Task<Result<std::optional<std::string>>> get(std::string) override {
    co_return std::optional<std::string>();
  }
  aio::Task<Result<void>> put(std::string, std::string) override { co_return Result<void>(); }
  aio::Task<Result<void>> remove(std::string) override { co_return Result<void>(); }
  aio::Task<Result<int64_t>> increment(std::string key, int64_t by) override {
    if (failure) co_return *failure;
    co_return counters[key] += by;
  }
  aio::Task<Result<int64_t>> counter(std::string key) override { co_return counters[key]; }

  std::map<std::string, int64_t> counters;
  std::optional<Error> failure;
};

TEST(Functions, AreFoundByNameAndByTheClassTheyStandFor) {
  const auto* identity = find("Identity");
  ASSERT_NE(identity, nullptr);
  EXPECT_EQ(find_class("org.apache.pulsar.functions.api.utils.IdentityFunction"), identity);
  EXPECT_EQ(find("nosuch"), nullptr);
  EXPECT_EQ(find_class("org.example.Own"), nullptr);
}

TEST(Functions, EachHasWhatTheListShows) {
  for (const auto* descriptor : registry()) {
    EXPECT_EQ(find(descriptor->name), descriptor);
    EXPECT_FALSE(descriptor->description.empty()) << descriptor->name;
    EXPECT_GE(descriptor->batches_max, 1u) << descriptor->name;
    const auto unknown = descriptor->make({json::object{{"no such key", 1}}, {}});
    ASSERT_FALSE(unknown) << descriptor->name;
    EXPECT_NE(unknown.error().text().find("no such key"), std::string::npos);
  }
}

// What identity makes of two records.
Answers identity_of_two(FakeState& state, const json::object& config) {
  const auto made = find("identity")->make({config, {}});
  EXPECT_TRUE(made) << made.error().text();
  const auto entry = testing::entry_of({"one", "two"}, 0, {"k"}, {{"colour", "red"}});
  testing::Outcomes outcomes;
  Answers answers;
  auto work = [&]() -> aio::Task<void> {
    const auto executor = co_await aio::asio::this_coro::executor;
    auto context = testing::context_on(executor);
    context.state = &state;
    const auto opened = co_await (*made)->open(context);
    EXPECT_TRUE(opened);
    auto batch = outcomes.batch(entry);
    answers = co_await (*made)->process(batch);
    for (auto& output : answers.outputs) {
      EXPECT_EQ(output.value.data(), batch[output.input].value.data()) << "it is not copied";
    }
    co_await (*made)->close();
  };
  aio::run(work());
  answers.owner = entry;
  return answers;
}

TEST(Identity, GivesEachRecordAsItCame) {
  FakeState state;
  const auto answers = identity_of_two(state, {});
  ASSERT_EQ(answers.outputs.size(), 2u);
  EXPECT_TRUE(answers.failures.empty());
  EXPECT_EQ(answers.outputs[0].value, "one");
  EXPECT_EQ(answers.outputs[0].key, "k");
  EXPECT_EQ(answers.outputs[1].input, 1u);
  EXPECT_EQ(answers.outputs[1].value, "two");
  EXPECT_FALSE(answers.outputs[1].key);
  EXPECT_TRUE(state.counters.empty()) << "nothing told it to count";
}

TEST(Identity, CountsUnderTheKeyItWasTold) {
  FakeState state;
  const auto answers = identity_of_two(state, {{"counterKey", "seen"}});
  EXPECT_EQ(answers.outputs.size(), 2u);
  EXPECT_EQ(state.counters["seen"], 2);
}

TEST(Identity, WhatCannotBeCountedIsTriedAgain) {
  FakeState state;
  state.failure = Error(Code::unavailable, "no bus");
  const auto answers = identity_of_two(state, {{"counterKey", "seen"}});
  EXPECT_TRUE(answers.outputs.empty()) << "or it would be there twice";
  ASSERT_EQ(answers.failures.size(), 2u);
  EXPECT_EQ(answers.failures[0].verdict, connect::Verdict::retry);
  EXPECT_EQ(answers.failures[1].input, 1u);
}

}  // namespace
}  // namespace hulse::functions

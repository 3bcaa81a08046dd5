#include "connect/record.h"

#include <gtest/gtest.h>

#include <thread>

namespace hulse::connect {
namespace {

std::shared_ptr<const Records> some_records(size_t count) {
  auto records = std::make_shared<Records>();
  records->topic = "persistent://public/default/t";
  for (size_t i = 0; i < count; ++i) {
    Record record;
    record.value = "value";
    record.id = {.ledger = 1, .entry = 2, .partition = -1, .batch_index = static_cast<int>(i)};
    records->records.push_back(record);
  }
  return records;
}

std::vector<uint32_t> all_of(size_t count) {
  std::vector<uint32_t> chosen(count);
  for (size_t i = 0; i < count; ++i) chosen[i] = static_cast<uint32_t>(i);
  return chosen;
}

struct Settlement {
  std::atomic<int> calls{0};
  std::vector<Outcome> outcomes;
  RecordBatch::Settled callback() {
    return [this](std::vector<Outcome> given) {
      ++calls;
      outcomes = std::move(given);
    };
  }
};

TEST(RecordBatch, SettlesOnceWithTheLastOutcome) {
  Settlement settlement;
  {
    RecordBatch batch(some_records(5), {1, 3, 4}, settlement.callback());
    EXPECT_EQ(batch.size(), 3u);
    EXPECT_EQ(batch[1].id.batch_index, 3);
    EXPECT_EQ(batch.value_bytes(), 15u);
    batch.ok(2);
    batch.fail(0, Verdict::reject, Error(Code::invalid, "no"));
    batch.ok(0);  // the first one counts
    EXPECT_EQ(settlement.calls, 0);
    batch.ok_all();
    EXPECT_EQ(settlement.calls, 1);
    batch.fail_all(Verdict::fatal, Error(Code::io, "late"));
    EXPECT_EQ(settlement.calls, 1);
  }
  EXPECT_EQ(settlement.calls, 1);
  ASSERT_EQ(settlement.outcomes.size(), 3u);
  EXPECT_EQ(settlement.outcomes[0].verdict, Verdict::reject);
  EXPECT_EQ(settlement.outcomes[0].error.text(), "no");
  EXPECT_EQ(settlement.outcomes[1].verdict, Verdict::ok);
  EXPECT_EQ(settlement.outcomes[2].verdict, Verdict::ok);
}

TEST(RecordBatch, ADroppedOneIsTriedAgain) {
  Settlement settlement;
  {
    RecordBatch batch(some_records(3), all_of(3), settlement.callback());
    batch.ok(1);
    RecordBatch moved = std::move(batch);
    EXPECT_EQ(settlement.calls, 0);
  }
  EXPECT_EQ(settlement.calls, 1);
  ASSERT_EQ(settlement.outcomes.size(), 3u);
  EXPECT_EQ(settlement.outcomes[0].verdict, Verdict::retry);
  EXPECT_EQ(settlement.outcomes[1].verdict, Verdict::ok);
  EXPECT_EQ(settlement.outcomes[2].error.code(), Code::closed);
}

TEST(RecordBatch, AssigningOverOneDropsIt) {
  Settlement first;
  Settlement second;
  {
    RecordBatch batch(some_records(1), all_of(1), first.callback());
    batch = RecordBatch(some_records(2), all_of(2), second.callback());
    EXPECT_EQ(first.calls, 1);
    EXPECT_EQ(first.outcomes[0].verdict, Verdict::retry);
    EXPECT_EQ(batch.size(), 2u);
    batch.ok_all();
  }
  EXPECT_EQ(second.calls, 1);
  EXPECT_EQ(second.outcomes[1].verdict, Verdict::ok);
}

TEST(RecordBatch, AnEmptyOneSettlesToo) {
  Settlement settlement;
  {
    RecordBatch batch(some_records(1), {}, settlement.callback());
  }
  EXPECT_EQ(settlement.calls, 1);
  EXPECT_TRUE(settlement.outcomes.empty());
}

TEST(RecordBatch, TheCallbackMayDestroyTheBatch) {
  std::optional<RecordBatch> batch;
  int calls = 0;
  batch.emplace(some_records(3), all_of(3), [&](std::vector<Outcome>) {
    ++calls;
    batch.reset();
  });
  batch->ok_all();
  EXPECT_EQ(calls, 1);
  EXPECT_FALSE(batch.has_value());
}

TEST(RecordBatch, ManyThreadsGiveOutcomes) {
  constexpr size_t kCount = 4000;
  for (int round = 0; round < 20; ++round) {
    Settlement settlement;
    RecordBatch batch(some_records(kCount), all_of(kCount), settlement.callback());
    std::vector<std::thread> threads;
    for (size_t t = 0; t < 4; ++t) {
      threads.emplace_back([&batch, t] {
        for (size_t i = t; i < kCount; i += 3) {  // some records are given twice
          if (i % 2 == 0) {
            batch.ok(i);
          } else {
            batch.fail(i, Verdict::reject, Error(Code::invalid, "odd"));
          }
        }
      });
    }
    for (auto& thread : threads) thread.join();
    ASSERT_EQ(settlement.calls, 1);
    ASSERT_EQ(settlement.outcomes.size(), kCount);
    for (size_t i = 0; i < kCount; ++i) {
      ASSERT_EQ(settlement.outcomes[i].verdict, i % 2 == 0 ? Verdict::ok : Verdict::reject);
      if (i % 2 == 1) ASSERT_EQ(settlement.outcomes[i].error.message(), "odd");
    }
  }
}

TEST(RecordBatch, OneAnswerForAllIsToldFromOneForEach) {
  const auto whole = [](size_t count, auto give) {
    Settlement settlement;
    RecordBatch batch(some_records(count), all_of(count), settlement.callback());
    give(batch);
    std::vector<bool> out;
    for (const auto& outcome : settlement.outcomes) out.push_back(outcome.whole);
    return out;
  };
  const Error error(Code::invalid, "no");
  EXPECT_EQ(whole(2, [&](RecordBatch& batch) { batch.fail_all(Verdict::reject, error); }),
            (std::vector{true, true}));
  EXPECT_EQ(whole(1, [&](RecordBatch& batch) { batch.fail_all(Verdict::reject, error); }),
            std::vector{false})
      << "there is nothing to split";
  EXPECT_EQ(whole(2,
                  [&](RecordBatch& batch) {
                    batch.ok(0);
                    batch.fail_all(Verdict::reject, error);
                  }),
            (std::vector{false, false}));
}

}  // namespace
}  // namespace hulse::connect

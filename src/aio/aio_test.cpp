#include <gtest/gtest.h>

#include "aio/backoff.h"
#include "aio/channel.h"
#include "aio/gate.h"
#include "aio/offload.h"
#include "aio/run.h"
#include "aio/threads.h"
#include "aio/timeout.h"

namespace hulse::aio {
namespace {

using namespace std::chrono_literals;

// The toolchain canary: g++ 12 fails each of these (docs/decisions/0001-clang.md).
struct Counted {
  static inline int live = 0;
  Counted() { ++live; }
  Counted(const Counted&) { ++live; }
  ~Counted() { --live; }
};
struct Aggregate {
  Counted counted;
  std::string text;
};
Task<bool> yes() { co_return true; }
Task<size_t> size_of(Aggregate aggregate) { co_return aggregate.text.size(); }
Task<int> canary() {
  int reached = 0;
  if (co_await yes()) ++reached;
  while (co_await yes()) {
    if (++reached == 3) break;
  }
  const auto size =
      co_await size_of(Aggregate{.counted = {}, .text = "a long enough text to allocate"});
  co_return reached + static_cast<int>(size);
}

TEST(ToolchainCanary, AwaitedConditionsAndAggregates) {
  EXPECT_EQ(run(canary()), 3 + 30);
  EXPECT_EQ(Counted::live, 0);
}

Task<Result<int>> slow() {
  const bool slept = co_await sleep(10s);
  if (!slept) co_return Error(Code::cancelled, "stopped");
  co_return 1;
}
Task<Result<int>> quick() { co_return 7; }

TEST(Timeout, EndsTheSlowOneAndLetsTheQuickOneThrough) {
  const auto late = run(with_timeout(20ms, "asking", slow()));
  ASSERT_TRUE(late.has_error());
  EXPECT_EQ(late.error().code(), Code::timeout);
  EXPECT_EQ(late.error().text(), "asking: no answer within 20 ms");
  EXPECT_EQ(run(with_timeout(10s, "asking", quick())).value(), 7);
}

// Takes leave of somebody in the end, whatever ended its wait.
Task<Result<int>> slow_with_an_end(bool& took_leave) {
  (void)co_await sleep(10s);
  co_await start_cleanup();
  (void)co_await sleep(1ms);
  took_leave = true;
  co_return Error(Code::cancelled, "stopped");
}

TEST(Timeout, WhoRunsOutOfTimeStillCleansUp) {
  bool took_leave = false;
  const auto late = run(with_timeout(5ms, "asking", slow_with_an_end(took_leave)));
  ASSERT_TRUE(late.has_error());
  EXPECT_EQ(late.error().code(), Code::timeout);
  EXPECT_TRUE(took_leave) << "cancellation was an exception";
}

Task<void> wait_for_ever(bool& ended) {
  co_await sleep(1h);
  ended = true;
}
Task<bool> close_a_gate() {
  const auto executor = co_await asio::this_coro::executor;
  Gate gate(executor);
  bool ended = false;
  gate.spawn("sleeper", wait_for_ever(ended));
  co_await sleep(1ms);
  co_await gate.close();
  co_return ended;
}
TEST(Gate, CloseCancelsAndWaits) { EXPECT_TRUE(run(close_a_gate())); }

// A cancellation that comes together with what was waited for must not be lost.
Task<void> wait_again_and_again(Event& event, int& rounds) {
  for (;;) {
    const bool woken = co_await event.wait();
    if (!woken) co_return;
    ++rounds;
  }
}
Task<int> cancel_while_notified() {
  const auto executor = co_await asio::this_coro::executor;
  Event event(executor);
  Gate gate(executor);
  int rounds = 0;
  gate.spawn("waiter", wait_again_and_again(event, rounds));
  co_await sleep(1ms);
  event.notify();
  co_await gate.close();
  co_return rounds;
}
TEST(Event, ACancellationIsNotLostBehindANotification) {
  EXPECT_EQ(run(cancel_while_notified()), 1);
}

Task<void> fill(Channel<int>& channel, int& pushed) {
  for (int i = 0; i < 10; ++i) {
    const bool accepted = co_await channel.push(i, 40);
    if (!accepted) co_return;
    ++pushed;
  }
  channel.close();
}
Task<std::pair<int, int>> back_pressure() {
  const auto executor = co_await asio::this_coro::executor;
  Channel<int> channel(executor, 100);
  Gate gate(executor);
  int pushed = 0;
  gate.spawn("fill", fill(channel, pushed));
  co_await sleep(1ms);
  const int before = pushed;
  int sum = 0;
  for (;;) {
    const auto item = co_await channel.pop();
    if (!item) break;
    sum += *item;
  }
  co_await gate.close();
  co_return std::pair(before, sum);
}
TEST(Channel, PushWaitsWhileFullAndNothingIsLost) {
  const auto [before, sum] = run(back_pressure());
  EXPECT_EQ(before, 2);
  EXPECT_EQ(sum, 45);
}

Task<std::pair<std::thread::id, std::thread::id>> hop(Executor other) {
  const auto there = co_await offload(other, [] { return std::this_thread::get_id(); });
  co_return std::pair(there, std::this_thread::get_id());
}
TEST(Offload, RunsThereAndComesBack) {
  Threads threads("blocking", 1);
  const auto [there, here] = run(hop(threads.next()));
  EXPECT_NE(there, here);
  EXPECT_EQ(here, std::this_thread::get_id());
}

Task<void> work_then_wait(Executor blocking, Event& never, bool& waited) {
  const auto block = [] { std::this_thread::sleep_for(20ms); };
  co_await offload(blocking, block);
  waited = co_await never.wait();
}
Task<bool> cancel_during_work(Executor blocking) {
  const auto executor = co_await asio::this_coro::executor;
  Event never(executor);
  Gate gate(executor);
  bool waited = true;
  gate.spawn("worker", work_then_wait(blocking, never, waited));
  co_await sleep(1ms);
  co_await gate.close();
  co_return waited;
}
TEST(Offload, ACancellationThatCameMeanwhileIsNotForgotten) {
  Threads threads("blocking", 1);
  EXPECT_FALSE(run(cancel_during_work(threads.next())));
}

TEST(Backoff, DoublesToItsCap) {
  Backoff backoff({.initial = 100ms, .max = 300ms});
  EXPECT_LE(backoff.next(), 100ms);
  EXPECT_GE(backoff.next(), 180ms);
  EXPECT_GE(backoff.next(), 270ms);
  EXPECT_LE(backoff.next(), 300ms);
  EXPECT_EQ(backoff.attempts(), 4u);
}

Task<int64_t> hour_in_virtual_time(VirtualTime& time) {
  const auto executor = co_await asio::this_coro::executor;
  asio::post(executor, [&time] { time.advance(1h); });
  const auto before = Clock::now();
  co_await sleep(1h);
  co_return std::chrono::duration_cast<std::chrono::minutes>(Clock::now() - before).count();
}
TEST(VirtualTime, AnHourPassesAtOnce) {
  VirtualTime time;
  EXPECT_EQ(run(hour_in_virtual_time(time)), 60);
}

}  // namespace
}  // namespace hulse::aio

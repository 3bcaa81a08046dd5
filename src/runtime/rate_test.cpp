#include "runtime/rate.h"

#include <gtest/gtest.h>

namespace hulse::runtime {
namespace {

using namespace std::chrono_literals;

aio::TimePoint at(aio::Duration since) { return aio::TimePoint(1000s + since); }

TEST(Speed, IsThatOfTheLastSeconds) {
  Speed speed;
  EXPECT_EQ(speed.per_second(at(0s)), 0);
  for (int i = 0; i < 30; ++i) speed.add(100, at(i * 100ms));
  EXPECT_DOUBLE_EQ(speed.per_second(at(3s)), 1000);
  EXPECT_DOUBLE_EQ(speed.per_second(at(10s)), 300);
  EXPECT_DOUBLE_EQ(speed.per_second(at(12s)), 100);
  EXPECT_DOUBLE_EQ(speed.per_second(at(1h)), 0);
}

TEST(RateLimit, LetsThroughWhatItSays) {
  RateLimit limit(100, 0);
  auto now = at(0s);
  uint64_t through = 0;
  while (now < at(10s)) {
    limit.charge(30, 1'000'000, now);
    through += 30;
    now += limit.wait(now);
  }
  EXPECT_NEAR(static_cast<double>(through), 1000, 30);
}

TEST(RateLimit, TheTighterOfTheTwoCounts) {
  RateLimit limit(1000, 1000);
  limit.charge(10, 5000, at(0s));
  EXPECT_EQ(limit.wait(at(0s)), 5s);
  EXPECT_EQ(limit.wait(at(6s)), 0s);
  // Nothing was saved up meanwhile.
  limit.charge(1000, 0, at(60s));
  EXPECT_EQ(limit.wait(at(60s)), 1s);
}

TEST(RateLimit, WithoutOneNothingWaits) {
  RateLimit limit;
  EXPECT_FALSE(limit.limits());
  limit.charge(1'000'000, 1'000'000, at(0s));
  EXPECT_EQ(limit.wait(at(0s)), 0s);
}

}  // namespace
}  // namespace hulse::runtime

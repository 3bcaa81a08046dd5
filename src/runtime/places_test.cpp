#include "runtime/places.h"

#include <gtest/gtest.h>

namespace hulse::runtime {
namespace {

constexpr int64_t kNow = 1'700'000'000'000;  // 2023-11-14T22:13:20Z

TEST(Places, TimesAreReadInEveryForm) {
  EXPECT_EQ(*parse_time("2023-11-14T22:13:20Z", 0), kNow);
  EXPECT_EQ(*parse_time("2023-11-14T22:13:20.5Z", 0), kNow + 500);
  EXPECT_EQ(*parse_time("2023-11-14T23:13:20+01:00", 0), kNow);
  EXPECT_EQ(*parse_time("2023-11-14T17:13:20-0500", 0), kNow);
  EXPECT_EQ(*parse_time("2023-11-14 22:13", 0), kNow - 20'000);
  EXPECT_EQ(*parse_time("2023-11-14", 0), kNow - (22 * 3600 + 13 * 60 + 20) * 1000);
  EXPECT_EQ(*parse_time("90s", kNow), kNow - 90'000);
  EXPECT_EQ(*parse_time("2h", kNow), kNow - 7'200'000);
  EXPECT_EQ(*parse_time("1700000000000", 0), kNow);
  for (const char* wrong : {"", "yesterday", "2023-13-01", "2023-11-14T25:00", "12", "-5m", "5y",
                            "2023-11-14T22:13:20Zx"})
    EXPECT_FALSE(parse_time(wrong, kNow)) << wrong;
}

TEST(Places, TimesAreShownAsTheyAreRead) {
  EXPECT_EQ(time_text(kNow + 7), "2023-11-14T22:13:20.007Z");
  EXPECT_EQ(*parse_time(time_text(kNow), 0), kNow);
}

TEST(Places, MessagesAndWords) {
  EXPECT_EQ(*parse_place("earliest", kNow)->message, kEarliest);
  EXPECT_EQ(*parse_place("Latest", kNow)->message, kLatest);
  EXPECT_EQ(*parse_place("12:3", kNow)->message, (MessageId{.ledger = 12, .entry = 3}));
  EXPECT_EQ(*parse_place("12:3:-1:5", kNow)->message, (MessageId{12, 3, -1, 5}));
  EXPECT_EQ(parse_place("10m", kNow)->time_ms, kNow - 600'000);
  EXPECT_FALSE(parse_place("12:x", kNow));
  EXPECT_FALSE(parse_place("nowhere", kNow));
}

}  // namespace
}  // namespace hulse::runtime

#include "connectors/netty/framing.h"

#include <gtest/gtest.h>

#include <random>

#include "base/bytes.h"

namespace hulse::connectors::netty {
namespace {

std::vector<std::string> values(const Records& records) {
  std::vector<std::string> out;
  for (const auto& record : records) out.emplace_back(record.value);
  return out;
}
using Texts = std::vector<std::string>;

TEST(SplitLines, TakesCompleteLinesOnly) {
  Records records;
  auto split = split_lines("one\ntwo\r\n\n\r\nth\rree\npart", 0, 100, records);
  EXPECT_EQ(values(records), (Texts{"one", "two", "", "", "th\rree"}));
  EXPECT_EQ(split.consumed, 19u);
  EXPECT_FALSE(split.too_large);
  records.clear();
  split = split_lines("part", 4, 100, records);
  EXPECT_EQ(split.consumed, 0u);
  split = split_lines("part\n", 4, 100, records);
  EXPECT_EQ(split.consumed, 5u);
  EXPECT_EQ(values(records), (Texts{"part"}));
}

TEST(SplitLines, HoldsTheLimit) {
  Records records;
  EXPECT_FALSE(split_lines("12345\n", 0, 5, records).too_large);
  EXPECT_FALSE(split_lines("12345\r\n", 0, 5, records).too_large);
  EXPECT_FALSE(split_lines("12345\r", 0, 5, records).too_large);
  EXPECT_EQ(records.size(), 2u);
  EXPECT_TRUE(split_lines("123456\n", 0, 5, records).too_large);
  EXPECT_TRUE(split_lines("1234567", 0, 5, records).too_large);
  EXPECT_EQ(records.size(), 2u);
  const auto split = split_lines("1\n2\n123456\n3\n", 0, 5, records);
  EXPECT_TRUE(split.too_large);
  EXPECT_EQ(split.consumed, 4u);
  EXPECT_EQ(values(records), (Texts{"12345", "12345", "1", "2"}));
}

TEST(SplitLengths, TakesCompleteMessagesOnly) {
  std::string data(14, '\0');
  put_u32(data.data(), 3);
  data.replace(4, 3, "abc");
  put_u32(data.data() + 7, 0);
  data.resize(11);
  data += std::string("\0\0\0\x05hel", 7);
  Records records;
  auto split = split_lengths(data, 4, 5, records);
  EXPECT_EQ(values(records), (Texts{"abc", ""}));
  EXPECT_EQ(split.consumed, 11u);
  EXPECT_FALSE(split.too_large);
  split = split_lengths(data, 4, 4, records);
  EXPECT_TRUE(split.too_large);
  EXPECT_EQ(split.consumed, 11u);
  records.clear();
  EXPECT_EQ(split_lengths(std::string_view("\0\x02hi\0", 5), 2, 9, records).consumed, 4u);
  EXPECT_EQ(split_lengths(std::string_view("\x01x", 2), 1, 9, records).consumed, 2u);
  EXPECT_EQ(values(records), (Texts{"hi", "x"}));
  EXPECT_TRUE(split_lengths("\xff\xff\xff\xff", 4, 9, records).too_large);
}

// However the bytes are cut, the messages are the same.
TEST(Split, DoesNotDependOnTheCuts) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::string lines;
    std::string lengths;
    Texts expected;
    for (int i = 0; i < 20; ++i) {
      expected.push_back(std::string(random() % 30, static_cast<char>('a' + i)));
      lines += expected.back() + (random() % 2 == 0 ? "\n" : "\r\n");
      char prefix[2];
      put_u16(prefix, static_cast<uint16_t>(expected.back().size()));
      lengths += std::string(prefix, 2) + expected.back();
    }
    Texts got_lines;
    Texts got_lengths;
    std::string pending;
    size_t scanned = 0;
    for (size_t at = 0; at < lines.size();) {
      const size_t step = std::min<size_t>(1 + random() % 40, lines.size() - at);
      pending += lines.substr(at, step);
      at += step;
      Records records;
      const auto split = split_lines(pending, scanned, 1000, records);
      for (const auto& text : values(records)) got_lines.push_back(text);
      pending.erase(0, split.consumed);
      scanned = pending.size();
    }
    EXPECT_EQ(pending, "");
    for (size_t at = 0; at < lengths.size();) {
      const size_t step = std::min<size_t>(1 + random() % 40, lengths.size() - at);
      pending += lengths.substr(at, step);
      at += step;
      Records records;
      const auto split = split_lengths(pending, 2, 1000, records);
      for (const auto& text : values(records)) got_lengths.push_back(text);
      pending.erase(0, split.consumed);
    }
    EXPECT_EQ(pending, "");
    ASSERT_EQ(got_lines, expected);
    ASSERT_EQ(got_lengths, expected);
  }
}

}  // namespace
}  // namespace hulse::connectors::netty

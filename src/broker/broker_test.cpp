#include <gtest/gtest.h>

#include <random>
#include <set>

#include "broker/cursor.h"

namespace hulse::broker {
namespace {

TEST(Cursor, AgreesWithASetOfIndexesOverRandomOperations) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  constexpr uint64_t kEntries = 60;
  for (int round = 0; round < 200; ++round) {
    Cursor cursor(3);
    std::set<uint64_t> acked{0, 1, 2};
    for (int step = 0; step < 80; ++step) {
      const uint64_t index = random() % kEntries;
      switch (random() % 8) {
        case 0: {
          const bool moves = index > cursor.acked_until();
          EXPECT_EQ(cursor.ack_until(index), moves);
          for (uint64_t i = 0; i < index; ++i) acked.insert(i);
          break;
        }
        case 1: {
          const auto decoded = Cursor::decode(cursor.encode());
          ASSERT_TRUE(decoded);
          cursor = *decoded;
          break;
        }
        case 2: {
          // Two messages; one of them at a time.
          const std::vector<int64_t> words{random() % 2 == 0 ? 1 : 2};
          const auto before = cursor.remaining(index);
          const bool last = !before.empty() && (before[0] & words[0]) == 0;
          cursor.ack_batch(index, words);
          if (last) acked.insert(index);
          break;
        }
        default: EXPECT_EQ(cursor.ack(index), !acked.contains(index)); acked.insert(index);
      }
      uint64_t first = 0;
      while (acked.contains(first)) ++first;
      ASSERT_GE(cursor.acked_until(), first);
      ASSERT_EQ(cursor.acked_until(), first);
      ASSERT_EQ(cursor.acked_ahead(), acked.size() - first);
      for (uint64_t i = 0; i < kEntries; ++i) ASSERT_EQ(cursor.is_acked(i), acked.contains(i)) << i;
      uint64_t next = index;
      while (acked.contains(next)) ++next;
      ASSERT_EQ(cursor.next_unacked(index), next);
    }
  }
}

TEST(Cursor, DamagedBytesAreRefused) {
  Cursor cursor(5);
  cursor.ack(9);
  const std::vector<int64_t> words{6};
  cursor.ack_batch(7, words);
  const std::string bytes = cursor.encode();
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(Cursor::decode(std::string_view(bytes).substr(0, size))) << size;
  }
}

}  // namespace
}  // namespace hulse::broker

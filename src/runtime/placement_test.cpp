#include "runtime/placement.h"

#include <gtest/gtest.h>

#include <random>

namespace hulse::runtime {
namespace {

std::map<std::string, size_t> load_of(const Placements& placements) {
  std::map<std::string, size_t> load;
  for (const auto& [name, placement] : placements) {
    for (const auto& worker : placement) ++load[worker];
  }
  return load;
}

TEST(Placement, SpreadsInstancesEvenlyAndThoseOfAComponentApart) {
  const auto placed = place({{"a", 2}, {"b", 2}, {"c", 2}}, {}, {"w1", "w2"});
  EXPECT_EQ(load_of(placed), (std::map<std::string, size_t>{{"w1", 3}, {"w2", 3}}));
  for (const auto& [name, placement] : placed) EXPECT_NE(placement[0], placement[1]) << name;
}

TEST(Placement, LeavesWhatIsWellPlacedWhereItIs) {
  const Placements present{{"a", {"w2", "w1"}}, {"b", {"w1"}}};
  EXPECT_EQ(place({{"a", 2}, {"b", 1}}, present, {"w1", "w2"}), present);
}

TEST(Placement, MovesOnlyWhatADeadWorkerHad) {
  const Placements present{{"a", {"w1", "w2"}}, {"b", {"w3", "w1"}}};
  const auto placed = place({{"a", 2}, {"b", 2}}, present, {"w1", "w2"});
  EXPECT_EQ(placed, (Placements{{"a", {"w1", "w2"}}, {"b", {"w2", "w1"}}}));
}

TEST(Placement, GivesANewWorkerItsShareAndNoMore) {
  Placements present{{"a", {"w1"}}, {"b", {"w1"}}, {"c", {"w1"}}, {"d", {"w1"}}};
  const auto placed = place({{"a", 1}, {"b", 1}, {"c", 1}, {"d", 1}}, present, {"w1", "w2"});
  EXPECT_EQ(load_of(placed), (std::map<std::string, size_t>{{"w1", 2}, {"w2", 2}}));
  EXPECT_EQ(place({{"a", 1}, {"b", 1}, {"c", 1}, {"d", 1}}, placed, {"w1", "w2"}), placed);
}

TEST(Placement, ForgetsInstancesThatAreNotWantedAnyMore) {
  const auto placed = place({{"a", 1}}, {{"a", {"w1", "w1"}}, {"gone", {"w1"}}}, {"w1"});
  EXPECT_EQ(placed, (Placements{{"a", {"w1"}}}));
}

TEST(Placement, HasNowhereToPutAnythingWithoutWorkers) {
  EXPECT_TRUE(place({{"a", 1}}, {{"a", {"w1"}}}, {}).empty());
}

// Whatever comes and goes: everything is somewhere, evenly, and a second look changes nothing.
TEST(Placement, SettlesAfterEveryChange) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  Placements present;
  for (int round = 0; round < 200; ++round) {
    std::map<std::string, unsigned> instances;
    for (int i = 0; i < 20; ++i) {
      if (random() % 3 != 0) instances["c" + std::to_string(i)] = random() % 5 + 1;
    }
    std::set<std::string> workers;
    for (int i = 0; i < 4; ++i) {
      if (i == 0 || random() % 2 == 0) workers.insert("w" + std::to_string(i));
    }
    const auto placed = place(instances, present, workers);
    size_t low = SIZE_MAX, high = 0;
    auto load = load_of(placed);
    for (const auto& worker : workers) {
      low = std::min(low, load[worker]);
      high = std::max(high, load[worker]);
      load.erase(worker);
    }
    EXPECT_TRUE(load.empty());  // nothing with anybody else
    EXPECT_LE(high - low, 1u);
    for (const auto& [name, count] : instances) EXPECT_EQ(placed.at(name).size(), count);
    EXPECT_EQ(place(instances, placed, workers), placed);
    present = placed;
  }
}

TEST(Placement, IsReadAsItWasWritten) {
  const Placement placement{"w1", "w\"2"};
  const auto read = decode_placement(encode_placement(placement));
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, placement);
  EXPECT_FALSE(decode_placement("{}"));
  EXPECT_FALSE(decode_placement(R"({"workers":[1]})"));
}

}  // namespace
}  // namespace hulse::runtime

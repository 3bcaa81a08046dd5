// What lies on the disk is not what was written: a torn end, rubbish after it, a flipped bit
// anywhere. Nobody is given wrong bytes, and what is lost is said.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "fault_test.h"
#include "observed_tables.h"
#include "promises.h"

namespace hulse::storage {
namespace {

class Damaged : public FaultTest {
 protected:
  // A store after some load, as kill -9 leaves it.
  void SetUp() override {
    const std::string root = work_ + "/running";
    write_image({}, root);
    RecordingDisk disk(root);
    const auto env = observed_tables_env(disk);
    observe_disk(&disk);
    auto chosen = options(root + "/data");
    chosen.tables_env = env.get();
    auto store = Store::open(chosen);
    ASSERT_TRUE(store) << store.error().text();
    Load load;
    load.run(**store, 600 + random_() % 800, random_, [] { return false; });
    promises_ = load.promises();
    image_ = disk.lose_power(Survives::everything, random_);
    store->reset();
    observe_disk(nullptr);
    for (const auto& [path, content] : image_.files) {
      if (path.starts_with("data/log/")) last_ = std::max(last_, path);
    }
    end_ = image_.files[last_].find_last_not_of('\0') + 1;
  }

  Result<std::unique_ptr<Store>> open(const Image& image) {
    write_image(image, work_ + "/after");
    return Store::open(options(work_ + "/after/data"));
  }

  std::string rubbish(size_t size) {
    std::string out(size, '\0');
    for (auto& byte : out) byte = static_cast<char>(random_());
    return out;
  }

  Promises promises_;
  Image image_;
  std::string last_;  // segment
  size_t end_ = 0;    // of what was written to it
};

TEST_F(Damaged, RubbishAfterTheEndCostsNothing) {
  for (uint64_t round = 0; round < 40 * rounds_; ++round) {
    Image image = image_;
    auto& segment = image.files[last_];
    // A large last group may have filled the segment.
    if (segment.size() == end_) segment.resize(end_ + 4096);
    std::string more;
    switch (round % 5) {
      case 0:  // random bytes in the room that was set aside
        more = rubbish(1 + random_() % (segment.size() - end_));
        break;
      case 1:  // the room is gone, and something else is there
        segment.resize(end_);
        more = rubbish(1 + random_() % 10'000);
        break;
      case 2:  // nothing after the end, to the last byte
        segment.resize(end_);
        break;
      case 3: {  // a group that was written before, or half of one
        const size_t size = std::min(end_ - 24, segment.size() - end_);
        more = segment.substr(24, 1 + random_() % size);
        break;
      }
      case 4:  // the last piece of a disk in zeros, after something
        more = rubbish(100);
        more.resize(4096);
        break;
    }
    segment.resize(std::max(segment.size(), end_ + more.size()));
    segment.replace(end_, more.size(), more);
    const auto words = fmt::format("seed {}, round {}", seed_, round);
    auto store = open(image);
    ASSERT_TRUE(store) << words << ": " << store.error().text();
    const auto broken = promises_.broken_by(**store);
    ASSERT_TRUE(broken.empty()) << words << ": " << broken.front();
    if (!more.empty()) EXPECT_GT((*store)->cut_bytes(), 0u) << words << ": it is said";
  }
}

TEST_F(Damaged, AFlippedBitNeverGivesWrongBytes) {
  uint64_t refused = 0;
  uint64_t told = 0;
  uint64_t cut = 0;
  std::vector<std::string> paths;
  for (const auto& [path, content] : image_.files) {
    // Of the log and of the tables; what RocksDB only writes for people has no checksum.
    const bool kept = path.starts_with("data/log/") || path.ends_with(".sst") ||
                      path.find("MANIFEST") != std::string::npos ||
                      path.find("CURRENT") != std::string::npos;
    if (kept && !content.empty()) paths.push_back(path);
  }
  for (uint64_t round = 0; round < 100 * rounds_; ++round) {
    Image image = image_;
    const auto& path = paths[random_() % paths.size()];
    auto& content = image.files[path];
    const size_t size = path == last_ ? end_ : content.size();
    const size_t at = random_() % size;
    content[at] = static_cast<char>(content[at] ^ (1 << random_() % 8));
    const auto words =
        fmt::format("seed {}, round {}, byte {} of {} in {}", seed_, round, at, size, path);
    auto store = open(image);
    if (!store) {
      EXPECT_FALSE(store.error().text().empty());
      ++refused;
      continue;
    }
    if ((*store)->cut_bytes() > 0) {
      // In the last write of all: a torn one looks the same.
      ASSERT_EQ(path, last_) << words;
      ++cut;
      continue;
    }
    for (size_t topic = 0; topic < Promises::kTopics; ++topic) {
      told += promises_.told_or_right(**store, topic, words);
    }
    if (HasFailure()) return;
  }
  std::cout << 100 * rounds_ << " flipped bits: " << refused << " refused at the start, " << told
            << " entries told to be damaged, " << cut << " taken for a torn end\n";
}

}  // namespace
}  // namespace hulse::storage

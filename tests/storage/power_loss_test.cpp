// The power goes at random moments, and everything that no sync has covered is lost or mixed up:
// what was promised is there all the same.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <iostream>
#include <thread>

#include "fault_test.h"
#include "observed_tables.h"
#include "promises.h"
#include "recording_disk.h"
#include "storage/inspect.h"

namespace hulse::storage {
namespace {

constexpr int kMomentsOfALife = 12;

struct Moment {
  Image image;
  Promises promises;
  std::string words;
};

class PowerLoss : public FaultTest {
 protected:
  // One run of a store from what the last moment left, under load, with its moments.
  std::vector<Moment> live(const Moment& start, RecordingDisk& disk, uint64_t requests) {
    const std::string root = work_ + "/running";
    write_image(start.image, root);
    Load load(start.promises);
    std::vector<Moment> moments;
    std::mutex moments_mutex;
    std::atomic<uint64_t> next = 1 + random_() % 40;
    std::atomic<bool> over = false;
    disk.changed = [&](uint64_t count) {
      if (count < next) return;
      const std::lock_guard lock(moments_mutex);
      if (count < next || over) return;
      // What was promised by now must be there; what is asked for from here on may be.
      Moment moment{.promises = load.promises()};
      const auto survives = static_cast<Survives>(random_moment_() % 3);
      moment.image = disk.lose_power(survives, random_moment_);
      const auto later = load.promises();
      for (size_t i = 0; i < later.topics.size(); ++i) {
        auto& topic = moment.promises.topics[i];
        topic.asked = later.topics[i].asked;
        topic.promised.resize(topic.asked);
        topic.lives = later.topics[i].lives;
        topic.trim_asked = later.topics[i].trim_asked;
      }
      for (size_t i = 0; i < later.keys.size(); ++i) {
        moment.promises.keys[i].asked = later.keys[i].asked;
      }
      moment.words = fmt::format("seed {}, life {}, after change {} of the disk, {} survives",
                                 seed_, life_, count,
                                 survives == Survives::nothing      ? "nothing"
                                 : survives == Survives::everything ? "everything"
                                                                    : "this and that");
      moments.push_back(std::move(moment));
      over = moments.size() == kMomentsOfALife;
      // Half of them close together, so that the steps of one operation are told apart.
      next = count + 1 + random_moment_() % (random_moment_() % 2 == 0 ? 4 : 400);
    };
    const auto env = observed_tables_env(disk);
    observe_disk(&disk);
    {
      auto chosen = options(root + "/data");
      chosen.tables_env = env.get();
      auto store = Store::open(chosen);
      EXPECT_TRUE(store) << store.error().text();
      if (store) {
        std::atomic<bool> loaded = false;
        std::thread tidier([&] { disturb(**store, loaded); });
        load.run(**store, requests, random_, [&] { return over.load(); });
        loaded = true;
        tidier.join();
      }
    }
    observe_disk(nullptr);
    return moments;
  }

  // What a broker does beside its load.
  static void disturb(Store& store, const std::atomic<bool>& ended) {
    for (uint64_t round = 0; !ended; ++round) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      const auto tidied = store.tidy();
      if (!tidied) EXPECT_TRUE(store.broken()) << tidied.error().text();
      if (round % 8 != 0) continue;
      const auto snapshot = store.take_snapshot();
      if (!snapshot) EXPECT_TRUE(store.broken()) << snapshot.error().text();
      const auto dropped = store.drop_snapshot();
      EXPECT_TRUE(dropped) << dropped.error().text();
    }
  }

  // What is wrong when a store begins on what a moment left.
  std::vector<std::string> findings(const Moment& moment, bool closely) {
    const std::string root = work_ + "/after";
    write_image(moment.image, root);
    {
      auto store = Store::open(options(root + "/data"));
      if (!store) return {store.error().text()};
      auto broken = moment.promises.broken_by(**store);
      if (!broken.empty() || !closely) return broken;
      // It takes more, and what it then holds is whole.
      Load load(moment.promises);
      load.run(**store, 50, random_, [] { return false; });
      broken = load.promises().broken_by(**store);
      if (load.promises().refused) broken.push_back("it does not store any more");
      if (!broken.empty()) return broken;
    }
    const auto report = check(root + "/data");
    if (!report) return {report.error().text()};
    std::vector<std::string> out;
    for (const auto& damage : report->damage) out.push_back(damage.where);
    return out;
  }

  struct Sum {
    uint64_t moments = 0;
    uint64_t entries = 0;
    std::vector<std::string> findings;
  };
  // `count` runs of a store, each from where the power went in the one before.
  Sum lives(uint64_t count, const std::function<bool(const DiskChange&)>& ignore_sync) {
    Sum sum;
    Moment last{.words = "the beginning"};
    for (life_ = 0; life_ < count; ++life_) {
      RecordingDisk disk(work_ + "/running", last.image);
      disk.ignore_sync = ignore_sync;
      disk.in_order = is_manifest;
      auto moments = live(last, disk, 200 + random_() % 4000);
      sum.moments += moments.size();
      for (size_t i = 0; i < moments.size(); ++i) {
        for (const auto& found : findings(moments[i], i % 4 == 0)) {
          sum.findings.push_back(moments[i].words + ": " + found);
        }
        if (!sum.findings.empty()) return sum;
      }
      if (moments.empty()) continue;
      last = std::move(moments.back());
      sum.entries = last.promises.entries_promised();
    }
    return sum;
  }

  std::mt19937_64 random_moment_{seed_ + 1};  // under the lock of the moments
  uint64_t life_ = 0;
};

TEST_F(PowerLoss, LosesNothingThatWasPromised) {
  const auto sum = lives(12 * rounds_, nullptr);
  EXPECT_TRUE(sum.findings.empty()) << sum.findings.front();
  std::cout << sum.moments << " power losses, " << sum.entries
            << " entries promised: nothing lost\n";
  EXPECT_GT(sum.moments, 20u);
}

// The checks above see what they are there for: without one kind of sync something is missing.
TEST_F(PowerLoss, WithoutASyncSomethingIsLost) {
  const std::vector<std::pair<std::string, std::function<bool(const DiskChange&)>>> taken_out{
      {"of the log",
       [](const DiskChange& change) {
         return change.op == DiskChange::Op::sync && change.path.ends_with(".log");
       }},
      {"of names in the log's directory",
       [](const DiskChange& change) {
         return change.op == DiskChange::Op::sync_directory && change.path.ends_with("/log");
       }},
      {"of the tables",
       [](const DiskChange& change) { return change.path.find("/tables") != std::string::npos; }},
      {"of copied segments",
       [](const DiskChange& change) {
         return change.op == DiskChange::Op::sync && change.path.ends_with(".log.new");
       }},
  };
  for (const auto& [words, ignore] : taken_out) {
    Sum sum;
    for (int round = 0; round < 5 && sum.findings.empty(); ++round) sum = lives(6, ignore);
    EXPECT_FALSE(sum.findings.empty()) << "nobody misses the sync " << words;
    if (!sum.findings.empty())
      std::cout << "without the sync " << words << ": " << sum.findings.front() << "\n";
  }
}

}  // namespace
}  // namespace hulse::storage

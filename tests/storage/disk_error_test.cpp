// The disk says no: at a sync, at anything else, for a moment or for good. What was promised stays,
// nothing is promised that could not be kept, and a full disk is got over.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <future>
#include <thread>

#include "fault_test.h"
#include "observed_tables.h"
#include "promises.h"

namespace hulse::storage {
namespace {
using Op = DiskChange::Op;

class DiskError : public FaultTest {
 protected:
  std::string root() const { return work_ + "/running"; }

  std::unique_ptr<Store> open(RecordingDisk& disk, rocksdb::Env& env) {
    write_image({}, root());
    observe_disk(&disk);
    auto chosen = options(root() + "/data");
    chosen.tables_env = &env;
    auto store = Store::open(chosen);
    EXPECT_TRUE(store) << store.error().text();
    return store ? std::move(*store) : nullptr;
  }

  Result<void> change(Store& store) {
    std::promise<Result<void>> promise;
    store.change({{"other", "1"}}, threads_.at(0),
                 [&](const Result<void>& result) { promise.set_value(result); });
    return promise.get_future().get();
  }
  Result<void> append(Store& store) {
    std::promise<Result<void>> promise;
    store.append(99, next_++, Bytes::copy("entry"), threads_.at(0),
                 [&](const Result<void>& result) { promise.set_value(result); });
    return promise.get_future().get();
  }

  // What a store says that begins on what is left when the power goes now.
  void expect_kept(const RecordingDisk& disk, const Promises& promises, const std::string& words) {
    for (const auto survives : {Survives::nothing, Survives::everything, Survives::pieces}) {
      write_image(disk.lose_power(survives, random_), work_ + "/after");
      auto store = Store::open(options(work_ + "/after/data"));
      ASSERT_TRUE(store) << words << ": " << store.error().text();
      const auto broken = promises.broken_by(**store);
      ASSERT_TRUE(broken.empty()) << words << ": " << broken.front();
      ASSERT_TRUE(append(**store));
    }
  }

  aio::Threads threads_{"test", 1};
  uint64_t next_ = 0;
};

// The kernel may have dropped what it could not write, and says so only once.
TEST_F(DiskError, AfterAFailedSyncNothingIsPromisedAnyMore) {
  for (uint64_t round = 0; round < 5 * rounds_; ++round) {
    RecordingDisk disk(root());
    disk.in_order = is_manifest;
    std::atomic<bool> failed = false;
    std::atomic<uint64_t> syncs_left = 2 + random_() % 60;
    std::atomic<uint64_t> later = 0;
    disk.fail = [&](const DiskChange& change) {
      if (change.op != Op::sync || !change.path.ends_with(".log")) return 0;
      if (failed) ++later;
      if (failed || --syncs_left > 0) return 0;
      failed = true;
      return EIO;
    };
    const auto env = observed_tables_env(disk);
    Load load;
    {
      auto store = open(disk, *env);
      ASSERT_TRUE(store);
      load.run(*store, 100'000, random_, [&] { return failed.load(); });
      ASSERT_TRUE(failed);
      const auto refused = change(*store);
      ASSERT_FALSE(refused) << "the sync after the failed one would look like success";
      EXPECT_NE(refused.error().text().find("restarted"), std::string::npos)
          << refused.error().text();
      EXPECT_FALSE(append(*store));
      EXPECT_TRUE(store->broken());
      EXPECT_EQ(later, 0u) << "a failed sync is not tried again";
      EXPECT_TRUE(store->read(10, 0, 1, 1)) << "what is stored is still read";
    }
    expect_kept(disk, load.promises(), fmt::format("seed {}, round {}", seed_, round));
    if (HasFatalFailure()) return;
  }
}

// What is left of it would look like a damaged segment among others.
TEST_F(DiskError, ASegmentThatCanNeitherBeBegunNorRemovedIsTheLast) {
  RecordingDisk disk(root());
  disk.in_order = is_manifest;
  std::atomic<bool> armed = false;
  std::atomic<int> refused = 0;
  disk.fail = [&](const DiskChange& change) {
    const bool begins =
        change.op == Op::write && change.offset == 0 && change.path.ends_with(".log");
    const bool removes = change.op == Op::remove && change.path.ends_with(".log");
    if (!armed || (refused == 0 && !begins) || (refused == 1 && !removes) || refused > 1) return 0;
    ++refused;
    return EIO;
  };
  const auto env = observed_tables_env(disk);
  Load load;
  {
    auto store = open(disk, *env);
    ASSERT_TRUE(store);
    armed = true;
    uint64_t more = 100;  // the tables are not flushed yet, so the log is read from before it
    load.run(*store, 5000, random_, [&] { return refused == 2 && --more == 0; });
    EXPECT_EQ(refused, 2);
    expect_kept(disk, load.promises(), fmt::format("seed {}", seed_));
  }
}

TEST_F(DiskError, AnErrorAnywhereCostsNothingThatWasPromised) {
  uint64_t broken = 0;
  uint64_t entries = 0;
  for (uint64_t round = 0; round < 20 * rounds_; ++round) {
    RecordingDisk disk(root());
    disk.in_order = is_manifest;
    std::atomic<bool> armed = false;
    std::atomic<uint64_t> wait = random_() % 300;
    std::atomic<int64_t> length = random_() % 2 == 0 ? 1 : static_cast<int64_t>(random_() % 30);
    // One kind of change, or every one.
    const auto kind = static_cast<Op>(random_() % 14);
    const bool any = kind > Op::sync_directory;
    disk.fail = [&](const DiskChange& change) {
      if (!armed || (!any && change.op != kind)) return 0;
      if (wait > 0) return wait-- > 0 ? 0 : EIO;
      return length-- > 0 ? EIO : 0;
    };
    const auto env = observed_tables_env(disk);
    Load load;
    {
      auto store = open(disk, *env);
      ASSERT_TRUE(store);
      armed = true;
      std::atomic<bool> loaded = false;
      std::thread tidier([&] {
        while (!loaded) {
          std::this_thread::sleep_for(std::chrono::milliseconds(3));
          // It may fail, as anything may here; what it leaves is looked at below.
          const auto tidied = store->tidy();
          if (!tidied) EXPECT_FALSE(tidied.error().text().empty());
        }
      });
      load.run(*store, 1500, random_, [&] { return store->broken().has_value(); });
      loaded = true;
      tidier.join();
      broken += store->broken() ? 1 : 0;
      if (!store->broken()) {
        const auto found = load.promises().broken_by(*store);
        ASSERT_TRUE(found.empty())
            << "seed " << seed_ << ", round " << round << ": " << found.front();
      }
      expect_kept(disk, load.promises(), fmt::format("seed {}, round {}", seed_, round));
      if (HasFatalFailure()) return;
    }
    entries += load.promises().entries_promised();
    expect_kept(disk, load.promises(), fmt::format("seed {}, round {}, closed", seed_, round));
    if (HasFatalFailure()) return;
  }
  std::cout << 20 * rounds_ << " errors, " << broken << " of them ended storing, " << entries
            << " entries promised: nothing lost\n";
}

// Wherever the disk is found to be full: the store takes entries again by itself.
TEST_F(DiskError, AFullDiskIsGotOver) {
  for (uint64_t round = 0; round < 3 * rounds_; ++round) {
    RecordingDisk disk(root());
    disk.in_order = is_manifest;
    std::atomic<bool> full = false;
    std::atomic<uint64_t> refused = 0;
    std::atomic<bool> ballast = true;
    // The first to need room may be the log, the tables or both.
    const uint64_t who = round % 3;
    disk.fail = [&](const DiskChange& change) {
      if (change.op == Op::remove && change.path.ends_with("/ballast")) ballast = false;
      const bool grows = change.op == Op::create || change.op == Op::write ||
                         change.op == Op::allocate || change.op == Op::make_directory;
      const bool tables = change.path.find("/tables/") != std::string::npos;
      // What was set aside is enough for what is stored nevertheless.
      const bool room = !ballast && !change.path.ends_with("/ballast");
      if (!full || !grows || room || (who == 0 && tables) || (who == 1 && !tables)) return 0;
      ++refused;
      return ENOSPC;
    };
    const auto env = observed_tables_env(disk);
    Load load;
    auto store = open(disk, *env);
    ASSERT_TRUE(store);
    load.run(*store, 500, random_, [] { return false; });
    full = true;
    uint64_t more = 500;
    load.run(*store, 20'000, random_,
             [&] { return store->broken() || (refused > 0 && --more == 0); });
    full = false;
    const auto words = fmt::format("seed {}, round {}", seed_, round);
    ASSERT_FALSE(store->broken()) << words << ": " << store->broken()->text();
    ASSERT_GT(refused, 0u) << words;
    bool again = false;
    for (int i = 0; i < 100 && !again; ++i) {
      again = append(*store).has_value();
      if (!again) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    EXPECT_TRUE(again) << words;
    const auto found = load.promises().broken_by(*store);
    ASSERT_TRUE(found.empty()) << words << ": " << found.front();
    expect_kept(disk, load.promises(), words);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace hulse::storage

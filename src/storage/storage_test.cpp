#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <future>
#include <random>

#include "aio/threads.h"
#include "storage/disk.h"
#include "storage/inspect.h"
#include "storage/segment_index.h"
#include "storage/store.h"

namespace hulse::storage {
namespace {

class StoreTest : public testing::Test {
 protected:
  StoreTest() {
    char name[] = "/tmp/hulse-store-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~StoreTest() override {
    store_.reset();
    std::filesystem::remove_all(path_);
  }

  Result<void> open(size_t segment_bytes = 1 << 20) {
    store_.reset();
    auto store = Store::open({.path = path_,
                              .segment_bytes = segment_bytes,
                              .ballast_bytes = 1 << 20,
                              .tidy_every = {},
                              .garbage_bytes_max = 4 * segment_bytes});
    if (!store) return store.error();
    store_ = std::move(*store);
    return {};
  }
  // As kill -9 would leave it: the directory is copied while the store is open and used from there.
  void crash() {
    const std::string copy = path_ + "-crashed";
    // The tables may remove a file of theirs while it is copied; then the copy is made anew.
    std::error_code error;
    do {
      std::filesystem::remove_all(copy);
      std::filesystem::copy(path_, copy, std::filesystem::copy_options::recursive, error);
    } while (error);
    store_.reset();
    std::filesystem::remove_all(path_);
    std::filesystem::rename(copy, path_);
  }

  std::future<Result<void>> append(TopicId topic, uint64_t index, std::string payload) {
    auto promise = std::make_shared<std::promise<Result<void>>>();
    store_->append(topic, index, Bytes::from(std::move(payload)), threads_.next(),
                   [promise](const Result<void>& result) { promise->set_value(result); });
    return promise->get_future();
  }
  Result<void> change(std::vector<Change> changes) {
    std::promise<Result<void>> promise;
    store_->change(std::move(changes), threads_.next(),
                   [&](const Result<void>& result) { promise.set_value(result); });
    return promise.get_future().get();
  }
  std::vector<std::pair<uint64_t, std::string>> all(TopicId topic, uint64_t from = 0) {
    std::vector<std::pair<uint64_t, std::string>> out;
    for (;;) {
      auto read = store_->read(topic, from, 7, 1000);
      EXPECT_TRUE(read) << read.error().text();
      if (!read || read->empty()) return out;
      for (const auto& stored : *read) out.emplace_back(stored.index, stored.payload.view());
      from = read->back().index + 1;
    }
  }
  static void flip(const std::string& file, size_t at) {
    const int fd = ::open(file.c_str(), O_RDWR);
    char byte = 0;
    ASSERT_EQ(::pread(fd, &byte, 1, static_cast<off_t>(at)), 1);
    byte = static_cast<char>(byte ^ 0x10);
    ASSERT_EQ(::pwrite(fd, &byte, 1, static_cast<off_t>(at)), 1);
    ::close(fd);
  }
  std::string last_segment() {
    std::string last;
    for (const auto& entry : std::filesystem::directory_iterator(path_ + "/log")) {
      last = std::max(last, entry.path().string());
    }
    return last;
  }

  std::string path_;
  aio::Threads threads_{"test", 1};
  std::unique_ptr<Store> store_;
};

TEST_F(StoreTest, KeepsEntriesAndKeysOverACrash) {
  ASSERT_TRUE(open());
  std::vector<std::future<Result<void>>> waiting;
  for (uint64_t i = 0; i < 100; ++i)
    waiting.push_back(append(i % 3, i, "entry " + std::to_string(i)));
  for (auto& done : waiting) EXPECT_TRUE(done.get());
  EXPECT_TRUE(change({{"a", "1"}, {"b", "2"}}));
  EXPECT_TRUE(change({{"a", std::nullopt}, {"c", "3"}}));
  for (int round = 0; round < 3; ++round) {
    crash();
    ASSERT_TRUE(open());
    const auto entries = all(1);
    ASSERT_EQ(entries.size(), 33u);
    EXPECT_EQ(entries[32], (std::pair<uint64_t, std::string>(97, "entry 97")));
    EXPECT_EQ(store_->extent(1).end, 98u);
    EXPECT_EQ(store_->get("a").value(), std::nullopt);
    EXPECT_EQ(store_->get("b").value(), "2");
    EXPECT_EQ(store_->scan("").value().size(), 2u);
    EXPECT_EQ(store_->cut_bytes(), 0u);
  }
}

TEST_F(StoreTest, AnEntryAndItsChangesCountTogether) {
  ASSERT_TRUE(open());
  std::promise<Result<void>> promise;
  store_->append(5, 0, Bytes::copy("entry"), threads_.next(),
                 [&](const Result<void>& result) { promise.set_value(result); }, {{"mark", "7"}});
  EXPECT_TRUE(promise.get_future().get());
  EXPECT_EQ(store_->get("mark").value(), "7");
  crash();
  ASSERT_TRUE(open());
  EXPECT_EQ(store_->get("mark").value(), "7");
  EXPECT_EQ(all(5).at(0).second, "entry");
}

TEST_F(StoreTest, SealedSegmentsAreReadAndTrimmedOnesGo) {
  constexpr uint64_t kCount = 2000;
  ASSERT_TRUE(open(64 << 10));
  const std::string filler(200, 'x');
  std::vector<std::future<Result<void>>> waiting;
  for (uint64_t i = 0; i < kCount; ++i) {
    waiting.push_back(
        append(1, 2 * i, filler + std::to_string(i)));  // every second index is a hole
    if (i % 50 == 0) EXPECT_TRUE(waiting.back().get());
    if (i % 50 == 0) waiting.pop_back();
  }
  for (auto& done : waiting) EXPECT_TRUE(done.get());
  const auto check = [&](uint64_t first) {
    const auto entries = all(1, first);
    ASSERT_EQ(entries.size(), kCount - first / 2);
    for (uint64_t i = first / 2; i < kCount; ++i) {
      ASSERT_EQ(entries[i - first / 2].first, 2 * i);
      ASSERT_EQ(entries[i - first / 2].second, filler + std::to_string(i));
    }
  };
  check(0);
  EXPECT_EQ(store_->read(1, 1001, 1, 1).value().at(0).index, 1002u);
  const auto full = store_->stats().disk_bytes;
  EXPECT_GT(full, kCount * 200);

  store_->trim(1, 3000);
  EXPECT_TRUE(change({{"after", "trim"}}));
  EXPECT_TRUE(change({{"once", "more"}}));
  EXPECT_LT(store_->stats().disk_bytes, full / 2);
  check(3000);
  crash();
  ASSERT_TRUE(open(64 << 10));
  check(3000);
  EXPECT_EQ(store_->extent(1).first, 3000u);
  EXPECT_EQ(store_->extent(1).end, 2 * kCount - 1);
}

// What was trimmed before its segment was sealed is in the index all the same.
TEST_F(StoreTest, WhoReadsFromBeforeATrimBeginsBehindIt) {
  ASSERT_TRUE(open(64 << 10));
  for (uint64_t i = 0; i < 10; ++i) ASSERT_TRUE(append(1, i, "gone").get());
  store_->trim(1, 10);
  for (uint64_t i = 0; i < 40; ++i) ASSERT_TRUE(append(2, i, std::string(5000, 'x')).get());
  store_->trim(2, 40);
  ASSERT_TRUE(append(1, 10, "here").get());
  ASSERT_TRUE(change({{"after", "trim"}}));
  const auto read = store_->read(1, 0, 100, 1000);
  ASSERT_TRUE(read) << read.error().text();
  ASSERT_EQ(read->size(), 1u);
  EXPECT_EQ(read->front().index, 10u);
}

TEST_F(StoreTest, ATornEndIsCutAndWhatWasSyncedStays) {
  for (const int torn : {1, 20, 40, 60}) {
    ASSERT_TRUE(open());
    const uint64_t index = static_cast<uint64_t>(torn);
    EXPECT_TRUE(append(1, index, "kept").get());
    const auto segment = last_segment();
    crash();
    // Half a group after the last whole one, as a crash during its write leaves it.
    const int fd = ::open(segment.c_str(), O_RDWR);
    ASSERT_GE(fd, 0);
    std::string bytes(1 << 20, '\0');
    bytes.resize(static_cast<size_t>(::pread(fd, bytes.data(), bytes.size(), 0)));
    const size_t end = bytes.find_last_not_of('\0') + 1;
    const std::string group = bytes.substr(kSegmentHeaderSize, static_cast<size_t>(torn));
    ASSERT_EQ(::pwrite(fd, group.data(), group.size(), static_cast<off_t>(end)),
              static_cast<ssize_t>(group.size()));
    ::close(fd);
    ASSERT_TRUE(open());
    EXPECT_EQ(all(1, index).back().second, "kept");
    EXPECT_GT(store_->cut_bytes(), 0u);
  }
}

// One flipped bit anywhere before the last group: no wrong bytes, and what is lost is known.
TEST_F(StoreTest, DamageBeforeTheEndIsNamedAndTheRestIsServed) {
  constexpr uint64_t kCount = 12;
  ASSERT_TRUE(open());
  for (uint64_t i = 0; i < kCount; ++i) {
    ASSERT_TRUE(append(1 + i % 2, i / 2, "entry " + std::to_string(i)).get());
  }
  const auto segment = last_segment();
  crash();
  const std::string whole = path_ + "-whole";
  std::filesystem::copy(path_, whole, std::filesystem::copy_options::recursive);
  const size_t group = kGroupHeaderSize + kRecordHeaderSize + 7;
  int errors = 0;
  for (size_t at = kSegmentHeaderSize + 4 * group; at < kSegmentHeaderSize + 6 * group; ++at) {
    std::filesystem::remove_all(path_);
    std::filesystem::copy(whole, path_, std::filesystem::copy_options::recursive);
    flip(segment, at);
    ASSERT_TRUE(open()) << "byte " << at;
    uint64_t read = 0;
    for (uint64_t i = 0; i < kCount; ++i) {
      const auto got = store_->read(1 + i % 2, i / 2, 1, 1);
      if (!got) {
        ++errors;
        EXPECT_EQ(got.error().code(), Code::corrupt);
        EXPECT_NE(got.error().text().find("topic id"), std::string::npos) << got.error().text();
        continue;
      }
      ASSERT_EQ(got->size(), 1u) << "entry " << i << " is passed over, byte " << at;
      EXPECT_EQ(got->front().index, i / 2);
      EXPECT_EQ(got->front().payload.view(), "entry " + std::to_string(i));
      ++read;
    }
    EXPECT_GE(read, kCount - 1) << "byte " << at;
    store_.reset();

    // Reported, and then skipped for good.
    std::filesystem::remove_all(path_);
    std::filesystem::copy(whole, path_, std::filesystem::copy_options::recursive);
    flip(segment, at);
    const auto report = check(path_);
    ASSERT_TRUE(report) << report.error().text();
    EXPECT_EQ(report->damage.size(), 1u) << "byte " << at;
    const auto salvaged = salvage(path_);
    ASSERT_TRUE(salvaged) << salvaged.error().text();
    const auto after = check(path_);
    ASSERT_TRUE(after) << after.error().text();
    EXPECT_TRUE(after->damage.empty()) << after->damage.front().where;
    ASSERT_TRUE(open());
    EXPECT_EQ(all(1).size() + all(2).size(), read) << "byte " << at;
  }
  EXPECT_EQ(errors, 2 * static_cast<int>(kRecordHeaderSize + 7));
  std::filesystem::remove_all(whole);
}

// A flipped bit in the header of the last entry of its topic: nothing around it says what it was.
TEST_F(StoreTest, AFlippedBitInAHeaderIsUndoneToNameTheEntry) {
  ASSERT_TRUE(open());
  for (const TopicId topic : {1, 1, 2, 2}) {
    const uint64_t index = store_->extent(topic).end;
    ASSERT_TRUE(append(topic, index, "payload").get());
  }
  const auto segment = last_segment();
  crash();
  const std::string whole = path_ + "-whole";
  std::filesystem::copy(path_, whole, std::filesystem::copy_options::recursive);
  const size_t group = kGroupHeaderSize + kRecordHeaderSize + 7;
  for (size_t at = 0; at < kRecordHeaderSize; ++at) {
    std::filesystem::remove_all(path_);
    std::filesystem::copy(whole, path_, std::filesystem::copy_options::recursive);
    flip(segment, kSegmentHeaderSize + group + kGroupHeaderSize + at);
    const auto opened = open();
    ASSERT_TRUE(opened) << "byte " << at << ": " << opened.error().text();
    const auto read = store_->read(1, 1, 1, 1);
    ASSERT_FALSE(read) << "byte " << at;
    EXPECT_EQ(read.error().code(), Code::corrupt);
    EXPECT_EQ(all(2).size(), 2u);
    store_.reset();
  }
  std::filesystem::remove_all(whole);
}

TEST_F(StoreTest, ChangesThatAreDamagedAreNotPassedOverUnasked) {
  ASSERT_TRUE(open());
  ASSERT_TRUE(change({{"a", "1"}}));
  ASSERT_TRUE(change({{"b", "2"}}));
  const auto segment = last_segment();
  crash();
  flip(segment, kSegmentHeaderSize + kGroupHeaderSize + kRecordHeaderSize + 2);
  const auto opened = open();
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().text().find("--salvage"), std::string::npos) << opened.error().text();
  ASSERT_TRUE(salvage(path_));
  ASSERT_TRUE(open());
  EXPECT_EQ(store_->get("b").value(), "2");
  EXPECT_EQ(store_->get("a").value(), std::nullopt);
}

TEST_F(StoreTest, DamageInSealedSegmentsIsNamedByTheirIndexAndSkipped) {
  ASSERT_TRUE(open(64 << 10));
  constexpr uint64_t kCount = 600;
  for (uint64_t i = 0; i < kCount; ++i) {
    auto done = append(1 + i % 3, i / 3, std::string(300, 'x') + std::to_string(i));
    if (i % 20 == 0) ASSERT_TRUE(done.get());
  }
  ASSERT_TRUE(change({}));
  store_.reset();
  const std::string first = path_ + "/log/" + segment_name(1);
  const std::string second = path_ + "/log/" + segment_name(2);
  for (size_t at = 5000; at < 6500; ++at) flip(first, at);
  std::filesystem::remove(second);
  const auto report = check(path_);
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_EQ(report->damage.size(), 2u);
  ASSERT_FALSE(open(64 << 10));  // a whole segment is missing
  ASSERT_TRUE(salvage(path_));
  EXPECT_TRUE(check(path_)->damage.empty());
  ASSERT_TRUE(open(64 << 10));
  size_t left = 0;
  for (const TopicId topic : {1, 2, 3}) {
    for (const auto& [index, payload] : all(topic)) {
      EXPECT_EQ(payload, std::string(300, 'x') + std::to_string(3 * index + topic - 1));
      ++left;
    }
  }
  EXPECT_GT(left, kCount / 4);
  EXPECT_LT(left, kCount - 150);
}

TEST_F(StoreTest, DamageInASealedSegmentIsNamedWhenRead) {
  ASSERT_TRUE(open());
  EXPECT_TRUE(append(9, 0, "precious").get());
  const auto segment = last_segment();
  ASSERT_TRUE(open());  // seals it
  const int fd = ::open(segment.c_str(), O_RDWR);
  ASSERT_EQ(::pwrite(fd, "!", 1, kSegmentHeaderSize + kGroupHeaderSize + kRecordHeaderSize + 2), 1);
  ::close(fd);
  const auto read = store_->read(9, 0, 1, 1);
  ASSERT_FALSE(read);
  EXPECT_NE(read.error().text().find("entry 0 of topic id 9"), std::string::npos)
      << read.error().text();
}

// One topic that nobody reads has a few entries in every segment.
TEST_F(StoreTest, OneSlowTopicDoesNotKeepTheOthersSegments) {
  constexpr size_t kSegment = 64 << 10;
  ASSERT_TRUE(open(kSegment));
  uint64_t slow = 0;
  std::map<uint64_t, std::string> kept;
  for (uint64_t i = 0; i < 6000; ++i) {
    if (i % 40 == 0) {
      kept[slow] = "slow " + std::to_string(i) + std::string(100, 's');
      append(7, slow, kept[slow]);
      ++slow;
    }
    auto done = append(1 + i % 3, i / 3, std::string(300, 'x'));
    if (i % 60 == 0) ASSERT_TRUE(done.get());
  }
  for (const TopicId topic : {1, 2, 3}) store_->trim(topic, 1990);
  ASSERT_TRUE(change({}));
  ASSERT_TRUE(change({}));
  EXPECT_GT(store_->stats().segments, 20u) << "each segment has an entry that is needed";
  ASSERT_TRUE(store_->tidy());
  const auto stats = store_->stats();
  EXPECT_LT(stats.disk_bytes, stats.live_bytes * 12 / 10 + 6 * kSegment);
  const auto verify = [&] {
    const auto entries = all(7);
    ASSERT_EQ(entries.size(), kept.size());
    for (const auto& [index, payload] : entries) EXPECT_EQ(payload, kept[index]);
    for (const TopicId topic : {1, 2, 3}) EXPECT_EQ(all(topic, 1990).size(), 10u);
  };
  verify();
  EXPECT_NEAR(static_cast<double>(store_->bytes_from(7, slow / 2)),
              static_cast<double>(slow) / 2 * 135, 1000);
  crash();
  ASSERT_TRUE(open(kSegment));
  verify();
  ASSERT_TRUE(store_->tidy());
  verify();
  // What moved goes when it is trimmed.
  for (const TopicId topic : {1, 2, 3, 7}) store_->trim(topic, UINT64_MAX);
  ASSERT_TRUE(change({}));
  ASSERT_TRUE(change({}));
  EXPECT_LE(store_->stats().segments, 1u);
  store_.reset();
  EXPECT_TRUE(check(path_)->damage.empty());
}

// A stop after the index names the copy: the old segments are still there, or the copy has not its
// name yet.
TEST_F(StoreTest, AStopInTheMiddleOfTidyingLosesAndRepeatsNothing) {
  constexpr size_t kSegment = 64 << 10;
  const std::string log = path_ + "/log";
  const std::string aside = path_ + "-aside";
  for (const bool renamed : {true, false}) {
    SCOPED_TRACE(renamed);
    store_.reset();
    std::filesystem::remove_all(path_);
    ASSERT_TRUE(open(kSegment));
    for (uint64_t i = 0; i < 2000; ++i) {
      auto done = append(1 + i % 20, i / 20, "entry " + std::to_string(i) + std::string(100, 'x'));
      if (i % 100 == 0) ASSERT_TRUE(done.get());
    }
    ASSERT_TRUE(change({{"key", "old"}}));
    ASSERT_TRUE(change({{"key", "new"}}));
    const auto before = *list_segments(log);
    std::filesystem::remove_all(aside);
    std::filesystem::create_directory(aside);
    for (const uint64_t id : before) {
      std::filesystem::create_hard_link(log + "/" + segment_name(id),
                                        aside + "/" + segment_name(id));
    }
    ASSERT_TRUE(store_->tidy());
    crash();
    size_t back = 0;
    for (const uint64_t id : before) {
      const std::string path = log + "/" + segment_name(id);
      if (std::filesystem::exists(path)) continue;
      std::filesystem::rename(aside + "/" + segment_name(id), path);
      ++back;
    }
    ASSERT_GT(back, 1u);
    const auto after = *list_segments(log);
    if (!renamed) {
      for (const uint64_t id : after) {
        if (std::find(before.begin(), before.end(), id) != before.end()) continue;
        const std::string path = log + "/" + segment_name(id);
        std::filesystem::rename(path, path + ".new");
      }
    }
    ASSERT_TRUE(open(kSegment));
    for (TopicId topic = 1; topic <= 20; ++topic) {
      const auto entries = all(topic);
      ASSERT_EQ(entries.size(), 100u) << topic;
      for (const auto& [index, payload] : entries) {
        EXPECT_EQ(payload,
                  "entry " + std::to_string(20 * index + topic - 1) + std::string(100, 'x'));
      }
    }
    EXPECT_EQ(*store_->get("key"), "new");
    EXPECT_LE(list_segments(log)->size(), after.size() - back + 1) << "what was copied is gone";
    store_.reset();
    const auto report = check(path_);
    ASSERT_TRUE(report) << report.error().text();
    EXPECT_TRUE(report->damage.empty());
  }
  std::filesystem::remove_all(aside);
}

TEST_F(StoreTest, EntriesOfSmallTopicsAreBroughtTogether) {
  constexpr size_t kSegment = 64 << 10;
  ASSERT_TRUE(open(kSegment));
  for (uint64_t i = 0; i < 4000; ++i) {
    auto done = append(1 + i % 40, i / 40, "entry " + std::to_string(i));
    if (i % 100 == 0) ASSERT_TRUE(done.get());
  }
  ASSERT_TRUE(change({}));
  store_->trim(3, 60);
  ASSERT_TRUE(change({}));
  ASSERT_TRUE(store_->tidy());
  const auto verify = [&] {
    for (TopicId topic = 1; topic <= 40; ++topic) {
      const auto entries = all(topic, topic == 3 ? 60 : 0);
      ASSERT_EQ(entries.size(), topic == 3 ? 40u : 100u);
      for (const auto& [index, payload] : entries) {
        EXPECT_EQ(payload, "entry " + std::to_string(40 * index + topic - 1));
      }
    }
  };
  verify();
  crash();
  ASSERT_TRUE(open(kSegment));
  verify();
  store_.reset();
  // Between the first and the last entry of a topic in a segment lies nothing else.
  size_t gathered = 0;
  const auto ids = list_segments(path_ + "/log");
  for (const uint64_t id : *ids) {
    const auto bytes = read_file(path_ + "/log/" + segment_name(id));
    std::vector<TopicId> order;
    ASSERT_TRUE(scan_segment(*bytes, id, [&](const Record& record) {
      if (order.empty() || order.back() != record.topic) order.push_back(record.topic);
    }));
    if (order.size() == 39 || order.size() == 40) ++gathered;  // one was trimmed
  }
  EXPECT_GE(gathered, 2u);
  EXPECT_TRUE(check(path_)->damage.empty());
}

// Nobody would take it out again: the topic may be gone.
TEST_F(StoreTest, WhatIsTrimmedBeforeItsSegmentIsSealedLeavesNoIndex) {
  ASSERT_TRUE(open(64 << 10));
  for (uint64_t i = 0; i < 100; ++i) append(1, i, "gone soon");
  ASSERT_TRUE(append(2, 0, "stays").get());
  store_->trim(1, UINT64_MAX);
  ASSERT_TRUE(change({}));
  ASSERT_TRUE(append(2, 1, std::string(80 << 10, 'x')).get());
  ASSERT_TRUE(append(2, 2, std::string(80 << 10, 'x')).get());
  ASSERT_TRUE(store_->close());
  store_.reset();
  const auto tables = Tables::open(path_ + "/tables");
  ASSERT_TRUE(tables);
  const auto count = [&](TopicId topic) {
    size_t found = 0;
    const auto prefix = key_of('I', topic);
    EXPECT_TRUE((*tables)->scan(prefix, prefix, [&](std::string_view, std::string_view) {
      ++found;
      return true;
    }));
    return found;
  };
  EXPECT_EQ(count(1), 0u);
  EXPECT_GE(count(2), 1u);
}

TEST_F(StoreTest, ClosingDoesNotWaitForAllThatCouldBeTidied) {
  // Sees the copies that are begun, and holds the first one until the store is being closed.
  struct Watcher : DiskObserver {
    std::promise<void> begun;
    std::promise<void> closing;
    std::atomic<int> copies = 0;
    int before(const DiskChange& change) override {
      if (change.op != DiskChange::Op::create || !change.path.ends_with(".log.new")) return 0;
      if (++copies > 1) return 0;
      begun.set_value();
      closing.get_future().wait();
      return 0;
    }
    void after(const DiskChange&) override {}
  };
  constexpr size_t kSegment = 64 << 10;
  ASSERT_TRUE(open(kSegment));
  for (uint64_t i = 0; i < 20'000; ++i) {
    auto done = append(1 + i % 40, i / 40, "entry " + std::to_string(i));
    if (i % 100 == 99) ASSERT_TRUE(done.get());
  }
  store_.reset();
  Watcher watcher;
  observe_disk(&watcher);
  auto store = Store::open({.path = path_,
                            .segment_bytes = kSegment,
                            .ballast_bytes = 1 << 20,
                            .tidy_every = std::chrono::milliseconds(1)});
  ASSERT_TRUE(store);
  watcher.begun.get_future().wait();
  watcher.closing.set_value();
  EXPECT_TRUE((*store)->close());
  store->reset();
  observe_disk(nullptr);
  // It may have begun another one before it was told; there are a dozen to make.
  EXPECT_LE(watcher.copies, 3);
}

TEST_F(StoreTest, OneProcessAndNoForeignDirectory) {
  ASSERT_TRUE(open());
  const auto second = Store::open({.path = path_});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), Code::busy);
  store_.reset();
  const std::string foreign = path_ + "/log";
  const auto refused = Store::open({.path = foreign});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::invalid) << refused.error().text();
}

TEST_F(StoreTest, CompletionsComeInOrderAndSyncsAreShared) {
  ASSERT_TRUE(open());
  constexpr uint64_t kCount = 5000;
  std::vector<uint64_t> order;
  std::promise<void> all_done;
  const auto executor = threads_.at(0);
  for (uint64_t i = 0; i < kCount; ++i) {
    store_->append(i % 2, i, Bytes::copy("x"), executor, [&, i](const Result<void>& result) {
      EXPECT_TRUE(result);
      order.push_back(i);
      if (order.size() == kCount) all_done.set_value();
    });
  }
  all_done.get_future().get();
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_LT(store_->stats().syncs, kCount / 10);
}

// A file may not grow above `bytes`: what a full disk does to a new segment.
class FileLimit {
 public:
  explicit FileLimit(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST_F(StoreTest, AFailedEntryTakesThoseBehindItsFenceAlongAndTheStoreGoesOn) {
  ASSERT_TRUE(open(64 << 10));
  EXPECT_TRUE(append(1, 0, std::string(40 << 10, 'a')).get());
  const auto fence = std::make_shared<Fence>();
  const auto fenced = [&](uint64_t index, std::string payload) {
    auto promise = std::make_shared<std::promise<Result<void>>>();
    store_->append(
        1, index, Bytes::from(std::move(payload)), threads_.at(0),
        [promise](const Result<void>& result) { promise->set_value(result); }, {}, fence);
    return promise->get_future();
  };
  {
    const FileLimit limit(50 << 10);
    auto large = fenced(1, std::string(55 << 10, 'b'));  // does not fit
    EXPECT_FALSE(large.get());
    auto small = fenced(2, "c");  // would fit, but what it follows is not there
    const auto refused = small.get();
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().text().find("an entry before it"), std::string::npos)
        << refused.error().text();
    EXPECT_TRUE(append(2, 0, "others go on").get());
    EXPECT_EQ(store_->broken(), std::nullopt);
  }
  EXPECT_TRUE(append(1, 3, std::string(40 << 10, 'd')).get());
  crash();
  ASSERT_TRUE(open(64 << 10));
  const auto entries = all(1);
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[1].first, 3u);
  EXPECT_EQ(all(2).size(), 1u);
}

// Begun on a nearly full disk it was small.
TEST_F(StoreTest, TheBallastGrowsWithTheRoomThereIs) {
  ASSERT_TRUE(open());
  store_.reset();
  const std::string ballast = path_ + "/ballast";
  const auto open_with = [&](size_t bytes) {
    auto store = Store::open({.path = path_, .ballast_bytes = bytes, .tidy_every = {}});
    ASSERT_TRUE(store) << store.error().text();
    store_ = std::move(*store);
  };
  EXPECT_EQ(std::filesystem::file_size(ballast), 1u << 20);
  open_with(8 << 20);
  EXPECT_EQ(std::filesystem::file_size(ballast), 8u << 20);
}

TEST_F(StoreTest, AfterCloseRequestsFail) {
  ASSERT_TRUE(open());
  EXPECT_TRUE(store_->close());
  const auto result = append(1, 1, "late").get();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Code::closed);
}

}  // namespace
}  // namespace hulse::storage

// Load on a store, and what the store owes for it: each request is noted when it is made and again
// when its completion says that it is durable. Used by the tests of power loss and failing disks.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "aio/threads.h"
#include "storage/store.h"

namespace hulse::storage {

// What was asked for and what was promised, at one moment. Values are numbers: the contents of an
// entry and of a key follow from them.
struct Promises {
  static constexpr size_t kTopics = 4;
  static constexpr size_t kKeys = 6;

  struct Topic {
    uint64_t asked = 0;  // entries below were asked for
    std::vector<bool> promised;
    std::vector<uint64_t> lives;  // where each run of the store began: no holes within one
    uint64_t trim_asked = 0;
    uint64_t trim_promised = 0;
  };
  struct Key {  // with a twin that changes together with it
    uint64_t asked = 0;
    uint64_t promised = 0;
  };
  std::array<Topic, kTopics> topics;
  std::array<Key, kKeys> keys;
  bool refused = false;  // a request failed, so there may be holes

  uint64_t entries_promised() const;
  // What the store does not hold though it was promised, or holds though nobody asked for it.
  // Empty when all is well.
  std::vector<std::string> broken_by(const Store& store) const;
  // For a damaged store: how many promised entries of a topic it says are damaged. One that is
  // passed over in silence or has wrong bytes is a failure of the test.
  uint64_t told_or_right(const Store& store, size_t topic, const std::string& words) const;
};

class Load {
 public:
  explicit Load(Promises before = {}) : promises_(std::move(before)) {}

  // Requests of all kinds, from one thread, until the store has been given so many or `ended`
  // says so. Waits for all completions.
  void run(Store& store, uint64_t requests, std::mt19937_64& random,
           const std::function<bool()>& ended);
  // Any thread.
  Promises promises() const;

 private:
  void request(Store& store, std::mt19937_64& random);
  void append(Store& store, std::mt19937_64& random, size_t topic);
  void change(Store& store, size_t key);
  void trim(Store& store, std::mt19937_64& random, size_t topic);
  void done(const Result<void>& result, const std::function<void()>& note);

  aio::Threads threads_{"load", 1};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Promises promises_;
  std::array<uint64_t, Promises::kTopics> trims_{};  // asked for in this run of the store
  uint64_t open_ = 0;
};

}  // namespace hulse::storage

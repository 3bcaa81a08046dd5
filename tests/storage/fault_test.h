// What the tests of a failing disk share: a seed that is printed, a place to work, small segments.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <random>
#include <string>

#include "base/log.h"
#include "recording_disk.h"
#include "storage/store.h"

namespace hulse::storage {

inline constexpr size_t kSegmentBytes = 64 << 10;

inline uint64_t setting(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 0);
}

inline bool is_manifest(const std::string& path) {
  return path.find("/MANIFEST-") != std::string::npos;
}

class FaultTest : public testing::Test {
 protected:
  FaultTest() {
    // In memory if there is such a file system: what the disk itself keeps does not matter here.
    std::string name = std::filesystem::exists("/dev/shm")
                           ? std::filesystem::path("/dev/shm/hulse-fault-XXXXXX")
                           : std::filesystem::temp_directory_path() / "hulse-fault-XXXXXX";
    work_ = ::mkdtemp(name.data());
    log::set_level(log::Level::off);  // thousands of damaged entries are named, on purpose
    std::cout << "seed " << seed_ << " (HULSE_FAULT_SEED)\n";
  }
  ~FaultTest() override {
    observe_disk(nullptr);
    log::set_level(log::Level::info);
    std::filesystem::remove_all(work_);
  }

  static Options options(const std::string& path) {
    return {.path = path,
            .segment_bytes = kSegmentBytes,
            .ballast_bytes = 1 << 20,
            .tidy_every = {},
            .garbage_bytes_max = 4 * kSegmentBytes};
  }

  const uint64_t seed_ = setting("HULSE_FAULT_SEED", std::random_device()());
  // How many times the usual short form.
  const uint64_t rounds_ = setting("HULSE_FAULT_ROUNDS", 1);
  std::mt19937_64 random_{seed_};
  std::string work_;
};

}  // namespace hulse::storage

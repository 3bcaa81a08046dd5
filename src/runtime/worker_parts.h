// What the files of the worker share: the structures behind it. Internal.
#pragma once

#include <boost/json/object.hpp>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "runtime/worker.h"

namespace hulse::runtime {

inline constexpr const char* kComponentsTopic = "persistent://public/functions/hulse-components";

// On the instance's strand.
inline aio::Task<Status> status_of(std::shared_ptr<Instance> instance) {
  co_return instance->status();
}

struct Worker::Slot {
  aio::Executor strand;
  std::shared_ptr<Instance> instance;
  std::unique_ptr<aio::Gate> gate;  // holds its run
};

struct Worker::Managed {
  std::shared_ptr<const Component> component;  // that runs
  boost::json::object config;                  // it was made of
  std::optional<Error> refused;                // why this version of Hulse does not run it, if so
  std::map<unsigned, Slot> slots;
  std::map<unsigned, Counters> counters;  // as they were last
  std::set<unsigned> unstored;            // counters that are newer than what is stored

  std::vector<unsigned> running() const {
    std::vector<unsigned> indexes;
    for (const auto& [index, slot] : slots) indexes.push_back(index);
    return indexes;
  }
};

// One change of a component at a time; others wait for theirs.
class Worker::Turn {
 public:
  Turn(Worker& worker, std::string name) : worker_(&worker), name_(std::move(name)) {}
  Turn(Turn&& other) noexcept
      : worker_(std::exchange(other.worker_, nullptr)), name_(std::move(other.name_)) {}
  Turn& operator=(Turn&&) = delete;
  ~Turn() {
    if (worker_ == nullptr) return;
    worker_->turns_.erase(name_);
    worker_->changed_.notify();
  }

 private:
  Worker* worker_;
  std::string name_;
};

}  // namespace hulse::runtime

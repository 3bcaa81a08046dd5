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

inline std::string instance_key(const std::string& name, unsigned index) {
  return fmt::format("{}/{}", name, index);
}

// As Pulsar's messages begin.
inline std::string title(connect::Kind kind) {
  switch (kind) {
    case connect::Kind::source: return "Source";
    case connect::Kind::sink: return "Sink";
    case connect::Kind::function: return "Function";
  }
  return "Component";
}

// On the instance's strand.
inline aio::Task<Status> status_of(std::shared_ptr<Instance> instance) {
  co_return instance->status();
}

struct Worker::Slot {
  explicit Slot(aio::Executor where) : strand(std::move(where)) {}
  aio::Executor strand;
  uint64_t restart = 0;  // ComponentRecord::restarts when it was started
  std::shared_ptr<const Component> component;
  std::shared_ptr<Instance> instance;  // none until it has been taken over
  bool lost = false;                   // it is another worker's
  std::unique_ptr<aio::Gate> gate;     // holds its run
};

struct Worker::Managed {
  // Of an instance that is this worker's: what its record says, or is to say.
  struct Kept {
    InstanceRecord record;
    uint64_t version = 0;  // of the record as this worker wrote it
    bool stored = false;   // it says the above
  };

  std::shared_ptr<const Component> component;  // that runs
  boost::json::object config;                  // it was made of
  std::optional<Error> refused;                // why this version of Hulse does not run it, if so
  std::optional<Applied> applied;
  bool applying = false;
  // Instances that are placed here while another worker has not ended them: since when.
  std::map<unsigned, aio::TimePoint> awaited;
  std::map<unsigned, std::shared_ptr<Slot>> slots;
  std::map<unsigned, Kept> kept;
  std::set<unsigned> storing;  // whose records are being written

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
  ~Turn() { end(); }
  void end() {
    const auto worker = std::exchange(worker_, nullptr);
    if (worker == nullptr) return;
    worker->turns_.erase(name_);
    worker->changed_.notify();
  }

 private:
  Worker* worker_;
  std::string name_;
};

}  // namespace hulse::runtime

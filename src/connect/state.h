// State: what a component remembers beside its records, by key, on a topic of the bus. Functions,
// sources and sinks reach it through their Context.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "aio/task.h"
#include "base/result.h"

namespace hulse::connect {

// One state for all instances of a component; it goes when the component is deleted. Nothing is
// opened before the first call. All members are called on the instance's strand; several calls may
// be under way at once. A write returns when it is durable.
//
// A value is bytes or a number. As bytes a number is eight, the highest first, as in Apache Pulsar.
class State {
 public:
  virtual ~State() = default;

  // Nothing when there is no such key. What another instance has just written may be missing.
  virtual aio::Task<Result<std::optional<std::string>>> get(std::string key) = 0;
  virtual aio::Task<Result<void>> put(std::string key, std::string value) = 0;
  virtual aio::Task<Result<void>> remove(std::string key) = 0;

  // Adds and gives the sum, exact whatever the other instances add meanwhile. Additions to one key
  // that wait at the same time are stored as one. Code::invalid when the value is no number.
  virtual aio::Task<Result<int64_t>> increment(std::string key, int64_t by) = 0;
  // 0 when there is no such key.
  virtual aio::Task<Result<int64_t>> counter(std::string key) = 0;
};

}  // namespace hulse::connect

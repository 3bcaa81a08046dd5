// Instance: one running copy of a source, sink or function. Its lives (open … close) follow one
// another with a backoff until it is stopped or fails for good.
#pragma once

#include <memory>
#include <string>

#include "aio/backoff.h"
#include "aio/gate.h"
#include "client/client.h"
#include "runtime/bus_id.h"
#include "runtime/component.h"
#include "runtime/last_minute.h"
#include "runtime/log_topic.h"
#include "runtime/state_store.h"
#include "runtime/status.h"

namespace hulse::runtime {

// What an instance needs to know of the bus.
struct Bus {
  client::Options client;
  std::string id;                            // bus_id.h
  std::string name_space = kStateNamespace;  // of what is remembered
};

// Why a life ended.
struct Ended {
  Error why;
  bool for_good = false;  // another life would end the same way
};

// Lives on one strand; all members are called there.
class Instance : public std::enable_shared_from_this<Instance> {
 public:
  // shared_from_this: outcomes may still be on their way from other threads when it has ended.
  // `counters` go on from a former instance. `bus` outlives it.
  Instance(std::shared_ptr<const Component> component, unsigned index, const Bus& bus,
           aio::Executor executor, const Counters& counters);
  virtual ~Instance();

  // Until it is cancelled (stopped, cleanly) or fails for good (see status()).
  aio::Task<void> run();
  Status status() const {
    return {state_,
            reason_,
            counters_,
            failures_,
            last_received_ms_,
            latency_,
            minute_.since(aio::Clock::now(), counters_, latency_)};
  }
  std::string label() const;  // "sink public/default/x/0"

 protected:
  virtual aio::Task<Ended> life() = 0;
  // A failure of open or create: those that nothing but the user can mend end the instance.
  static Ended after_open(const Error& why);
  void running(std::string_view where);
  // Counts it and keeps it for status().
  void note_failure(const std::string& text);

 private:
  const std::shared_ptr<const Component> owned_;

 protected:
  const Component& component_ = *owned_;
  const unsigned index_;
  const Bus& bus_;
  const aio::Executor executor_;
  connect::Context context_;
  std::unique_ptr<client::Client> client_;
  std::unique_ptr<StateStore> remembered_;  // of the component, by key
  Counters counters_;
  int64_t last_received_ms_ = 0;
  Latency latency_;
  LastMinute minute_;

 private:
  void retrying(const Error& why, aio::Duration wait);

  State state_ = State::starting;
  std::unique_ptr<LogTopic> log_topic_;
  std::string reason_;
  std::deque<Failure> failures_;
};

std::shared_ptr<Instance> make_instance(std::shared_ptr<const Component> component, unsigned index,
                                        const Bus& bus, aio::Executor executor,
                                        const Counters& counters = {});

}  // namespace hulse::runtime

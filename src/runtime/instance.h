// Instance: one running copy of a source, sink or function. Its lives (open … close) follow one
// another with a backoff until it is stopped or fails for good.
#pragma once

#include <memory>
#include <string>

#include "aio/backoff.h"
#include "aio/gate.h"
#include "client/client.h"
#include "runtime/bus_id.h"
#include "runtime/clients.h"
#include "runtime/component.h"
#include "runtime/last_minute.h"
#include "runtime/log_topic.h"
#include "runtime/rate.h"
#include "runtime/secrets.h"
#include "runtime/state_store.h"
#include "runtime/status.h"

namespace hulse::runtime {

// What an instance needs to know of the bus.
struct Bus {
  std::shared_ptr<Clients> clients;
  std::string id;                            // bus_id.h
  std::string name_space = kStateNamespace;  // of the topics that are remembered with
  SecretSources secrets = {};  // where references to secrets may lead, in this process
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
  Status status();
  std::string label() const;  // "sink public/default/x/0"

 protected:
  virtual aio::Task<Ended> life() = 0;
  // A failure of open or create: those that nothing but the user can mend end the instance.
  static Ended after_open(const Error& why);
  void running(std::string_view where);
  // The connector's configuration with the secrets it refers to, as they are now.
  Result<config::Given> given();
  // What the other side said, without the secrets it may have repeated.
  Error masked(const Error& error) const;
  // Counts it and keeps it for status(). `led_to` is a word of Meters::failures.
  void note_failure(std::string_view led_to, Code code, Failure failure);
  // Counts what came in, and what it costs of the rate limit.
  void came_in(size_t records, size_t bytes);
  // Waits while the rate limit asks for it; false when that was cancelled.
  aio::Task<bool> wait_for_limit();

 private:
  const std::shared_ptr<const Component> owned_;

 protected:
  const Component& component_ = *owned_;
  const unsigned index_;
  const Bus& bus_;
  const aio::Executor executor_;
  connect::Context context_;
  std::shared_ptr<client::Client> client_;
  std::unique_ptr<StateStore> remembered_;  // of the component, by key
  Counters counters_;
  int64_t last_received_ms_ = 0;
  Meters meters_;
  Latency latency_;
  LastMinute minute_;

 private:
  void retrying(const Error& why, aio::Duration wait);

  std::vector<std::string> hidden_;  // the secrets in use
  RateLimit limit_;
  Speed records_in_;
  Speed records_out_;
  Speed bytes_in_;
  uint64_t written_ = 0;  // of the counters, when the speed was looked at last
  State state_ = State::starting;
  std::unique_ptr<LogTopic> log_topic_;
  std::string reason_;
  std::deque<Failure> failures_;
};

std::shared_ptr<Instance> make_instance(std::shared_ptr<const Component> component, unsigned index,
                                        const Bus& bus, aio::Executor executor,
                                        const Counters& counters = {});

}  // namespace hulse::runtime

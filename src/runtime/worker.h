// Worker: the sources and sinks of a bus, managed. What it remembers lies on topics of the bus, so
// that it is all there again after a kill.
//
//   persistent://public/functions/hulse-components   tenant/namespace/name → ComponentRecord
//   persistent://public/functions/hulse-instances    tenant/namespace/name/index → counters
//
// Functions, sources and sinks of a namespace share their names, as in Pulsar.
#pragma once

#include <boost/json/object.hpp>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "aio/gate.h"
#include "aio/threads.h"
#include "client/client.h"
#include "client/key_value_topic.h"
#include "runtime/component_record.h"
#include "runtime/instance.h"

namespace hulse::runtime {

struct WorkerOptions {
  client::Options client;
  std::string id;  // "c-standalone-fw-localhost-8080"
  // How long the subscription of a deleted sink waits for the sink to come back.
  std::chrono::milliseconds subscription_grace = std::chrono::hours(1);
};

struct ComponentName {
  std::string tenant;
  std::string name_space;
  std::string name;
  std::string text() const { return tenant + "/" + name_space + "/" + name; }
};

// What status shows of one instance.
struct InstanceStatus {
  unsigned index = 0;
  Status status;
};

enum class Verb { start, stop, restart };

// Lives on one strand; all members are called there. Errors for whoever manages: Code::invalid
// (what was asked for cannot be), not_found, unavailable (not ready yet), busy (someone else
// changed it).
class Worker {
 public:
  // Instances run on `threads`, which outlive it.
  Worker(WorkerOptions options, aio::Executor executor, aio::Threads& threads);
  ~Worker();

  // Reads what was there and starts it, in the background; tries again until it can.
  void start();
  aio::Task<void> stop();
  bool ready() const { return components_ != nullptr; }
  // Until it is ready or has said why not; for a few seconds at the most.
  aio::Task<void> wait_ready();
  const WorkerOptions& options() const { return options_; }

  // Each checks everything and tells every problem. With `dry_run` nothing is done after that.
  // Gives what Hulse had to decide by itself; an update, what it changes.
  aio::Task<Result<std::vector<std::string>>> create(connect::Kind kind, ComponentName name,
                                                     boost::json::object config, bool dry_run);
  aio::Task<Result<std::vector<std::string>>> update(connect::Kind kind, ComponentName name,
                                                     boost::json::object config, bool dry_run);
  // The subscription of a sink goes after the grace time, or with `drop_subscription` at once.
  aio::Task<Result<void>> remove(connect::Kind kind, ComponentName name, bool drop_subscription);
  // Of all instances or of one. Whether it runs is remembered.
  aio::Task<Result<void>> act(connect::Kind kind, ComponentName name, Verb verb,
                              std::optional<unsigned> index);

  // As GET shows it: nothing secret in it.
  Result<boost::json::object> config(connect::Kind kind, const ComponentName& name) const;
  Result<std::vector<std::string>> list(connect::Kind kind, const std::string& tenant,
                                        const std::string& name_space) const;
  aio::Task<Result<std::vector<InstanceStatus>>> status(connect::Kind kind, ComponentName name);
  // Every instance of every component.
  struct Everything {
    ComponentName name;
    connect::Kind kind = connect::Kind::sink;
    InstanceStatus instance;
  };
  aio::Task<std::vector<Everything>> everything();
  // "tenant/namespace/name:0" of every instance this worker runs.
  std::vector<std::string> assigned() const;

 private:
  struct Slot;
  struct Managed;
  class Turn;
  struct Found {
    ComponentRecord record;
    uint64_t version = 0;
  };

  aio::Task<void> run();
  aio::Task<Result<void>> load();
  aio::Task<void> look_after();
  aio::Task<void> unload();

  Error not_ready() const;
  Result<Found> find(connect::Kind kind, const ComponentName& name, bool for_update) const;
  aio::Task<Result<void>> store(ComponentName name, ComponentRecord record, uint64_t replaces);
  aio::Task<Turn> take_turn(std::string name);
  aio::Task<void> apply(std::string name);
  aio::Task<void> end_slots(std::shared_ptr<Managed> managed, std::vector<unsigned> indexes);
  std::shared_ptr<Managed> managed(const std::string& name);
  aio::Task<void> store_counters();
  aio::Task<void> drop_subscriptions();
  aio::Task<Result<void>> forget_counters(std::string name);
  aio::Task<Result<void>> forget(std::string name);
  aio::Task<Result<void>> unsubscribe(const Component& component);

  const WorkerOptions options_;
  const aio::Executor executor_;
  aio::Threads& threads_;
  aio::Gate gate_;
  aio::Event changed_;  // turns were given back; it is ready, or not
  std::set<std::string> turns_;
  std::shared_ptr<client::Client> client_;  // shared: as managed_
  Bus bus_;
  // When to try again to drop the subscription of a deleted sink, after it could not be.
  std::map<std::string, aio::Clock::time_point> drop_retry_;
  std::optional<Error> trouble_;  // why it is not ready
  std::shared_ptr<client::KeyValueTopic> components_;
  std::shared_ptr<client::KeyValueTopic> counters_topic_;
  // Shared: whoever waits in the middle of something keeps what it works on.
  std::map<std::string, std::shared_ptr<Managed>> managed_;
};

}  // namespace hulse::runtime

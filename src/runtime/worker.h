// Worker: runs sources, sinks and functions of a bus, and manages them together with the other
// workers of that bus. What they remember lies on topics, so that it is all there again after a
// kill, and for whoever takes over.
//
//   persistent://NAMESPACE/hulse-components    tenant/namespace/name → ComponentRecord
//   persistent://NAMESPACE/hulse-assignments   tenant/namespace/name → Placement (placement.h)
//   persistent://NAMESPACE/hulse-instances     tenant/namespace/name/index → InstanceRecord
//   persistent://NAMESPACE/hulse-workers       who there is (members.h)
//
// Any worker takes orders; the leading one places the instances. Each worker runs what is placed
// with it. An instance belongs to the worker its record names: another one starts it only when that
// one has ended it or is dead, and by then writing the record; the former one's next record is
// refused, by which it learns that it is not the owner any more.
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
#include "runtime/bus_id.h"
#include "runtime/component_record.h"
#include "runtime/instance.h"
#include "runtime/members.h"
#include "runtime/placement.h"
#include "runtime/places.h"
#include "runtime/secret_box.h"
#include "runtime/state_store.h"

namespace hulse::runtime {

struct WorkerOptions {
  client::Options client;
  std::string id;    // "c-standalone-fw-localhost-8080"
  std::string host;  // where its REST answers, for the others
  uint16_t port = 0;
  std::string name_space = kStateNamespace;  // of the topics above
  // See members.h.
  aio::Duration beat = std::chrono::seconds(2);
  aio::Duration silence = std::chrono::seconds(6);
  std::shared_ptr<const SecretBox> secrets;  // none: only references to secrets are stored
  SecretSources secret_sources;
  // How long the subscription of a deleted sink or function waits for it to come back.
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
  std::string worker;  // that runs it; empty: none yet
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
  // The subscription of a sink or function goes after the grace time, or with `drop_subscription`
  // at once.
  aio::Task<Result<void>> remove(connect::Kind kind, ComponentName name, bool drop_subscription);
  // Of all instances or of one. Whether it runs is remembered.
  aio::Task<Result<void>> act(connect::Kind kind, ComponentName name, Verb verb,
                              std::optional<unsigned> index);

  // A sink goes on from that place of its topics, or of one of them: its instances end, its
  // subscription is moved, they begin again. Code::invalid when the place is not stored any more.
  // Gives where it goes on, a line a topic. A kill in the middle leaves it stopped.
  aio::Task<Result<std::vector<std::string>>> replay(ComponentName name, Place place,
                                                     std::string only_topic);

  // As GET shows it: nothing secret in it.
  Result<boost::json::object> config(connect::Kind kind, const ComponentName& name) const;
  Result<std::vector<std::string>> list(connect::Kind kind, const std::string& tenant,
                                        const std::string& name_space) const;
  aio::Task<Result<std::vector<InstanceStatus>>> status(connect::Kind kind, ComponentName name);
  // Every instance that runs here.
  struct Everything {
    ComponentName name;
    connect::Kind kind = connect::Kind::sink;
    InstanceStatus instance;
  };
  aio::Task<std::vector<Everything>> everything();
  // What a component of any kind remembers (state_store.h). Code::not_found when there is no such
  // component or key.
  aio::Task<Result<StateStore::Stored>> state(ComponentName name, std::string key);
  aio::Task<Result<void>> put_state(ComponentName name, std::string key, std::string value);

  // Publishes the value to an input of the function (`topic` may be empty when there is one) and
  // gives what the function publishes for it; nothing when it has no output topic. Code::timeout
  // when nothing came.
  aio::Task<Result<std::optional<std::string>>> trigger(ComponentName name, std::string topic,
                                                        std::string value);

  // Bytes under a path of the uploader's choice (package_store.h); an upload replaces the one
  // before. Code::not_found when there is none.
  aio::Task<Result<void>> upload(std::string path, std::string_view bytes);
  aio::Task<Result<std::string>> download(std::string path);

  // "tenant/namespace/name:0" of every instance, by its worker.
  std::map<std::string, std::vector<std::string>> assignments() const;
  // The workers that are alive, and the one that leads.
  std::vector<Member> members() const;
  std::optional<Member> leader() const;
  // Why it works no more and will not again: another one goes by its id.
  const std::optional<Error>& superseded() const { return superseded_; }

 private:
  struct Slot;
  struct Managed;
  class Turn;
  // What the records of a component and its placement were when it was brought in line.
  struct Applied {
    uint64_t component = 0;  // versions; 0: none
    uint64_t placement = 0;
    bool operator==(const Applied&) const = default;
  };
  struct Found {
    ComponentRecord record;
    uint64_t version = 0;
  };

  aio::Task<void> run();
  aio::Task<Result<void>> load();
  aio::Task<void> look_after();
  aio::Task<void> unload();
  std::string topic(std::string_view name) const;

  // worker.cpp: what runs here
  aio::Task<void> follow(std::shared_ptr<client::KeyValueTopic> topic);
  aio::Task<void> follow_members(std::shared_ptr<Members> members);
  aio::Task<void> watch();
  void bring_in_line();
  aio::Task<void> apply_in_turn(std::string name);
  aio::Task<void> apply(std::string name);
  bool awaiting() const;
  Applied versions_of(const std::string& name) const;
  bool may_start(const std::string& name, unsigned index, const Managed& managed) const;
  aio::Task<void> serve(std::shared_ptr<Managed> managed, std::shared_ptr<Slot> slot,
                        std::string name, unsigned index);
  aio::Task<bool> take_over(std::shared_ptr<Managed> managed, std::string name, unsigned index);
  aio::Task<void> end_slots(std::shared_ptr<Managed> managed, std::string name,
                            std::vector<unsigned> indexes);
  aio::Task<void> store_statuses();
  aio::Task<bool> store_status(std::shared_ptr<Managed> managed, std::string name, unsigned index);
  Result<InstanceRecord> instance_record(const std::string& name, unsigned index) const;

  // worker_lead.cpp: what the leader does
  aio::Task<void> lead();
  aio::Task<void> assign();
  aio::Task<bool> drop_subscriptions();
  aio::Task<void> forget_orphans();

  // worker_commands.cpp
  Error not_ready() const;
  const SecretBox* box() const { return options_.secrets.get(); }
  Result<Found> find(connect::Kind kind, const ComponentName& name, bool for_update) const;
  aio::Task<Result<uint64_t>> store(ComponentName name, ComponentRecord record, uint64_t replaces);
  aio::Task<void> wait_applied(std::string name, uint64_t version);
  bool ended_everywhere(const std::string& name) const;
  aio::Task<Turn> take_turn(std::string name);
  std::shared_ptr<Managed> managed(const std::string& name);
  Placement placement_of(const std::string& name) const;
  aio::Task<Result<void>> forget_instances(std::string name);
  aio::Task<Result<void>> forget(std::string name);
  aio::Task<Result<void>> drop_position(Component component);
  aio::Task<Result<void>> unsubscribe(const Component& component);
  aio::Task<Result<std::shared_ptr<StateStore>>> state_of(ComponentName name);
  aio::Task<Result<void>> forget_state(std::string name);
  aio::Task<void> close_idle_states();
  aio::Task<void> close_states();
  aio::Task<Result<std::string>> trigger_input(std::shared_ptr<const Component> component,
                                               std::string topic);

  const WorkerOptions options_;
  const aio::Executor executor_;
  aio::Threads& threads_;
  aio::Gate gate_;
  aio::Event changed_;  // turns were given back; it is ready, or not
  std::set<std::string> turns_;
  std::shared_ptr<client::Client> client_;  // shared: as managed_
  Bus bus_;
  // When to try again to drop the subscription of a deleted sink, after it could not be.
  struct DropRetry {
    aio::TimePoint at;
    Error why;
  };
  std::map<std::string, DropRetry> drop_retry_;
  std::optional<Error> trouble_;  // why it is not ready
  std::optional<Error> superseded_;
  // What it remembers with; closed at the end of unload().
  struct Remembered {
    std::shared_ptr<client::KeyValueTopic> components;
    std::shared_ptr<client::KeyValueTopic> assignments;
    std::shared_ptr<client::KeyValueTopic> instances;
    std::vector<std::shared_ptr<client::KeyValueTopic>> all() const;  // that are open
  };
  Remembered remembered_;
  std::shared_ptr<client::KeyValueTopic> components_;  // while components can be managed
  std::shared_ptr<Members> members_;
  std::unique_ptr<aio::Gate> work_;  // what is done from load to unload
  uint64_t news_ = 0;                // grows when one of the topics or the members have changed
  bool leads_ = false;               // has begun to
  // States that were asked for lately.
  struct OpenState {
    std::shared_ptr<StateStore> store;
    aio::TimePoint used;
  };
  std::map<std::string, OpenState> states_;
  // Shared: whoever waits in the middle of something keeps what it works on.
  std::map<std::string, std::shared_ptr<Managed>> managed_;
};

}  // namespace hulse::runtime

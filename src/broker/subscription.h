// Subscription: a cursor and the consumers that share it. Decides who gets which entry when.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "broker/cursor.h"
#include "broker/link.h"
#include "broker/topic.h"

namespace hulse::broker {

class Subscription : public std::enable_shared_from_this<Subscription> {
 public:
  using SubType = pb::CommandSubscribe::SubType;
  using Done = std::function<void(const Result<void>&)>;

  // Belongs to `topic`, which outlives it.
  Subscription(Topic& topic, std::string name, bool durable, Cursor cursor);
  ~Subscription();

  const std::string& name() const { return name_; }
  bool durable() const { return durable_; }
  // A restart would find it. One that is not durable never has to be found.
  bool stored() const { return stored_; }
  void set_stored() { stored_ = true; }
  const Cursor& cursor() const { return cursor_; }
  const std::vector<std::shared_ptr<Consumer>>& consumers() const { return consumers_; }
  SubType type() const { return type_; }

  // Refuses what Pulsar refuses: a second exclusive consumer, another type while somebody is
  // connected.
  // `admitted` is called before the consumer is told anything else.
  std::optional<Topic::Refusal> add(const std::shared_ptr<Consumer>& consumer, SubType type,
                                    const std::function<void()>& admitted);
  // What it held goes to others at once. A non-durable subscription ends with its last consumer.
  void remove(const std::shared_ptr<Consumer>& consumer);

  void flow(const std::shared_ptr<Consumer>& consumer, uint32_t permits);
  // `done`, if given, is called when the acknowledgement is synced.
  void ack(const std::shared_ptr<Consumer>& consumer, const pb::CommandAck& ack, Done done);
  // Without ids: everything this consumer (shared) or the subscription (else) has unacknowledged.
  void redeliver(const std::shared_ptr<Consumer>& consumer,
                 const pb::CommandRedeliverUnacknowledgedMessages& command);
  // Disconnects all consumers and moves the cursor.
  void seek(uint64_t index, Done done);

  // Hands entries to consumers that have permits. Called whenever that may have become possible.
  void dispatch();

  // Messages before it are acknowledged for everybody: they have outlived their time.
  void expire_until(uint64_t index);

  uint64_t unacked_messages() const;
  // So many messages are unacknowledged that nobody gets more before half of them are.
  bool blocked() const { return blocked_; }
  const Meter& out() const { return out_; }
  const Meter& redelivered() const { return redelivered_; }
  const Meter& acked() const { return acked_; }
  const Meter& expired() const { return expired_; }
  // Milliseconds since 1970; 0: never.
  int64_t consumed_ms() const { return consumed_ms_; }
  int64_t acked_ms() const { return acked_ms_; }
  int64_t expired_ms() const { return expired_ms_; }
  void sample(double seconds);
  uint64_t read_index() const { return read_index_; }
  uint64_t in_replay() const { return redeliveries_.size(); }
  // As the first consumer gave them, or REST.
  const std::map<std::string, std::string>& properties() const { return properties_; }
  void set_properties(std::map<std::string, std::string> properties) {
    properties_ = std::move(properties);
  }
  // Nobody is connected to what ends with its last consumer: they were sent away by a seek.
  bool abandoned() const { return !durable_ && consumers_.empty(); }
  uint64_t delayed() const;
  const Consumer* active() const { return active_.get(); }
  // Its consumers read what compaction has left; so it is while they are connected.
  bool reads_compacted() const { return reads_compacted_; }

 private:
  bool ordered() const {
    return type_ == pb::CommandSubscribe::Exclusive || type_ == pb::CommandSubscribe::Failover;
  }
  bool sticky() const { return by_key() && !consumers_.empty() && consumers_.front()->sticky; }
  bool by_key() const { return type_ == pb::CommandSubscribe::Key_Shared; }
  // `newcomer`: who was subscribed just now, if that is why.
  void choose_active(const Consumer* newcomer);
  void announce_active();
  void rewind();
  Consumer* taker();
  std::optional<uint64_t> next_index();
  const TailEntry* in_memory(uint64_t index);
  bool is_delayed(const TailEntry& entry);
  aio::Task<void> wake_delayed();
  void dispatch_in_turn();
  void dispatch_by_key();
  // Why a sticky consumer's ranges cannot be, if so.
  std::string range_conflict(const Consumer& consumer) const;
  uint32_t slot_of(const TailEntry& entry) const;
  Consumer* owner_of(uint32_t hash) const;
  void arrange_keys();
  void forget_pending(Consumer& consumer, uint64_t index);
  void notice_end();
  void deliver(Consumer& consumer, const TailEntry& entry);
  void read_ahead(uint64_t from);
  aio::Task<void> run_read(uint64_t from);
  void forget_ahead(uint64_t index);
  void tell_of_damage(uint64_t index, const Error& why);
  aio::Task<void> activate_later(std::shared_ptr<Consumer> consumer);
  void give_back(Consumer& consumer, uint64_t index);
  bool unblock();
  void changed(Done done);
  void store();

  Topic& topic_;
  Shared& shared_;
  const std::string name_;
  const bool durable_;
  bool stored_;
  Cursor cursor_;
  SubType type_ = pb::CommandSubscribe::Exclusive;
  std::vector<std::shared_ptr<Consumer>> consumers_;
  std::shared_ptr<Consumer> active_;  // exclusive and failover
  bool active_ready_ = true;          // false while a failover's delay runs
  bool reads_compacted_ = false;
  size_t round_robin_ = 0;
  unsigned in_a_row_ = 0;

  uint64_t read_index_ = 0;                        // the next entry nobody was given yet
  std::set<uint64_t> redeliveries_;                // shared: given back
  std::unordered_map<uint64_t, uint32_t> counts_;  // redeliveries of unacknowledged entries
  std::deque<TailEntry> ahead_;                    // read from disk, not delivered yet
  std::map<int64_t, std::set<uint64_t>> delayed_;  // shared: by the time they are due
  bool waking_ = false;
  std::optional<aio::Event> delays_changed_;

  // Key_Shared: which consumer a hash belongs to, and who holds unacknowledged entries of it.
  std::map<uint32_t, Consumer*> ring_;
  struct Holder {
    Consumer* consumer = nullptr;
    uint32_t entries = 0;
  };
  std::unordered_map<uint32_t, Holder> holders_;
  std::unordered_map<uint64_t, uint32_t> hashes_;  // of unacknowledged entries
  std::map<uint64_t, TailEntry> parked_;           // read, but their consumer could not take them

  Meter out_;
  Meter redelivered_;
  Meter acked_;
  Meter expired_;
  int64_t consumed_ms_ = 0;
  int64_t acked_ms_ = 0;
  int64_t expired_ms_ = 0;
  std::map<std::string, std::string> properties_;
  bool seeking_ = false;  // consumers leave because of a seek
  bool blocked_ = false;
  bool reading_ = false;
  bool dispatching_ = false;

  bool storing_ = false;       // one cursor write is in flight
  bool dirty_ = false;         // the cursor changed since it was handed to the store
  std::vector<Done> waiting_;  // for the next cursor write
};

}  // namespace hulse::broker

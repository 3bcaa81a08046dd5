// Members: the workers of a bus, which of them are alive, and which one leads.
//
//   persistent://NAMESPACE/hulse-workers   worker id → {"v":1,"host","port","life","leads","epoch"}
//   persistent://NAMESPACE/hulse-leader    the leader's lease (client/lease.h)
//
// A member writes its record every `beat`. Whose record has not changed for `silence` counts as
// dead; the leader then removes it, so that its next beat fails: it was taken for dead, and stops.
// A member that could not beat for a little less than that stops by itself if it has fellows. The
// leader is whoever holds the lease; without a living one the living member with the lowest id
// takes it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "client/client.h"
#include "client/key_value_topic.h"
#include "client/lease.h"

namespace hulse::runtime {

struct Member {
  std::string id;
  std::string host;  // where its REST answers
  uint16_t port = 0;
  std::string life = {};  // of a process, not of an id
  bool leads = false;
  uint64_t epoch = 0;  // of the lease, while it leads
};

struct MembersOptions {
  std::string name_space = "public/functions";
  Member self;
  aio::Duration beat = std::chrono::seconds(2);
  aio::Duration silence = std::chrono::seconds(6);
};

// Lives on the client's strand. Left or abandoned before it is destroyed; the client outlives it.
class Members : public std::enable_shared_from_this<Members> {
 public:
  // shared_from_this: its coroutines keep it.
  static aio::Task<Result<std::shared_ptr<Members>>> join(client::Client& client,
                                                          MembersOptions options);
  ~Members();

  const std::string& self() const { return options_.self.id; }
  bool alive(const std::string& id) const { return alive_.contains(id); }
  std::set<std::string> alive() const;
  std::vector<Member> members() const;  // the living, this one included
  std::optional<Member> leader() const;
  bool leading() const { return lease_ != nullptr && !lease_->lost(); }
  // Notified when who is alive or who leads has changed, and when this one is out.
  aio::Event& changed() { return changed_; }
  // Why this one is no member any more. Code::busy: another process goes by its id; Code::fenced:
  // it was taken for dead; Code::unavailable: the bus did not answer.
  const std::optional<Error>& out() const { return out_; }

  // Tells the others and ends. One that is out just ends.
  aio::Task<void> leave();

 private:
  struct Heard {
    uint64_t version = 0;
    aio::TimePoint at{};
  };

  Members(client::Client& client, MembersOptions options);
  aio::Task<Result<void>> start();
  aio::Task<void> beat();
  aio::Task<void> look();
  aio::Task<void> lead();
  aio::Task<void> bury(std::string id, uint64_t version);
  void see();
  void end(Error why);
  std::string record() const;

  client::Client& client_;
  MembersOptions options_;
  aio::Gate gate_;
  aio::Event changed_;
  aio::Event beat_now_;
  bool beats_ = true;  // asked for out of turn
  std::shared_ptr<client::KeyValueTopic> topic_;
  uint64_t version_ = 0;        // of this one's record
  aio::TimePoint confirmed_{};  // when the last beat that was stored was sent
  std::map<std::string, Heard> heard_;
  std::map<std::string, Member> alive_;
  std::shared_ptr<client::Lease> lease_;
  bool taking_ = false;
  std::optional<Error> out_;
};

}  // namespace hulse::runtime

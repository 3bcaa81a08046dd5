// Broker: the embedded message broker. Listens for the Pulsar binary protocol, owns the topics.
//
// Everything in this folder lives on one strand (Threads of one loop): sessions and topics call
// each other directly. Disk reads go to the disk executor, writes to the store's own thread.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>

#include "aio/gate.h"
#include "aio/task.h"
#include "aio/tls.h"
#include "auth/authenticator.h"
#include "broker/authorization.h"
#include "broker/namespaces.h"
#include "broker/schemas.h"
#include "broker/topic.h"
#include "wire/topic_name.h"

namespace hulse::broker {

// What CONNECTED and the web interface call this broker.
inline constexpr const char* kServerVersion = "Hulse 0.1.0";

struct Options {
  std::string host = "127.0.0.1";
  uint16_t port = 6650;
  std::string advertised_host;       // what clients are told to connect to; empty: `host`
  std::optional<uint16_t> tls_port;  // none: no TLS
  aio::TlsServerOptions tls;
  auth::Options authentication;
  bool authorization = false;
  std::vector<std::string> super_roles;
  aio::Duration authentication_check = std::chrono::seconds(60);  // of tokens that expire
  bool consistent_hashing = true;                                 // see Shared
  aio::Duration quota_check = std::chrono::seconds(60);
  aio::Duration inactive_check = std::chrono::seconds(60);  // of topics that nobody uses
  bool note_time = false;                                   // see Shared
  bool note_index = false;
  size_t message_bytes_max = wire::kMessageBytesMax;
  // Of one connection: what may be received and not synced, and what may wait to be written to it.
  size_t unsynced_bytes_max = 16 << 20;
  size_t unwritten_bytes_max = 4 << 20;
  // Of all connections together: what may be received and not synced; of all topics together: their
  // newest entries, and as much again of what is read from disk for consumers.
  size_t unsynced_total_bytes_max = 256 << 20;
  size_t cache_bytes_max = 32 << 20;
};

class Session;

class Broker {
 public:
  // The store outlives the broker. `executor` is the strand; `disk` may block.
  Broker(Options options, storage::Store& store, aio::Executor executor, aio::Executor disk);
  ~Broker();

  // On the strand. Loads what the store knows, listens. Fails when it cannot bind.
  aio::Task<Result<void>> start();
  // Disconnects everybody; what was received is still stored.
  aio::Task<void> stop();

  // pulsar://host:port
  std::string service_url() const;
  // pulsar+ssl://host:port; empty without TLS.
  std::string service_url_tls() const;
  // Of the web interface, as clients reach it; empty: there is none. Told by whoever serves it.
  void set_web_urls(std::string http, std::string https) {
    web_url_ = std::move(http);
    web_url_tls_ = std::move(https);
    shared_.broker_id = web_url_.substr(std::min(web_url_.size(), sizeof "http://" - 1));
  }
  const std::string& web_url() const { return web_url_; }
  const std::string& web_url_tls() const { return web_url_tls_; }
  const auth::Authenticator& authenticator() const { return authenticator_; }
  const Authorization& authorization() const { return authorization_; }
  const Options& options() const { return options_; }

  // ---- on the strand

  // The topic, created if it does not exist and `create` says so. Fails with the protocol's error.
  struct Found {
    std::shared_ptr<Topic> topic;
    std::optional<Topic::Refusal> refusal;
  };
  Found topic(const std::string& name, bool create);
  // Why a name cannot be served, if so: its namespace is unknown, or its domain.
  std::optional<Topic::Refusal> refuse(const wire::TopicName& name) const;
  // Number of partitions; 0: not partitioned (or absent).
  int partitions(const wire::TopicName& name) const;
  // Full names, partitions one by one; the system's own are left out.
  std::vector<std::string> topics(const std::string& name_space) const;
  bool known(const std::string& topic) const { return records_.contains(topic); }
  std::optional<Topic::Refusal> create(const std::string& topic);
  // Tells loaded topics of the namespace.
  void policies_changed(const std::string& name_space);
  // Its connections are closed, its memory is given back; the next access loads it again.
  aio::Task<void> unload(std::string topic);
  // With everything in it. Not the partitions of a partitioned topic.
  aio::Task<Result<void>> remove(std::string topic);
  // In the background; false when one runs already.
  bool start_compaction(const std::shared_ptr<Topic>& topic);
  Namespaces& namespaces() { return namespaces_; }
  Schemas& schemas() { return schemas_; }
  std::string next_producer_name();
  Shared& shared() { return shared_; }
  const std::unordered_map<std::string, std::shared_ptr<Topic>>& loaded() const { return topics_; }

 private:
  Result<void> load();
  struct Listener {
    aio::Acceptor acceptor;
    std::optional<aio::TlsServer> tls;
    uint16_t port = 0;
  };
  aio::Task<Result<void>> listen(uint16_t port, std::optional<aio::TlsServer> tls);
  aio::Task<void> accept(Listener& listener);
  aio::Task<void> keep_house();
  aio::Task<void> keep_quotas();
  aio::Task<void> forget_unused();
  aio::Task<void> keep_rates();
  std::shared_ptr<Topic> load_topic(const std::string& name, const wire::TopicName& parsed,
                                    std::optional<Topic::Refusal>& refusal);
  aio::Task<void> settle();
  // False when somebody else is at it.
  aio::Task<bool> let_go(std::string topic);

  const Options options_;
  Shared shared_;
  Namespaces namespaces_;
  Schemas schemas_;
  aio::Gate gate_;
  bool stopping_ = false;
  std::set<std::string> leaving_;  // topics that are being unloaded or removed
  auth::Authenticator authenticator_;
  const Authorization authorization_;
  std::vector<std::unique_ptr<Listener>> listeners_;  // the plain one first
  std::string web_url_;
  std::string web_url_tls_;
  uint64_t boot_ = 0;
  uint64_t producers_named_ = 0;
  std::map<std::string, TopicRecord> records_;  // of every topic, loaded or not
  std::map<storage::TopicId, std::vector<std::pair<std::string, std::string>>> cursors_;
  std::map<storage::TopicId, std::vector<std::pair<std::string, uint64_t>>> sequences_;
  std::unordered_map<std::string, std::shared_ptr<Topic>> topics_;
};

}  // namespace hulse::broker

// Tenants, namespaces and partitioned topics: what the broker is told about topics rather than what
// is in them. Kept in memory, each change written through to the store. Lives on the broker's
// strand.
#pragma once

#include <boost/json/object.hpp>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aio/task.h"
#include "base/result.h"
#include "storage/store.h"
#include "wire/topic_name.h"

namespace hulse::broker {

// What a topic needs to know of its namespace's policies; absent ones have Pulsar's defaults.
struct TopicPolicies {
  bool deduplication = false;
  int64_t ttl_seconds = 0;                // 0: none
  int64_t retention_minutes = 0;          // -1: no limit
  int64_t retention_mb = 0;               // -1: no limit
  int64_t unacked_per_consumer = 50'000;  // 0: no limit
  int64_t unacked_per_subscription = 200'000;
  bool delayed_delivery = true;
  bool auto_create = true;
  int auto_create_partitions = 0;
  bool auto_subscribe = true;
  bool encryption_required = false;
  std::string schema_compatibility = "FULL";
  bool schema_auto_update = true;
  bool schema_validation = false;
  int64_t compaction_threshold = 0;
  // Backlog quota; -1: no limit. What happens to producers of a topic above it:
  int64_t quota_bytes = -1;
  int64_t quota_seconds = -1;
  bool quota_holds = true;  // producers wait (producer_request_hold), else they are told
  // How many may be connected; 0: no limit.
  int64_t producers_max = 0;
  int64_t consumers_max = 0;  // of all subscriptions together, readers included
  int64_t subscription_consumers_max = 0;
  // A topic that nobody is connected to is deleted after so long; 0: never. It has no subscription
  // then or, if `inactive_caught_up`, none with a backlog.
  int64_t inactive_seconds = 0;
  bool inactive_caught_up = false;
};

class Namespaces {
 public:
  // The store outlives it.
  Namespaces(storage::Store& store, aio::Executor executor) : store_(store), executor_(executor) {}

  // Blocking. A new store gets Pulsar's own tenants and namespaces.
  Result<void> load();

  // ---- tenants: {"adminRoles":[…],"allowedClusters":[…]}
  const std::map<std::string, boost::json::object>& tenants() const { return tenants_; }
  aio::Task<Result<void>> put_tenant(std::string name, boost::json::object info);
  aio::Task<Result<void>> remove_tenant(std::string name);

  // ---- namespaces ("tenant/name"): the policies that were set, as REST has them
  bool exists(const std::string& name_space) const { return namespaces_.contains(name_space); }
  std::vector<std::string> of_tenant(const std::string& tenant) const;
  const boost::json::object* policies(const std::string& name_space) const;
  aio::Task<Result<void>> put_namespace(std::string name_space, boost::json::object policies);
  aio::Task<Result<void>> remove_namespace(std::string name_space);
  TopicPolicies topic_policies(const std::string& name_space) const;

  // ---- partitioned topics, by the full name of the unpartitioned topic
  int partitions(const std::string& topic) const;
  const std::map<std::string, int>& partitioned() const { return partitioned_; }
  aio::Task<Result<void>> put_partitions(std::string topic, int count);
  aio::Task<Result<void>> remove_partitions(std::string topic);

  // ---- properties that users gave a topic, by its full name; texts
  boost::json::object properties(const std::string& topic) const;
  // Empty: it has none any more.
  aio::Task<Result<void>> put_properties(std::string topic, boost::json::object properties);

 private:
  aio::Task<Result<void>> write(std::string key, std::optional<std::string> value);

  storage::Store& store_;
  aio::Executor executor_;
  std::map<std::string, boost::json::object> tenants_;
  std::map<std::string, boost::json::object> namespaces_;
  std::map<std::string, int> partitioned_;
  std::map<std::string, boost::json::object> properties_;
};

// Waits on `executor` (the caller's) until the changes are durable.
aio::Task<Result<void>> write_through(storage::Store& store, std::vector<storage::Change> changes);

}  // namespace hulse::broker

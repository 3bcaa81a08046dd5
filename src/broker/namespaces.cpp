#include "broker/namespaces.h"

#include <boost/json.hpp>

#include "aio/event.h"

namespace hulse::broker {
namespace {

namespace json = boost::json;

constexpr std::string_view kTenantPrefix = "tenant/";
constexpr std::string_view kNamespacePrefix = "namespace/";
constexpr std::string_view kPartitionsPrefix = "partitions/";
constexpr std::string_view kPropertiesPrefix = "properties/";

std::string key_of(std::string_view prefix, std::string_view name) {
  return std::string(prefix) + std::string(name);
}

Result<json::object> parse(const std::string& key, const std::string& text) {
  boost::system::error_code error;
  auto value = json::parse(text, error);
  if (error || !value.is_object())
    return Error(Code::corrupt, "the stored record " + key + " is damaged");
  return std::move(value.get_object());
}

int64_t number(const json::object& object, std::string_view key, int64_t fallback) {
  const auto* value = object.if_contains(key);
  if (value == nullptr || !value->is_number()) return fallback;
  boost::system::error_code error;
  const auto out = value->to_number<int64_t>(error);
  return error ? fallback : out;
}

bool flag(const json::object& object, std::string_view key, bool fallback) {
  const auto* value = object.if_contains(key);
  return value != nullptr && value->is_bool() ? value->get_bool() : fallback;
}

const json::object* inner(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  return value != nullptr && value->is_object() ? &value->get_object() : nullptr;
}

}  // namespace

aio::Task<Result<void>> write_through(storage::Store& store, std::vector<storage::Change> changes) {
  const auto executor = co_await aio::asio::this_coro::executor;
  aio::Event answered(executor);
  std::optional<Result<void>> result;
  store.change(std::move(changes), executor, [&](const Result<void>& written) {
    result = written;
    answered.notify();
  });
  // Not to be left early: the store will answer into this frame.
  while (!result) co_await answered.wait_uncancelled();
  co_return *result;
}

Result<void> Namespaces::load() {
  const auto tenants = store_.scan(kTenantPrefix);
  if (!tenants) return tenants.error();
  for (const auto& [key, text] : *tenants) {
    auto object = parse(key, text);
    if (!object) return object.error();
    tenants_[key.substr(kTenantPrefix.size())] = std::move(*object);
  }
  const auto namespaces = store_.scan(kNamespacePrefix);
  if (!namespaces) return namespaces.error();
  for (const auto& [key, text] : *namespaces) {
    auto object = parse(key, text);
    if (!object) return object.error();
    namespaces_[key.substr(kNamespacePrefix.size())] = std::move(*object);
  }
  const auto partitioned = store_.scan(kPartitionsPrefix);
  if (!partitioned) return partitioned.error();
  for (const auto& [key, text] : *partitioned) {
    partitioned_[key.substr(kPartitionsPrefix.size())] = std::atoi(text.c_str());
  }
  const auto properties = store_.scan(kPropertiesPrefix);
  if (!properties) return properties.error();
  for (const auto& [key, text] : *properties) {
    auto object = parse(key, text);
    if (!object) return object.error();
    properties_[key.substr(kPropertiesPrefix.size())] = std::move(*object);
  }
  if (!tenants_.empty()) return {};
  const json::object info{{"adminRoles", json::array()},
                          {"allowedClusters", json::array{"standalone"}}};
  std::vector<storage::Change> changes;
  for (const char* tenant : {"public", "pulsar"}) {
    tenants_[tenant] = info;
    changes.push_back({key_of(kTenantPrefix, tenant), json::serialize(info)});
  }
  for (const char* name_space : {"public/default", "public/functions", "pulsar/system"}) {
    namespaces_[name_space] = {};
    changes.push_back({key_of(kNamespacePrefix, name_space), "{}"});
  }
  // Nobody waits: what is written after it is in the log after it.
  store_.change(std::move(changes), executor_, nullptr);
  return {};
}

aio::Task<Result<void>> Namespaces::write(std::string key, std::optional<std::string> value) {
  std::vector<storage::Change> changes;
  changes.push_back({std::move(key), std::move(value)});
  const auto written = co_await write_through(store_, std::move(changes));
  co_return written;
}

aio::Task<Result<void>> Namespaces::put_tenant(std::string name, json::object info) {
  const auto written = co_await write(key_of(kTenantPrefix, name), json::serialize(info));
  if (written) tenants_[name] = std::move(info);
  co_return written;
}

aio::Task<Result<void>> Namespaces::remove_tenant(std::string name) {
  const auto written = co_await write(key_of(kTenantPrefix, name), std::nullopt);
  if (written) tenants_.erase(name);
  co_return written;
}

std::vector<std::string> Namespaces::of_tenant(const std::string& tenant) const {
  const std::string prefix = tenant + "/";
  std::vector<std::string> out;
  for (auto at = namespaces_.lower_bound(prefix);
       at != namespaces_.end() && at->first.starts_with(prefix); ++at) {
    out.push_back(at->first);
  }
  return out;
}

const json::object* Namespaces::policies(const std::string& name_space) const {
  const auto known = namespaces_.find(name_space);
  return known == namespaces_.end() ? nullptr : &known->second;
}

aio::Task<Result<void>> Namespaces::put_namespace(std::string name_space, json::object policies) {
  const auto written =
      co_await write(key_of(kNamespacePrefix, name_space), json::serialize(policies));
  if (written) namespaces_[name_space] = std::move(policies);
  co_return written;
}

aio::Task<Result<void>> Namespaces::remove_namespace(std::string name_space) {
  const auto written = co_await write(key_of(kNamespacePrefix, name_space), std::nullopt);
  if (written) namespaces_.erase(name_space);
  co_return written;
}

TopicPolicies Namespaces::topic_policies(const std::string& name_space) const {
  TopicPolicies out;
  const auto* set = policies(name_space);
  if (set == nullptr) return out;
  out.deduplication = flag(*set, "deduplicationEnabled", out.deduplication);
  out.ttl_seconds = number(*set, "message_ttl_in_seconds", out.ttl_seconds);
  if (const auto* retention = inner(*set, "retention_policies")) {
    out.retention_minutes = number(*retention, "retentionTimeInMinutes", 0);
    out.retention_mb = number(*retention, "retentionSizeInMB", 0);
  }
  out.unacked_per_consumer =
      number(*set, "max_unacked_messages_per_consumer", out.unacked_per_consumer);
  out.unacked_per_subscription =
      number(*set, "max_unacked_messages_per_subscription", out.unacked_per_subscription);
  if (const auto* delayed = inner(*set, "delayed_delivery_policies")) {
    out.delayed_delivery = flag(*delayed, "active", true);
  }
  if (const auto* create = inner(*set, "autoTopicCreationOverride")) {
    out.auto_create = flag(*create, "allowAutoTopicCreation", true);
    const auto* type = create->if_contains("topicType");
    if (type != nullptr && type->is_string() && type->get_string() == "partitioned") {
      out.auto_create_partitions = static_cast<int>(number(*create, "defaultNumPartitions", 1));
    }
  }
  if (const auto* create = inner(*set, "autoSubscriptionCreationOverride")) {
    out.auto_subscribe = flag(*create, "allowAutoSubscriptionCreation", true);
  }
  out.encryption_required = flag(*set, "encryption_required", false);
  if (const auto* strategy = set->if_contains("schema_compatibility_strategy");
      strategy && strategy->is_string()) {
    if (strategy->get_string() != "UNDEFINED") out.schema_compatibility = strategy->get_string();
  }
  out.schema_auto_update = flag(*set, "is_allow_auto_update_schema", true);
  out.schema_validation = flag(*set, "schema_validation_enforced", false);
  out.compaction_threshold = number(*set, "compaction_threshold", 0);
  out.producers_max = number(*set, "max_producers_per_topic", 0);
  out.consumers_max = number(*set, "max_consumers_per_topic", 0);
  out.subscription_consumers_max = number(*set, "max_consumers_per_subscription", 0);
  if (const auto* inactive = inner(*set, "inactive_topic_policies");
      inactive != nullptr && flag(*inactive, "deleteWhileInactive", false)) {
    out.inactive_seconds = number(*inactive, "maxInactiveDurationSeconds", 0);
    const auto* mode = inactive->if_contains("inactiveTopicDeleteMode");
    out.inactive_caught_up = mode != nullptr && *mode == "delete_when_subscriptions_caught_up";
  }
  if (const auto* quotas = inner(*set, "backlog_quota_map")) {
    const auto holds = [](const json::object& quota) {
      const auto* policy = quota.if_contains("policy");
      return policy == nullptr || !policy->is_string() ||
             policy->get_string() != "producer_exception";
    };
    if (const auto* quota = inner(*quotas, "destination_storage")) {
      // "limit" is the name it had before 2.8.
      out.quota_bytes = number(*quota, "limitSize", number(*quota, "limit", -1));
      out.quota_holds = holds(*quota);
    }
    if (const auto* quota = inner(*quotas, "message_age")) {
      out.quota_seconds = number(*quota, "limitTime", -1);
      out.quota_holds = holds(*quota);
    }
  }
  return out;
}

int Namespaces::partitions(const std::string& topic) const {
  const auto known = partitioned_.find(topic);
  return known == partitioned_.end() ? 0 : known->second;
}

aio::Task<Result<void>> Namespaces::put_partitions(std::string topic, int count) {
  const auto written = co_await write(key_of(kPartitionsPrefix, topic), std::to_string(count));
  if (written) partitioned_[topic] = count;
  co_return written;
}

aio::Task<Result<void>> Namespaces::remove_partitions(std::string topic) {
  const auto written = co_await write(key_of(kPartitionsPrefix, topic), std::nullopt);
  if (written) partitioned_.erase(topic);
  co_return written;
}

json::object Namespaces::properties(const std::string& topic) const {
  const auto known = properties_.find(topic);
  return known == properties_.end() ? json::object() : known->second;
}

aio::Task<Result<void>> Namespaces::put_properties(std::string topic, json::object properties) {
  if (properties.empty() && !properties_.contains(topic)) co_return Result<void>();
  std::optional<std::string> text;
  if (!properties.empty()) text = json::serialize(properties);
  const auto written = co_await write(key_of(kPropertiesPrefix, topic), std::move(text));
  if (!written) co_return written;
  if (properties.empty()) {
    properties_.erase(topic);
  } else {
    properties_[topic] = std::move(properties);
  }
  co_return written;
}

}  // namespace hulse::broker

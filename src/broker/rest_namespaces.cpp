// REST of tenants and namespaces: /admin/v2/tenants, /admin/v2/namespaces.
#include <charconv>

#include "broker/rest_common.h"

namespace hulse::broker {
namespace {

using Maybe = std::optional<aio::HttpResponse>;

// A policy that is one value of the namespace's object.
struct Policy {
  std::string_view path;
  std::string_view key;
  json::kind kind;
  std::string_view other_path = {};
};

constexpr Policy kPolicies[] = {
    {"retention", "retention_policies", json::kind::object},
    {"messageTTL", "message_ttl_in_seconds", json::kind::int64},
    {"deduplication", "deduplicationEnabled", json::kind::bool_},
    {"schemaCompatibilityStrategy", "schema_compatibility_strategy", json::kind::string},
    {"schemaValidationEnforced", "schema_validation_enforced", json::kind::bool_},
    {"isAllowAutoUpdateSchema", "is_allow_auto_update_schema", json::kind::bool_},
    {"autoTopicCreation", "autoTopicCreationOverride", json::kind::object},
    {"autoSubscriptionCreation", "autoSubscriptionCreationOverride", json::kind::object},
    {"persistence", "persistence", json::kind::object},
    {"compactionThreshold", "compaction_threshold", json::kind::int64},
    {"maxUnackedMessagesPerConsumer", "max_unacked_messages_per_consumer", json::kind::int64},
    {"maxUnackedMessagesPerSubscription", "max_unacked_messages_per_subscription",
     json::kind::int64},
    {"delayedDelivery", "delayed_delivery_policies", json::kind::object},
    {"inactiveTopicPolicies", "inactive_topic_policies", json::kind::object},
    {"encryptionRequired", "encryption_required", json::kind::bool_},
    {"maxProducersPerTopic", "max_producers_per_topic", json::kind::int64},
    {"maxConsumersPerTopic", "max_consumers_per_topic", json::kind::int64},
    {"maxConsumersPerSubscription", "max_consumers_per_subscription", json::kind::int64},
    {"deduplicationSnapshotInterval", "deduplicationSnapshotIntervalSeconds", json::kind::int64},
};

bool fits(json::kind wanted, const json::value& value) {
  if (wanted == json::kind::int64) return value.is_int64() || value.is_uint64();
  return value.kind() == wanted;
}

template <size_t N>
bool is_one_of(const json::value* value, const std::string_view (&words)[N]) {
  return value != nullptr && value->is_string() &&
         std::find(std::begin(words), std::end(words), std::string_view(value->get_string())) !=
             std::end(words);
}

// Fields of a policy that is an object; those it must have are numbers.
std::string object_trouble(const json::object& given,
                           std::initializer_list<std::string_view> numbers,
                           std::initializer_list<std::string_view> others) {
  for (const auto key : numbers) {
    const auto* value = given.if_contains(key);
    if (value == nullptr || !value->is_int64()) return fmt::format("{}: a number is expected", key);
  }
  for (const auto& [key, value] : given) {
    const std::string_view name = key;
    const auto known = [&](const auto& list) {
      return std::find(list.begin(), list.end(), name) != list.end();
    };
    if (!known(numbers) && !known(others)) return fmt::format("{}: an unknown field", name);
  }
  return {};
}

// Why a value of the right kind cannot be kept as it is; empty if it can.
std::string policy_trouble(std::string_view path, const json::value& value) {
  constexpr std::string_view kStrategies[] = {
      "UNDEFINED", "ALWAYS_INCOMPATIBLE", "ALWAYS_COMPATIBLE",  "BACKWARD",       "FORWARD",
      "FULL",      "BACKWARD_TRANSITIVE", "FORWARD_TRANSITIVE", "FULL_TRANSITIVE"};
  constexpr std::string_view kDeleteModes[] = {"delete_when_no_subscriptions",
                                               "delete_when_subscriptions_caught_up"};
  if (value.is_int64() && value.get_int64() < 0)
    return fmt::format("{}: a number from 0 on is expected", path);
  if (path == "schemaCompatibilityStrategy" && !is_one_of(&value, kStrategies))
    return fmt::format("{}: one of {}", path, fmt::join(kStrategies, ", "));
  if (path == "encryptionRequired" && value == true)
    return "encryptionRequired: this broker does not look whether messages are encrypted";
  if (!value.is_object()) return {};
  const auto& object = value.get_object();
  if (path == "retention")
    return object_trouble(object, {"retentionTimeInMinutes", "retentionSizeInMB"}, {});
  if (path == "inactiveTopicPolicies") {
    if (!is_one_of(object.if_contains("inactiveTopicDeleteMode"), kDeleteModes))
      return fmt::format("inactiveTopicDeleteMode: one of {}", fmt::join(kDeleteModes, ", "));
    const auto* seconds = object.if_contains("maxInactiveDurationSeconds");
    if (seconds == nullptr || !seconds->is_int64() || seconds->get_int64() < 1)
      return "maxInactiveDurationSeconds: a number from 1 on is expected";
  }
  if (path == "autoTopicCreation") {
    const auto* type = object.if_contains("topicType");
    if (type != nullptr && !type->is_null() && *type != "non-partitioned") {
      return "topicType: by itself this broker makes topics without partitions only";
    }
  }
  return {};
}

bool is_name(std::string_view name) {
  return wire::TopicName::parse(std::string(name) + "/n/x").has_value();
}

// A namespace's policies as Pulsar shows them: what was set, and the defaults of what always shows.
json::object shown(const json::object& set) {
  json::object out{
      {"auth_policies",
       {{"namespace_auth", json::object()},
        {"destination_auth", json::object()},
        {"subscription_auth_roles", json::object()}}},
      {"replication_clusters", json::array{"standalone"}},
      {"bundles",
       {{"boundaries", {"0x00000000", "0x40000000", "0x80000000", "0xc0000000", "0xffffffff"}},
        {"numBundles", 4}}},
      {"backlog_quota_map", json::object()},
      {"clusterDispatchRate", json::object()},
      {"topicDispatchRate", json::object()},
      {"subscriptionDispatchRate", json::object()},
      {"replicatorDispatchRate", json::object()},
      {"clusterSubscribeRate", json::object()},
      {"publishMaxMessageRate", json::object()},
      {"latency_stats_sample_rate", json::object()},
      {"deleted", false},
      {"encryption_required", false},
      {"subscription_auth_mode", "None"},
      {"offload_threshold", -1},
      {"offload_threshold_in_seconds", -1},
      {"schema_compatibility_strategy", "UNDEFINED"},
      {"is_allow_auto_update_schema", true},
      {"schema_validation_enforced", false},
      {"subscription_types_enabled", json::array()},
      {"properties", json::object()},
      {"migrated", false}};
  for (const auto& [key, value] : set) out[key] = value;
  return out;
}

aio::Task<Maybe> tenants(Call& call) {
  auto& namespaces = call.broker.namespaces();
  if (call.is(2, {"tenants"}) && call.get()) {
    json::array names;
    for (const auto& [name, info] : namespaces.tenants()) names.emplace_back(name);
    co_return answer(names);
  }
  if (call.parts.size() != 4 || call.parts[2] != "tenants") co_return std::nullopt;
  const std::string name = call.parts[3];
  const auto known = namespaces.tenants().find(name);
  const bool exists = known != namespaces.tenants().end();
  if (call.get()) co_return exists ? answer(known->second) : refuse(404, "Tenant does not exist");
  if (call.put() || call.post()) {
    if (call.put() && exists) co_return refuse(409, "Tenant already exist");
    if (call.post() && !exists) co_return refuse(404, "Tenant does not exist");
    if (!is_name(name)) co_return refuse(412, "Tenant name is not valid");
    const auto body = call.body();
    if (!body) co_return refuse(400, body.error().text());
    json::object info{{"adminRoles", json::array()},
                      {"allowedClusters", json::array{"standalone"}}};
    if (body->is_object()) {
      for (const auto& [key, value] : body->get_object()) {
        if (value.is_array()) info[key] = value;
        if (key == "allowedClusters" && value != json::value(json::array{"standalone"}) &&
            value != json::value(json::array())) {
          co_return refuse(412, "Clusters do not exist: there is one, [\"standalone\"]");
        }
      }
    }
    const auto written = co_await namespaces.put_tenant(name, std::move(info));
    co_return done(written);
  }
  if (call.del()) {
    if (!exists) co_return refuse(404, "Tenant does not exist");
    if (!namespaces.of_tenant(name).empty())
      co_return refuse(409, "The tenant still has active namespaces");
    const auto written = co_await namespaces.remove_tenant(name);
    co_return done(written);
  }
  co_return refuse(405, call.request.method + " is not possible here");
}

aio::Task<Maybe> remove_namespace(Call& call, const std::string& name) {
  const auto topics = call.broker.topics(name);
  if (!topics.empty() && !call.flag("force")) {
    co_return refuse(409, "Cannot delete non empty namespace");
  }
  for (const auto& topic : topics) {
    const auto parsed = wire::TopicName::parse(topic);
    const std::string base = parsed->base().text();
    if (call.broker.namespaces().partitions(base) > 0) {
      const auto forgotten = co_await call.broker.namespaces().remove_partitions(base);
      if (!forgotten) co_return done(forgotten);
    }
    if (!call.broker.known(topic)) continue;
    const auto removed = co_await call.broker.remove(topic);
    if (!removed) co_return done(removed);
  }
  const auto written = co_await call.broker.namespaces().remove_namespace(name);
  co_return done(written);
}

aio::Task<Maybe> permissions(Call& call, const std::string& name, json::object policies) {
  auto& auth = policies["auth_policies"];
  if (!auth.is_object()) auth = json::object();
  auto& roles = auth.get_object()["namespace_auth"];
  if (!roles.is_object()) roles = json::object();
  if (call.parts.size() == 6) {
    if (call.get()) co_return answer(roles);
    co_return refuse(405, call.request.method + " is not possible here");
  }
  const std::string role = call.parts[6];
  if (call.post()) {
    const auto body = call.body();
    if (!body) co_return refuse(400, body.error().text());
    if (!body->is_array()) co_return refuse(400, "a list of actions is expected");
    constexpr std::string_view kActions[] = {"produce", "consume", "functions",
                                             "sources", "sinks",   "packages"};
    for (const auto& action : body->get_array()) {
      if (!is_one_of(&action, kActions)) {
        co_return refuse(412, fmt::format("{} is no action; there are {}", json::serialize(action),
                                          fmt::join(kActions, ", ")));
      }
    }
    roles.get_object()[role] = *body;
  } else if (call.del()) {
    roles.get_object().erase(role);
  } else {
    co_return refuse(405, call.request.method + " is not possible here");
  }
  const auto written = co_await call.broker.namespaces().put_namespace(name, std::move(policies));
  co_return done(written);
}

// {"limitSize": bytes, "limitTime": seconds, "policy": …} of ?backlogQuotaType=, by default of the
// backlog's size.
aio::Task<Maybe> backlog_quota(Call& call, const std::string& name, json::object policies) {
  const auto asked = call.query.find("backlogQuotaType");
  const std::string type = asked == call.query.end() ? "destination_storage" : asked->second;
  if (type != "destination_storage" && type != "message_age")
    co_return refuse(412, "backlogQuotaType is destination_storage or message_age");
  auto& map = policies["backlog_quota_map"];
  if (!map.is_object()) map = json::object();
  if (call.del()) {
    map.get_object().erase(type);
  } else {
    auto body = call.body();
    if (!body) co_return refuse(400, body.error().text());
    const auto* policy = body->is_object() ? body->get_object().if_contains("policy") : nullptr;
    const std::string word =
        policy != nullptr && policy->is_string() ? std::string(policy->get_string()) : "";
    if (word == "consumer_backlog_eviction") {
      co_return refuse(412,
                       "this broker does not throw backlogs away; producer_request_hold and "
                       "producer_exception are possible, and messageTTL");
    }
    if (word != "producer_request_hold" && word != "producer_exception")
      co_return refuse(412, "policy is producer_request_hold or producer_exception");
    for (const char* key : {"limit", "limitSize", "limitTime"}) {
      auto* value = body->get_object().if_contains(key);
      // Some clients send numbers as texts.
      if (value != nullptr && value->is_string()) {
        int64_t number = 0;
        const auto& text = value->get_string();
        const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
        if (parsed.ec == std::errc() && parsed.ptr == text.data() + text.size()) *value = number;
      }
      if (value != nullptr && !value->is_number())
        co_return refuse(412, fmt::format("{} is a number", key));
    }
    map.get_object()[type] = std::move(*body);
  }
  const auto written = co_await call.broker.namespaces().put_namespace(name, std::move(policies));
  if (written) call.broker.policies_changed(name);
  co_return done(written);
}

aio::Task<Maybe> policy(Call& call, const std::string& name, json::object policies) {
  auto& namespaces = call.broker.namespaces();
  const auto known = std::find_if(std::begin(kPolicies), std::end(kPolicies),
                                  [&](const Policy& row) { return row.path == call.parts[5]; });
  if (known == std::end(kPolicies)) co_return std::nullopt;
  if (call.get()) {
    const auto* value = policies.if_contains(known->key);
    co_return value == nullptr ? no_content() : answer(*value);
  }
  if (call.del()) {
    policies.erase(known->key);
  } else {
    const auto body = call.body();
    if (!body) co_return refuse(400, body.error().text());
    if (!fits(known->kind, *body)) {
      co_return refuse(
          400, fmt::format("{}: a {} is expected", known->path, json::to_string(known->kind)));
    }
    if (const auto trouble = policy_trouble(known->path, *body); !trouble.empty())
      co_return refuse(412, trouble);
    policies[known->key] = *body;
  }
  const auto written = co_await namespaces.put_namespace(name, std::move(policies));
  if (written) call.broker.policies_changed(name);
  co_return done(written);
}

aio::Task<Maybe> one_namespace(Call& call) {
  auto& namespaces = call.broker.namespaces();
  const std::string name = call.parts[3] + "/" + call.parts[4];
  const auto* set = namespaces.policies(name);
  if (call.parts.size() == 5 && call.put()) {
    if (!namespaces.tenants().contains(call.parts[3]))
      co_return refuse(404, "Tenant does not exist");
    if (set != nullptr) co_return refuse(409, "Namespace already exists");
    if (!wire::TopicName::parse(name + "/x")) co_return refuse(412, "Namespace name is not valid");
    const auto body = call.body();
    if (!body) co_return refuse(400, body.error().text());
    json::object policies;
    if (body->is_object()) policies = body->get_object();
    for (const auto& row : kPolicies) {
      const auto* value = policies.if_contains(row.key);
      if (value == nullptr || value->is_null()) continue;
      if (!fits(row.kind, *value)) {
        co_return refuse(400,
                         fmt::format("{}: a {} is expected", row.key, json::to_string(row.kind)));
      }
      if (const auto trouble = policy_trouble(row.path, *value); !trouble.empty())
        co_return refuse(412, trouble);
    }
    const auto written = co_await namespaces.put_namespace(name, std::move(policies));
    co_return done(written);
  }
  if (set == nullptr) co_return refuse(404, "Namespace does not exist");
  if (call.parts.size() == 5) {
    if (call.get()) co_return answer(shown(*set));
    if (call.del()) {
      const auto removed = co_await remove_namespace(call, name);
      co_return removed;
    }
    co_return refuse(405, call.request.method + " is not possible here");
  }
  const std::string& what = call.parts[5];
  if (what == "topics" && call.get()) {
    json::array list;
    for (auto& topic : call.broker.topics(name)) list.emplace_back(std::move(topic));
    co_return answer(list);
  }
  if (what == "bundles" && call.get()) co_return answer(shown(*set).at("bundles"));
  if (what == "backlogQuota" && call.parts.size() == 6 && (call.post() || call.del())) {
    const auto changed = co_await backlog_quota(call, name, *set);
    co_return changed;
  }
  if (what == "backlogQuotaMap" && call.get())
    co_return answer(shown(*set).at("backlog_quota_map"));
  if (what == "replication" && call.get()) co_return answer(json::array{"standalone"});
  if (what == "replication" && call.post()) {
    const auto body = call.body();
    if (body && *body == json::value(json::array{"standalone"})) co_return no_content();
    co_return refuse(412, "there is one cluster here: [\"standalone\"]");
  }
  if (what == "permissions" && call.parts.size() <= 7) {
    const auto changed = co_await permissions(call, name, *set);
    co_return changed;
  }
  if (what == "unload" || (call.parts.size() == 7 && call.parts[6] == "unload")) {
    // One bundle is as good as all of them: topics come back with the next access.
    std::vector<std::string> loaded;
    for (const auto& [topic, state] : call.broker.loaded()) {
      if (state->name().namespace_text() == name) loaded.push_back(topic);
    }
    for (const auto& topic : loaded) co_await call.broker.unload(topic);
    co_return no_content();
  }
  if (call.parts.size() != 6) co_return std::nullopt;
  const auto changed = co_await policy(call, name, *set);
  co_return changed;
}

}  // namespace

aio::Task<std::optional<aio::HttpResponse>> handle_namespaces(Call& call) {
  if (!call.is(0, {"admin", "v2", "*"}) && call.parts.size() < 3) co_return std::nullopt;
  if (call.parts[0] != "admin" || call.parts[1] != "v2") co_return std::nullopt;
  if (call.parts[2] == "tenants") {
    const auto answered = co_await tenants(call);
    co_return answered;
  }
  if (call.parts[2] != "namespaces" || call.parts.size() < 4) co_return std::nullopt;
  if (call.parts.size() == 4 && call.get()) {
    auto& namespaces = call.broker.namespaces();
    if (!namespaces.tenants().contains(call.parts[3]))
      co_return refuse(404, "Tenant does not exist");
    json::array names;
    for (auto& name : namespaces.of_tenant(call.parts[3])) names.emplace_back(std::move(name));
    co_return answer(names);
  }
  if (call.parts.size() < 5) co_return std::nullopt;
  const auto answered = co_await one_namespace(call);
  co_return answered;
}

}  // namespace hulse::broker

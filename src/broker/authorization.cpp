#include "broker/authorization.h"

#include <boost/json.hpp>

namespace hulse::broker {
namespace {

namespace json = boost::json;

const json::object* inner(const json::object* object, std::string_view key) {
  if (object == nullptr) return nullptr;
  const auto* value = object->if_contains(key);
  return value != nullptr && value->is_object() ? &value->get_object() : nullptr;
}

bool lists(const json::object* object, std::string_view key, std::string_view word) {
  const auto* value = object == nullptr ? nullptr : object->if_contains(key);
  if (value == nullptr || !value->is_array()) return false;
  const auto& list = value->get_array();
  return std::any_of(list.begin(), list.end(), [&](const json::value& one) {
    return one.is_string() && one.get_string() == word;
  });
}

const json::object* policies_of(const Namespaces& namespaces, const std::string& name_space) {
  return inner(namespaces.policies(name_space), "auth_policies");
}

}  // namespace

bool Authorization::is_super(const std::string& role) const {
  return !enabled_ || super_roles_.contains(role);
}

bool Authorization::administers(const std::string& tenant, const std::string& role) const {
  if (is_super(role)) return true;
  const auto known = namespaces_.tenants().find(tenant);
  return known != namespaces_.tenants().end() && lists(&known->second, "adminRoles", role);
}

bool Authorization::sees(const std::string& name_space, const std::string& role) const {
  if (administers(name_space.substr(0, name_space.find('/')), role)) return true;
  const auto* grants = inner(policies_of(namespaces_, name_space), "namespace_auth");
  return lists(grants, role, "produce") || lists(grants, role, "consume");
}

bool Authorization::manages(std::string_view kind, const std::string& name_space,
                            const std::string& role) const {
  if (administers(name_space.substr(0, name_space.find('/')), role)) return true;
  return lists(inner(policies_of(namespaces_, name_space), "namespace_auth"), role, kind);
}

bool Authorization::granted(Action action, const wire::TopicName& topic,
                            const std::string& role) const {
  const std::string word = action == Action::produce ? "produce" : "consume";
  const auto* policies = policies_of(namespaces_, topic.namespace_text());
  if (lists(inner(policies, "namespace_auth"), role, word)) return true;
  const auto* topics = inner(policies, "destination_auth");
  return lists(inner(topics, topic.text()), role, word) ||
         lists(inner(topics, topic.base().text()), role, word);
}

bool Authorization::may_use(const std::string& subscription, const std::string& name_space,
                            const std::string& role) const {
  const auto* roles = inner(policies_of(namespaces_, name_space), "subscription_auth_roles");
  if (roles != nullptr && roles->contains(subscription)) return lists(roles, subscription, role);
  const auto* policies = namespaces_.policies(name_space);
  const auto* mode =
      policies == nullptr ? nullptr : policies->if_contains("subscription_auth_mode");
  if (mode != nullptr && mode->is_string() && mode->get_string() == "Prefix")
    return subscription.starts_with(role);
  return true;
}

bool Authorization::may(Action action, const wire::TopicName& topic, const std::string& role,
                        const std::string& subscription) const {
  if (administers(topic.tenant, role)) return true;
  if (action == Action::lookup)
    return granted(Action::produce, topic, role) || granted(Action::consume, topic, role);
  if (!granted(action, topic, role)) return false;
  return subscription.empty() || may_use(subscription, topic.namespace_text(), role);
}

std::string refusal_text(Action action, const wire::TopicName& topic, const std::string& role) {
  const char* word = action == Action::produce   ? "produce to"
                     : action == Action::consume ? "consume from"
                                                 : "look up";
  return fmt::format(
      "the role \"{}\" may not {} {}; an administrator can allow it: pulsar-admin namespaces "
      "grant-permission {} --role {} --actions {}",
      role, word, topic.text(), topic.namespace_text(), role,
      action == Action::produce ? "produce" : "consume");
}

}  // namespace hulse::broker

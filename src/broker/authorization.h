// Authorization: what a role may do, by the rules Pulsar has. Super users may do everything, a
// tenant's admins everything in it; others what a namespace, a topic or a subscription grants them.
// Used by sessions and REST. Lives on the broker's strand.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "broker/namespaces.h"
#include "wire/topic_name.h"

namespace hulse::broker {

enum class Action { lookup, produce, consume };

class Authorization {
 public:
  // Not enabled: everybody may do everything. `namespaces` outlives it.
  Authorization(bool enabled, const std::vector<std::string>& super_roles,
                const Namespaces& namespaces)
      : enabled_(enabled),
        super_roles_(super_roles.begin(), super_roles.end()),
        namespaces_(namespaces) {}

  bool is_super(const std::string& role) const;
  // Whether the role manages the tenant: its namespaces, topics and policies.
  bool administers(const std::string& tenant, const std::string& role) const;
  // Whether the role manages what runs in the namespace: `kind` is "functions", "sources" or
  // "sinks".
  bool manages(std::string_view kind, const std::string& name_space, const std::string& role) const;
  // Whether the role has anything to do with the namespace: then it may list its topics.
  bool sees(const std::string& name_space, const std::string& role) const;
  // Consuming asks for the subscription too: it may be reserved for some roles.
  bool may(Action action, const wire::TopicName& topic, const std::string& role,
           const std::string& subscription = {}) const;

 private:
  bool granted(Action action, const wire::TopicName& topic, const std::string& role) const;
  bool may_use(const std::string& subscription, const std::string& name_space,
               const std::string& role) const;

  const bool enabled_;
  const std::set<std::string> super_roles_;
  const Namespaces& namespaces_;
};

// For the user: what was not allowed and how it is granted.
std::string refusal_text(Action action, const wire::TopicName& topic, const std::string& role);

}  // namespace hulse::broker

// Who may call what of the broker's REST. One table: whatever is not in it needs a super user.
#include "broker/rest_common.h"

namespace hulse::broker {
namespace {

// What a call needs.
enum class Need {
  nothing,  // probes and metrics, which tools read without credentials
  known,    // any role
  sees,     // some permission in the namespace
  lookup,
  produce,
  consume,
  manage,  // of functions, sources or sinks in the namespace
  admin,   // of the tenant
  super,
};

Need need_of_topic(const Call& call, size_t at) {
  if (call.parts.size() == at) return call.get() ? Need::sees : Need::admin;
  const std::string& what = call.parts[at];
  if (what == "partitions") return call.get() ? Need::lookup : Need::admin;
  if (what == "stats" || what == "partitioned-stats" || what == "internalStats" ||
      what == "partitioned-internalStats" || what == "internal-info") {
    return call.get() ? Need::lookup : Need::admin;
  }
  if (what == "subscription" || what == "subscriptions" || what == "lastMessageId" ||
      what == "all_subscription" || what == "examinemessage" || what == "backlogSize" ||
      what == "messageid" || what == "ledger") {
    return Need::consume;
  }
  return Need::admin;
}

// The action that allows managing what a path of /admin/v3 is about; empty if none does.
std::string_view component_action(std::string_view word) {
  if (word == "functions" || word == "function") return "functions";
  if (word == "sources" || word == "source") return "sources";
  if (word == "sinks" || word == "sink") return "sinks";
  return {};
}

// What is built in anybody may see. A tenant may be called like one of these words, so the whole
// path counts.
bool is_built_in(const Call& call) {
  for (const char* list : {"builtinsources", "builtinsinks", "builtins", "connectors"}) {
    if (call.is(3, {list}) || call.is(3, {list, "*", "configdefinition"})) return true;
  }
  return false;
}

Need need_of_component(const Call& call) {
  const auto& parts = call.parts;
  if (parts.size() < 3 || component_action(parts[2]).empty()) return Need::super;
  if (call.get() && is_built_in(call)) return Need::known;
  // What was uploaded is no tenant's: super.
  return parts.size() >= 5 ? Need::manage : Need::super;
}

// Who works where, and what runs there of all tenants, is the operator's to know.
Need need_of_worker(const Call& call) {
  const bool open =
      call.get() && (call.is(3, {"connectors"}) || call.is(3, {"cluster", "leader", "ready"}));
  return open ? Need::known : Need::super;
}

Need need_of(const Call& call) {
  const auto& parts = call.parts;
  const auto part = [&](size_t at) { return at < parts.size() ? parts[at] : std::string(); };
  if (part(0) == "ready" || part(0) == "metrics") return Need::nothing;
  if (part(0) == "lookup") return Need::lookup;
  if (part(0) == "admin" && part(1) == "v3") return need_of_component(call);
  if (part(0) != "admin" || part(1) != "v2") return Need::super;
  const std::string resource = part(2);
  if (resource == "brokers" && call.get()) {
    const std::string what = part(3);
    if (what == "health" || what == "ready") return Need::nothing;
    if (what == "version") return Need::known;
    return Need::super;
  }
  if (resource == "clusters" && call.get()) return Need::known;
  if (resource == "worker") return need_of_worker(call);
  if (resource == "namespaces" && parts.size() >= 4) {
    return call.get() && part(5) == "topics" ? Need::sees : Need::admin;
  }
  if (resource == "persistent" || resource == "non-persistent") {
    if (parts.size() == 5 || (parts.size() == 6 && part(5) == "partitioned"))
      return call.get() ? Need::sees : Need::admin;
    if (parts.size() >= 6) return need_of_topic(call, 6);
  }
  if (resource == "schemas" && parts.size() >= 6) {
    return call.get() ? Need::lookup : call.post() ? Need::produce : Need::admin;
  }
  return Need::super;
}

}  // namespace

std::optional<aio::HttpResponse> forbid(const Call& call) {
  const Need need = need_of(call);
  if (need == Need::nothing) return std::nullopt;
  if (!call.identity) {
    auto refused = refuse(401, call.identity.error().text());
    refused.headers.emplace_back("WWW-Authenticate", "Bearer");
    return refused;
  }
  const auto& authorization = call.broker.authorization();
  const std::string& role = call.identity->role;
  const size_t at = call.parts.size() > 1 && call.parts[0] == "lookup" ? 4 : 3;
  const auto part = [&](size_t index) {
    return index < call.parts.size() ? call.parts[index] : std::string();
  };
  const auto may = [&](Action action) -> std::optional<aio::HttpResponse> {
    const auto name = wire::TopicName::parse(
        fmt::format("{}://{}/{}/{}", part(at - 1) == "non-persistent" ? part(at - 1) : "persistent",
                    part(at), part(at + 1), part(at + 2)));
    // A name that cannot be is refused by whoever looks for the topic.
    if (!name ||
        authorization.may(action, *name, role, part(6) == "subscription" ? part(7) : std::string()))
      return std::nullopt;
    return refuse(403, refusal_text(action, *name, role));
  };
  switch (need) {
    case Need::nothing:
    case Need::known: return std::nullopt;
    case Need::sees:
      if (authorization.sees(part(3) + "/" + part(4), role)) return std::nullopt;
      return refuse(
          403, fmt::format("the role \"{}\" has no permission in {}/{}", role, part(3), part(4)));
    case Need::lookup: return may(Action::lookup);
    case Need::produce: return may(Action::produce);
    case Need::consume: return may(Action::consume);
    case Need::manage: {
      const auto action = component_action(part(2));
      if (authorization.manages(action, part(3) + "/" + part(4), role)) return std::nullopt;
      return refuse(403, fmt::format("the role \"{0}\" may not manage the {1} of {2}/{3}; an "
                                     "administrator can allow it: pulsar-admin namespaces "
                                     "grant-permission {2}/{3} --role {0} --actions {1}",
                                     role, action, part(3), part(4)));
    }
    case Need::admin:
      if (authorization.administers(part(3), role)) return std::nullopt;
      return refuse(
          403, fmt::format("the role \"{}\" is no administrator of the tenant {}", role, part(3)));
    case Need::super:
      if (authorization.is_super(role)) return std::nullopt;
      return refuse(403, fmt::format("the role \"{}\" is no super user of this broker", role));
  }
  return refuse(403, "not allowed");
}

}  // namespace hulse::broker

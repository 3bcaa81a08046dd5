#include "runtime/sealing.h"

#include <boost/json.hpp>

#include "runtime/component.h"
#include "runtime/component_edit.h"

namespace hulse::runtime {
namespace {

namespace json = boost::json;

constexpr const char* kParts[] = {"configs", "userConfig", "secrets"};

}  // namespace

Result<ComponentRecord> sealed(ComponentRecord record, const std::string& name,
                               const SecretBox* box) {
  // What could not be opened stays what it is: its secrets are not here to be encrypted anew.
  if (!record.sealed.empty()) return record;
  std::vector<std::string> notes;
  const auto component = parse_component(record.kind, record.config, notes);
  auto shown = without_secrets(component ? component->fields() : std::span<const config::Field>(),
                               record.config);
  if (shown == record.config) return record;
  if (box == nullptr) {
    return Error(Code::invalid,
                 "this worker stores no secrets (it has no secretsKeyFile): give references, "
                 "env:NAME or file:/path");
  }
  json::object secret;
  for (const char* part : kParts) {
    if (const auto* value = record.config.if_contains(part)) secret[part] = *value;
  }
  auto text = box->seal(json::serialize(secret), name);
  if (!text) return text.error();
  record.sealed = std::move(*text);
  record.config = std::move(shown);
  return record;
}

Result<ComponentRecord> unsealed(ComponentRecord record, const std::string& name,
                                 const SecretBox* box) {
  if (record.sealed.empty()) return record;
  if (box == nullptr) {
    return Error(Code::permission,
                 "its secrets are stored encrypted and this worker has no key (secretsKeyFile)");
  }
  const auto text = box->unseal(record.sealed, name);
  if (!text) return text.error();
  boost::system::error_code error;
  const auto secret = json::parse(*text, error);
  if (error || !secret.is_object()) return Error(Code::corrupt, "the stored secrets are damaged");
  for (const auto& [part, value] : secret.get_object()) record.config[part] = value;
  record.sealed.clear();
  return record;
}

}  // namespace hulse::runtime

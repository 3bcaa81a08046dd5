#include "wire/topic_name.h"

#include <algorithm>
#include <charconv>

#include "base/crc32c.h"
#include "base/text.h"

namespace hulse::wire {
namespace {

constexpr std::string_view kSuffix = "-partition-";

int partition_index(std::string_view local) {
  const size_t at = local.rfind(kSuffix);
  if (at == std::string_view::npos) return -1;
  const auto digits = local.substr(at + kSuffix.size());
  int index = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  const bool whole = error == std::errc() && end == digits.data() + digits.size();
  if (!whole || index < 0 || std::to_string(index) != digits) return -1;
  return index;
}

// Pulsar's NamedEntity: what tenants and namespaces may be called.
bool is_entity_name(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '=' || c == ':' ||
           c == '.' || c == '_';
  });
}

}  // namespace

Result<TopicName> TopicName::parse(std::string_view text) {
  const auto refuse = [&](std::string_view why) {
    return Error(Code::invalid, fmt::format("topic name \"{}\": {}", text, why));
  };
  TopicName name;
  std::string_view path = text;
  const size_t scheme = text.find("://");
  if (scheme != std::string_view::npos) {
    name.domain = text.substr(0, scheme);
    path = text.substr(scheme + 3);
    if (name.domain != "persistent" && name.domain != "non-persistent") {
      return refuse("it begins with persistent:// or non-persistent://");
    }
  }
  const auto parts = split(path, '/');
  if (parts.size() == 1 && scheme == std::string_view::npos) {
    name.tenant = "public";
    name.name_space = "default";
    name.local = parts[0];
  } else if (parts.size() == 3) {
    name.tenant = parts[0];
    name.name_space = parts[1];
    name.local = parts[2];
  } else if (parts.size() > 3 && scheme != std::string_view::npos) {
    // The local name may hold slashes after a full prefix, as in Pulsar.
    name.tenant = parts[0];
    name.name_space = parts[1];
    name.local = path.substr(parts[0].size() + parts[1].size() + 2);
  } else {
    return refuse("it is a name, tenant/namespace/name or persistent://tenant/namespace/name");
  }
  if (!is_entity_name(name.tenant))
    return refuse("the tenant is empty or has a forbidden character");
  if (!is_entity_name(name.name_space)) {
    return refuse("the namespace is empty or has a forbidden character");
  }
  if (name.local.empty()) return refuse("the name is empty");
  if (name.local.find('\0') != std::string::npos) return refuse("it holds a zero byte");
  name.partition = partition_index(name.local);
  return name;
}

TopicName TopicName::base() const {
  TopicName out = *this;
  if (partition >= 0) {
    out.local.resize(local.rfind(kSuffix));
    out.partition = -1;
  }
  return out;
}

TopicName TopicName::partition_of(int index) const {
  TopicName out = base();
  out.local += std::string(kSuffix) + std::to_string(index);
  out.partition = index;
  return out;
}

std::string topics_hash(std::vector<std::string> topics) {
  std::sort(topics.begin(), topics.end());
  const uint32_t crc = crc32c(0, fmt::format("{}", fmt::join(topics, ",")));
  std::string out;
  for (int shift = 0; shift < 32; shift += 8) out += fmt::format("{:02x}", crc >> shift & 0xff);
  return out;
}

}  // namespace hulse::wire

#include "connect/descriptor.h"

#include "base/text.h"

namespace hulse::connect {
namespace {

constexpr std::string_view kBuiltin = "builtin://";
constexpr std::string_view kOfficial = "pulsar-io-";

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string folded(std::string_view name) {
  std::string out = to_lower(name);
  for (char& c : out) {
    if (c == '-') c = '_';
  }
  return out;
}

// "elastic-search-2.8.1-SNAPSHOT" -> "elastic-search"; a name like "hdfs3" keeps its digit.
std::string_view without_version(std::string_view name) {
  for (size_t at = name.find('-'); at != std::string_view::npos; at = name.find('-', at + 1)) {
    if (at + 1 < name.size() && is_digit(name[at + 1])) return name.substr(0, at);
  }
  return name;
}

bool take_suffix(std::string_view& text, std::string_view suffix) {
  if (text.size() < suffix.size() || to_lower(text.substr(text.size() - suffix.size())) != suffix) {
    return false;
  }
  text.remove_suffix(suffix.size());
  return true;
}

}  // namespace

std::string_view to_string(Kind kind) {
  switch (kind) {
    case Kind::source: return "source";
    case Kind::sink: return "sink";
    case Kind::function: return "function";
  }
  return "unknown";
}

const Descriptor* find_in(std::span<const Descriptor* const> list, Kind kind,
                          std::string_view name) {
  const auto wanted = folded(name);
  for (const auto* descriptor : list) {
    if (descriptor->kind != kind) continue;
    if (folded(descriptor->name) == wanted) return descriptor;
    for (const auto alias : descriptor->aliases) {
      if (folded(alias) == wanted) return descriptor;
    }
  }
  return nullptr;
}

const Descriptor* find_archive_in(std::span<const Descriptor* const> list, Kind kind,
                                  std::string_view path) {
  if (path.starts_with(kBuiltin)) return find_in(list, kind, path.substr(kBuiltin.size()));
  std::string_view name = path.substr(path.find_last_of('/') + 1);
  if (!take_suffix(name, ".nar") && !take_suffix(name, ".jar")) return nullptr;
  if (!name.starts_with(kOfficial)) return nullptr;
  name = without_version(name.substr(kOfficial.size()));
  if (const auto* found = find_in(list, kind, name)) return found;
  // pulsar-io-kafka-connect-adaptor-nar-4.0.8.nar
  if (take_suffix(name, "-nar")) return find_in(list, kind, name);
  return nullptr;
}

}  // namespace hulse::connect

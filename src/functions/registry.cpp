#include <algorithm>
#include <array>

#include "base/text.h"
#include "functions/descriptor.h"
#include "functions/identity.h"

namespace hulse::functions {
namespace {

// A plain list: there are few, and each is a line.
constexpr std::array<const Descriptor*, 1> kAll = {&kIdentity};

std::string folded(std::string_view name) {
  std::string out = to_lower(name);
  std::replace(out.begin(), out.end(), '-', '_');
  return out;
}

}  // namespace

std::span<const Descriptor* const> registry() { return kAll; }

const Descriptor* find(std::string_view name) {
  const auto wanted = folded(name);
  for (const auto* descriptor : kAll) {
    if (folded(descriptor->name) == wanted) return descriptor;
  }
  return nullptr;
}

const Descriptor* find_class(std::string_view class_name) {
  for (const auto* descriptor : kAll) {
    for (const auto known : descriptor->classes) {
      if (known == class_name) return descriptor;
    }
  }
  return nullptr;
}

}  // namespace hulse::functions

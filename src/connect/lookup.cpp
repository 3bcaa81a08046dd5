// Apart from descriptor.cpp because it needs the generated registry, which tests of this folder
// lack.
#include "connect/descriptor.h"

namespace hulse::connect {

const Descriptor* find(Kind kind, std::string_view name) {
  const auto all = registry();
  return find_in(all, kind, name);
}

const Descriptor* find_archive(Kind kind, std::string_view path) {
  const auto all = registry();
  return find_archive_in(all, kind, path);
}

}  // namespace hulse::connect

#include "metrics/page.h"

#include <fmt/format.h>

#include <algorithm>

namespace hulse::metrics {
namespace {

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

void Page::add_text(std::string_view name, Type type, std::string_view help, const Labels& labels,
                    const std::string& value) {
  auto at = std::find_if(families_.begin(), families_.end(),
                         [&](const Family& family) { return family.name == name; });
  if (at == families_.end()) at = families_.insert(at, {name, type, help, {}});
  at->lines += name;
  if (!labels.empty()) {
    const char* before = "{";
    for (const auto& [label, text] : labels) {
      at->lines += fmt::format("{}{}=\"{}\"", before, label, escaped(text));
      before = ",";
    }
    at->lines += '}';
  }
  at->lines += fmt::format(" {}\n", value);
}

std::string Page::text() const {
  std::string out;
  for (const auto& family : families_) {
    out += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n{3}", family.name, family.help,
                       family.type == Type::counter ? "counter" : "gauge", family.lines);
  }
  return out;
}

}  // namespace hulse::metrics

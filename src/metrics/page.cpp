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

// {a="1",b="2"}, or nothing.
std::string braced(const Labels& labels) {
  std::string out;
  for (const auto& [label, text] : labels)
    out += fmt::format("{}{}=\"{}\"", out.empty() ? "{" : ",", label, escaped(text));
  return out.empty() ? out : out + "}";
}

std::string_view to_string(Type type) {
  switch (type) {
    case Type::counter: return "counter";
    case Type::gauge: return "gauge";
    case Type::histogram: return "histogram";
  }
  return "unknown";
}

}  // namespace

Page::Family& Page::family(std::string_view name, Type type, std::string_view help) {
  auto at = std::find_if(families_.begin(), families_.end(),
                         [&](const Family& family) { return family.name == name; });
  if (at == families_.end()) at = families_.insert(at, {name, type, help, {}});
  return *at;
}

void Page::add_text(std::string_view name, Type type, std::string_view help, const Labels& labels,
                    const std::string& value) {
  family(name, type, help).lines += fmt::format("{}{} {}\n", name, braced(labels), value);
}

void Page::add(std::string_view name, Type type, std::string_view help, const Labels& labels,
               double value) {
  add_text(name, type, help, labels, fmt::format("{}", value));
}

void Page::add(std::string_view name, std::string_view help, const Labels& labels,
               const Histogram& histogram) {
  auto& lines = family(name, Type::histogram, help).lines;
  uint64_t below = 0;
  Labels with_bound = labels;
  with_bound.emplace_back("le", "");
  for (size_t i = 0; i < histogram.counts().size(); ++i) {
    below += histogram.counts()[i];
    const bool last = i == histogram.bounds().size();
    with_bound.back().second = last ? "+Inf" : fmt::format("{}", histogram.bounds()[i]);
    lines += fmt::format("{}_bucket{} {}\n", name, braced(with_bound), below);
  }
  lines += fmt::format("{}_sum{} {}\n", name, braced(labels), histogram.sum());
  lines += fmt::format("{}_count{} {}\n", name, braced(labels), below);
}

std::string Page::text() const {
  std::string out;
  for (const auto& family : families_) {
    out += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n{3}", family.name, family.help,
                       to_string(family.type), family.lines);
  }
  return out;
}

std::string to_open_metrics(std::string_view page) {
  constexpr std::string_view kTotal = "_total";
  std::string out;
  std::string help;
  while (!page.empty()) {
    const size_t end = page.find('\n');
    std::string_view line = page.substr(0, end);
    page.remove_prefix(end == std::string_view::npos ? page.size() : end + 1);
    if (line.starts_with("# HELP ")) {
      help = line;  // how it is written depends on the type, which comes next
      continue;
    }
    if (line.starts_with("# TYPE ")) {
      line.remove_prefix(7);
      const auto name = line.substr(0, line.find(' '));
      auto type = line.substr(name.size() + 1);
      auto family = name;
      if (type == "counter" && name.ends_with(kTotal)) {
        family.remove_suffix(kTotal.size());
      } else if (type == "counter") {
        type = "unknown";  // a counter's samples end in _total, and these keep Pulsar's names
      }
      if (!help.empty()) out += fmt::format("# HELP {}{}\n", family, help.substr(7 + name.size()));
      out += fmt::format("# TYPE {} {}\n", family, type);
      help.clear();
      continue;
    }
    if (line.empty() || line.starts_with('#')) continue;
    out += line;
    out += '\n';
  }
  return out + "# EOF\n";
}

}  // namespace hulse::metrics

// A page of metrics in Prometheus' text format: all values of one metric together, under its help
// text and type, as its parsers want them.
#pragma once

#include <concepts>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "metrics/histogram.h"

namespace hulse::metrics {

enum class Type { counter, gauge, histogram };

inline constexpr const char* kContentType = "text/plain; version=0.0.4";

using Labels = std::vector<std::pair<std::string_view, std::string>>;

// Filled and read by one thread.
class Page {
 public:
  // Metrics stand in the order they are first named in. `name` and `help` are literals.
  void add(std::string_view name, Type type, std::string_view help, const Labels& labels,
           std::integral auto value) {
    add_text(name, type, help, labels, std::to_string(value));
  }
  void add(std::string_view name, Type type, std::string_view help, const Labels& labels,
           double value);
  void add(std::string_view name, std::string_view help, const Labels& labels,
           const Histogram& histogram);
  std::string text() const;

 private:
  struct Family {
    std::string_view name;
    Type type;
    std::string_view help;
    std::string lines;
  };
  Family& family(std::string_view name, Type type, std::string_view help);
  void add_text(std::string_view name, Type type, std::string_view help, const Labels& labels,
                const std::string& value);
  std::vector<Family> families_;
};

// The same page as OpenMetrics has it: counters named without _total in their head lines, and an
// end.
std::string to_open_metrics(std::string_view page);

}  // namespace hulse::metrics

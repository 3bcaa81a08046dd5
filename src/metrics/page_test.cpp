#include "metrics/page.h"

#include <gtest/gtest.h>

namespace hulse::metrics {
namespace {

TEST(Page, ValuesOfOneMetricStandTogetherUnderItsHelp) {
  Page page;
  page.add("b_total", Type::counter, "Bees.", {{"topic", "x\"y\\z\n"}}, 3);
  page.add("a", Type::gauge, "Apes.", {}, -1);
  page.add("b_total", Type::counter, "Bees.", {{"topic", "t"}, {"n", "2"}}, 18446744073709551615u);
  EXPECT_EQ(page.text(),
            "# HELP b_total Bees.\n# TYPE b_total counter\n"
            "b_total{topic=\"x\\\"y\\\\z\\n\"} 3\n"
            "b_total{topic=\"t\",n=\"2\"} 18446744073709551615\n"
            "# HELP a Apes.\n# TYPE a gauge\na -1\n");
}

TEST(Page, AHistogramCountsWhatIsBelowEachBound) {
  constexpr double kBounds[] = {0.5, 1, 10};
  Histogram histogram(kBounds);
  for (const double value : {0.25, 0.5, 2.0, 20.0}) histogram.observe(value);
  Page page;
  page.add("h", "Heights.", {{"n", "1"}}, histogram);
  EXPECT_EQ(page.text(),
            "# HELP h Heights.\n# TYPE h histogram\n"
            "h_bucket{n=\"1\",le=\"0.5\"} 2\nh_bucket{n=\"1\",le=\"1\"} 2\n"
            "h_bucket{n=\"1\",le=\"10\"} 3\nh_bucket{n=\"1\",le=\"+Inf\"} 4\n"
            "h_sum{n=\"1\"} 22.75\nh_count{n=\"1\"} 4\n");
}

TEST(Page, AsOpenMetricsItNamesCountersWithoutTheirEnding) {
  EXPECT_EQ(to_open_metrics("# HELP a_total As.\n# TYPE a_total counter\na_total 1\n"
                            "# HELP b Bs.\n# TYPE b gauge\nb 2\n# TYPE c counter\nc 3\n"),
            "# HELP a As.\n# TYPE a counter\na_total 1\n# HELP b Bs.\n# TYPE b gauge\nb 2\n"
            "# TYPE c unknown\nc 3\n# EOF\n");
}

}  // namespace
}  // namespace hulse::metrics

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

}  // namespace
}  // namespace hulse::metrics

#include "cli/status_watch.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

namespace hulse::cli {
namespace {

TEST(StatusTable, HasALineAnInstanceAndItsLastError) {
  const auto status = boost::json::parse(R"({"instances": [
    {"instanceId": 0, "status": {"hulse": {"state": "running", "reason": "", "written": 7, "inFlight": 1,
      "lag": {"messages": 12}, "rates": {"recordsInPerSecond": 1.5}, "lastErrors": [{"text": "a\nb\u001b[31m"}]}}},
    {"instanceId": 1, "status": {"running": false}}]})");
  const auto table = status_table("sink x", status);
  EXPECT_NE(table.find("sink x\n"), std::string::npos);
  EXPECT_NE(table.find("       0  running          1.5"), std::string::npos) << table;
  EXPECT_NE(table.find("last error: a b [31m\n"), std::string::npos) << "no control characters";
  EXPECT_NE(table.find("       1  -"), std::string::npos) << table;
}

}  // namespace
}  // namespace hulse::cli

#include "runtime/component_record.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

namespace hulse::runtime {
namespace {

TEST(ComponentRecord, ComesBackAsItWas) {
  ComponentRecord record;
  record.kind = connect::Kind::source;
  record.config = {{"name", "x"}, {"configs", {{"a", 1}}}};
  record.created_ms = 5;
  record.modified_ms = 6;
  record.stopped = {0, 7};
  record.restarts = {{1, 3}};
  record.drop_subscription_ms = 9;
  const auto read = ComponentRecord::decode(record.encode());
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(read->encode(), record.encode());
  EXPECT_EQ(read->kind, record.kind);
  EXPECT_EQ(read->config, record.config);
  EXPECT_EQ(read->stopped, record.stopped);
  EXPECT_EQ(read->restarts, record.restarts);
  EXPECT_EQ(read->drop_subscription_ms, 9);
}

TEST(ComponentRecord, DamageAndLaterVersionsAreToldApart) {
  for (const char* text : {"", "[]", "{\"v\":1}", R"({"v":1,"kind":"x","config":{}})",
                           R"({"v":1,"kind":"sink","config":{},"stopped":[-1]})"}) {
    const auto read = ComponentRecord::decode(text);
    ASSERT_FALSE(read) << text;
    EXPECT_EQ(read.error().code(), Code::corrupt);
  }
  const auto later = ComponentRecord::decode(R"({"v":2,"kind":"sink","config":{}})");
  ASSERT_FALSE(later);
  EXPECT_NE(later.error().text().find("another version"), std::string::npos);
}

TEST(InstanceRecord, ComesBackAsItWas) {
  InstanceRecord record;
  record.worker = "w1";
  record.ended = false;
  record.status.state = State::retrying;
  record.status.reason = "the target is away";
  record.status.counters.received = 1;
  record.status.counters.written = 1ull << 60;
  record.status.counters.failures = 3;
  record.status.failures = {{"no", 5}, {"no again", 6}};
  record.status.last_received_ms = 7;
  record.status.latency = {5, std::chrono::nanoseconds(77)};
  record.status.minute = {1, 2, 3, {4, std::chrono::nanoseconds(5)}};
  const auto read = InstanceRecord::decode(record.encode());
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(read->worker, "w1");
  EXPECT_FALSE(read->ended);
  EXPECT_EQ(read->status, record.status);
  EXPECT_FALSE(InstanceRecord::decode("{\"v\":1,\"received\":-4}"));
}

TEST(InstanceRecord, ThatHasCountersOnlyIsNobodys) {
  const auto read = InstanceRecord::decode(R"({"v":1,"received":4,"inFlight":1})");
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_TRUE(read->ended);
  EXPECT_EQ(read->worker, "");
  EXPECT_EQ(read->status.counters.received, 4u);
}

}  // namespace
}  // namespace hulse::runtime

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
  record.drop_subscription_ms = 9;
  const auto read = ComponentRecord::decode(record.encode());
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(read->encode(), record.encode());
  EXPECT_EQ(read->kind, record.kind);
  EXPECT_EQ(read->config, record.config);
  EXPECT_EQ(read->stopped, record.stopped);
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

TEST(ComponentRecord, CountersComeBackAsTheyWere) {
  Counters counters;
  counters.received = 1;
  counters.written = 1ull << 60;
  counters.failures = 3;
  const auto read = decode_counters(encode_counters(counters));
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(*read, counters);
  EXPECT_FALSE(decode_counters("{\"v\":1,\"received\":-4}"));
}

}  // namespace
}  // namespace hulse::runtime

#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "runtime/component.h"
#include "runtime/component_edit.h"
#include "runtime/last_minute.h"

namespace hulse::runtime {
namespace {

namespace json = boost::json;

constexpr auto kFunction = connect::Kind::function;

Result<Component> parse(std::string_view text) {
  std::vector<std::string> notes;
  return parse_component(kFunction, json::parse(text).as_object(), notes);
}

std::string problems_of(std::string_view text) {
  const auto parsed = parse(text);
  return parsed ? std::string() : parsed.error().text();
}

TEST(ParseFunction, IsTakenAsPulsarsToolsSendIt) {
  const auto component = parse(R"({
      "tenant": "public", "namespace": "default", "name": "f", "jar": "builtin://identity",
      "className": "org.apache.pulsar.functions.api.utils.IdentityFunction", "inputs": ["a", "b"],
      "output": "out", "outputSchemaType": "", "forwardSourceMessageProperty": false,
      "resources": {"cpu": 1.0}, "subscriptionPosition": "Earliest", "customSerdeInputs": {},
      "windowConfig": null, "userConfig": {"counterKey": "seen"}, "timeoutMs": 5000})");
  ASSERT_TRUE(component) << component.error().text();
  EXPECT_EQ(component->function->name, "identity");
  EXPECT_EQ(component->inputs, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(component->output, "out");
  EXPECT_EQ(component->subscription, "public/default/f");
  EXPECT_TRUE(component->from_earliest);
  EXPECT_FALSE(component->forward_properties);
  EXPECT_EQ(component->given.values.at("counterKey"), "seen");
  EXPECT_EQ(component->write_timeout, std::chrono::seconds(5));
  EXPECT_EQ(component->writes(), "identity -> out");
}

TEST(ParseFunction, TheNameComesFromTheClassOrFqfn) {
  const auto by_class = parse(
      R"({"className": "org.apache.pulsar.functions.api.utils.IdentityFunction", "inputs": "a"})");
  ASSERT_TRUE(by_class) << by_class.error().text();
  EXPECT_EQ(by_class->full_name(), "public/default/IdentityFunction");
  const auto by_fqfn = parse(R"({"fqfn": "t/n/f", "functionType": "identity", "inputs": "a"})");
  ASSERT_TRUE(by_fqfn) << by_fqfn.error().text();
  EXPECT_EQ(by_fqfn->full_name(), "t/n/f");
  EXPECT_NE(problems_of(R"({"fqfn": "t/n", "functionType": "identity", "inputs": "a"})")
                .find("is not tenant/namespace/name"),
            std::string::npos);
  EXPECT_NE(problems_of(R"({"fqfn": "t/n/f", "name": "g", "functionType": "identity",
                            "inputs": "a"})")
                .find("fqfn: it says f where name is g"),
            std::string::npos);
}

TEST(ParseFunction, WhatCannotBeIsRefusedWithItsReason) {
  const auto expect = [](std::string_view fields, std::string_view reason) {
    const auto text = problems_of(fmt::format(R"({{"name": "f", "inputs": "a", {}}})", fields));
    EXPECT_NE(text.find(reason), std::string::npos) << fields << ":\n" << text;
  };
  const std::string identity = R"("functionType": "identity", )";
  expect(R"("functionType": "nosuch")",
         "Invalid function type 'nosuch' -- Available functions are: [identity]");
  expect(R"("jar": "my.jar", "className": "org.example.My")", "not Java, Python or Go code");
  expect(R"("jar": "a.jar", "py": "b.py")", "only one of them");
  expect(R"("output": "x")", "no function: give functionType");
  expect(identity + R"("output": "persistent://public/default/a")", "is an input as well");
  expect(identity + R"("deadLetterTopic": "d")", "max retries");
  expect(identity + R"("processingGuarantees": "EFFECTIVELY_ONCE")", "EFFECTIVELY_ONCE yet");
  expect(identity + R"("processingGuarantees": "ATMOST_ONCE", "timeoutMs": 5)", "ATLEAST_ONCE");
  expect(identity + R"("timeoutMs": 0)", "timeoutMs");
  expect(identity + R"("autoAck": false)", "autoAck");
  expect(identity + R"("windowConfig": {"windowLengthCount": 3})", "windowConfig");
  expect(identity + R"("customSerdeInputs": {"a": "X"})", "serde classes are Java");
  expect(identity + R"("userConfig": {"countrKey": "x"})", "did you mean counterKey?");
  expect(identity + R"("sinkType": "file")", "a key of a sink's configuration; this is a function");
  expect(identity + R"("retainOrdering": true, "retainKeyOrdering": true)", "Only one of");
  expect(identity + R"("producerConfig": {"compressionType": "NOPE"})", "compressionType");
}

TEST(ParseFunction, IsShownAsPulsarShowsIt) {
  const auto stored = json::parse(R"({"name": "f", "functionType": "identity", "inputs": "a",
                                      "output": "out", "secrets": {"counterKey": "geheim"}})")
                          .as_object();
  std::vector<std::string> notes;
  const auto component = parse_component(kFunction, stored, notes);
  ASSERT_TRUE(component) << component.error().text();
  const auto shown = shown_component(*component, stored);
  EXPECT_EQ(shown.at("jar"), "builtin://identity");
  EXPECT_FALSE(shown.contains("functionType"));
  EXPECT_EQ(shown.at("inputs"), (json::array{"persistent://public/default/a"}));
  EXPECT_EQ(shown.at("output"), "persistent://public/default/out");
  EXPECT_EQ(shown.at("runtime"), "JAVA");
  EXPECT_EQ(json::serialize(shown).find("geheim"), std::string::npos);
  // What is shown can be created.
  const auto again = parse_component(kFunction, shown, notes);
  EXPECT_TRUE(again) << again.error().text();
}

TEST(MergeFunction, AnotherKindOfCodeTakesTheFirstsPlace) {
  const auto merged = merge_component(
      kFunction, json::parse(R"({"functionType": "x", "userConfig": {"a": 1}})").as_object(),
      json::parse(R"({"jar": "builtin://y", "userConfig": {"b": 2}})").as_object());
  EXPECT_EQ(merged, json::parse(R"({"jar": "builtin://y", "userConfig": {"b": 2}})").as_object());
}

TEST(LastMinutes, ForgetWhatIsOlder) {
  LastMinute minute;
  Counters counters;
  Latency latency;
  aio::TimePoint now{};
  for (int second = 0; second <= 200; ++second) {
    minute.note(now, counters, latency);
    now += std::chrono::seconds(1);
    counters.received += 10;
    latency.add(10, std::chrono::milliseconds(3));
  }
  const auto recent = minute.since(now, counters, latency);
  EXPECT_GE(recent.received, 600u);
  EXPECT_LE(recent.received, 660u);
  EXPECT_DOUBLE_EQ(recent.latency.average_ms(), 3.0);
  const auto later = minute.since(now + std::chrono::minutes(5), counters, latency);
  EXPECT_EQ(later.received, 0u);
}

}  // namespace
}  // namespace hulse::runtime

#include "runtime/component_edit.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

namespace hulse::runtime {
namespace {

namespace json = boost::json;

struct Config {
  std::string path;
  Secret password;
  int64_t size = 5;
};
constexpr config::Field kFields[] = {
    config::field<&Config::path>("path", "Where."),
    config::field<&Config::password>("password", "A secret."),
    config::field<&Config::size>("size", "How much."),
};
constexpr connect::Descriptor kConnector{
    .name = "x", .kind = connect::Kind::sink, .fields = kFields};

json::object object(std::string_view text) { return json::parse(text).as_object(); }

Component sink(unsigned parallelism = 1) {
  Component component;
  component.name = "s";
  component.connector = &kConnector;
  component.inputs = {"t"};
  component.subscription = "public/default/s";
  component.parallelism = parallelism;
  return component;
}

TEST(MergeComponent, GivenFieldsWinAndMapsAreReplacedButResources) {
  const auto merged =
      merge_component(connect::Kind::sink,
                      object(R"({"name":"s","archive":"builtin://x","parallelism":1,"timeoutMs":5,
                 "configs":{"path":"a","size":7},"resources":{"cpu":1,"ram":2}})"),
                      object(R"({"name":"other","sinkType":"y","parallelism":2,"timeoutMs":null,
                 "configs":{"path":"b"},"resources":{"ram":3}})"));
  EXPECT_EQ(merged, object(R"({"name":"s","sinkType":"y","parallelism":2,"configs":{"path":"b"},
                               "resources":{"cpu":1,"ram":3}})"));
}

TEST(MergeComponent, ASecretGivenAsItIsShownKeepsItsValue) {
  const auto merged = merge_component(
      connect::Kind::sink, object(R"({"configs":{"password":"geheim","deep":{"password":"too"}}})"),
      object(R"({"configs":{"password":"********","deep":{"password":"********"},"path":"p"}})"));
  EXPECT_EQ(merged, object(R"({"configs":{"password":"geheim","deep":{"password":"too"},
                               "path":"p"}})"));
}

TEST(ComponentChanges, WhatDiffersInEffectIsToldWithoutSecrets) {
  const auto before = object(R"({"configs":{"path":"a","password":"geheim"},"autoAck":true})");
  const auto after = object(R"({"configs":{"path":"b","password":"neu"},"parallelism":"2",
                                "sourceSubscriptionPosition":"Latest"})");
  const auto was = sink();
  const auto now = sink(2);
  const auto changes = component_changes({was, before}, {now, after});
  ASSERT_TRUE(changes) << changes.error().text();
  const auto text = fmt::format("{}", fmt::join(*changes, "; "));
  EXPECT_NE(text.find("parallelism: 1 -> 2"), std::string::npos) << text;
  EXPECT_NE(text.find("configs.path: \"a\" -> \"b\""), std::string::npos) << text;
  EXPECT_EQ(text.find("Latest"), std::string::npos) << "it is what it was: " << text;
  EXPECT_EQ(text.find("geheim"), std::string::npos) << text;
  EXPECT_EQ(text.find("neu"), std::string::npos) << text;
}

TEST(ComponentChanges, ANewSecretAloneIsAChange) {
  const auto was = sink();
  const auto before = object(R"({"configs":{"password":"geheim"}})");
  const auto after = object(R"({"configs":{"password":"neu"}})");
  const auto changes = component_changes({was, before}, {was, after});
  ASSERT_TRUE(changes);
  EXPECT_EQ(*changes, std::vector<std::string>{"configs: a secret"});
  const auto none = component_changes({was, before}, {was, before});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().text(), "Update contains no change");
}

TEST(ComponentChanges, WhatWouldLoseThePositionIsRefused) {
  const auto was = sink();
  auto now = sink();
  now.inputs = {"persistent://public/default/t", "u"};
  now.subscription = "mine";
  const auto refused = component_changes({was, {}}, {now, {}});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text().find("Input Topics cannot be altered"), std::string::npos);
  EXPECT_NE(refused.error().text().find("Subscription Name cannot be altered"), std::string::npos);
  now = sink(2);
  now.inputs = {"persistent://public/default/t"};
  EXPECT_TRUE(component_changes({was, {}}, {now, {}})) << "the same topic, spelled out";
}

TEST(ShownComponent, NothingSecretAndNothingUnknownIsShown) {
  const auto component = sink();
  const auto shown = json::serialize(shown_component(
      component, object(R"({"configs":{"password":"geheim","passwort":"geheim","size":9},
                            "secrets":{"password":"geheim"}})")));
  EXPECT_EQ(shown.find("geheim"), std::string::npos) << shown;
  EXPECT_NE(shown.find("\"size\":9"), std::string::npos) << shown;
  EXPECT_NE(shown.find("builtin://x"), std::string::npos) << shown;
}

}  // namespace
}  // namespace hulse::runtime

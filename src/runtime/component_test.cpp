#include "runtime/component.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

namespace hulse::runtime {
namespace {

// What is wrong with the object, all of it.
std::string problems_of(connect::Kind kind, std::string_view text) {
  std::vector<std::string> notes;
  const auto parsed = parse_component(kind, boost::json::parse(text).as_object(), notes);
  return parsed ? std::string() : parsed.error().text();
}

TEST(ParseComponent, EveryProblemIsInTheOneError) {
  const auto text =
      problems_of(connect::Kind::sink,
                  R"({"nme": "x", "parallelism": "many", "processingGuarantees": "SOMETIMES",
                                    "sinkType": "nothing", "configs": 7})");
  for (const char* part :
       {"nme: unknown key; did you mean name?", "name: required", "parallelism: ", "many",
        "processingGuarantees: ", "SOMETIMES", "Invalid sink type 'nothing'", "configs: a map"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is not in:\n" << text;
  }
}

TEST(ParseComponent, WhatIsNotThereYetIsRefusedNotIgnored) {
  const auto text =
      problems_of(connect::Kind::sink, R"({"name": "x", "inputs": "t", "retainKeyOrdering": true,
                                                        "transformFunction": "builtin://cast"})");
  EXPECT_NE(text.find("retainKeyOrdering"), std::string::npos) << text;
  EXPECT_NE(text.find("transformFunction"), std::string::npos) << text;
}

TEST(ParseComponent, TopicsAndPolicyAreChecked) {
  const auto text =
      problems_of(connect::Kind::sink,
                  R"({"name": "a/b", "inputs": ["ok", "http://x/y"], "deadLetterTopic": "a/b",
                                    "customRuntimeOptions": "{\"retry.initalMs\": 5, \"onReject\": \"explode\"}"})");
  for (const char* part : {"name: it may not hold a slash", "inputs: ", "deadLetterTopic: ",
                           "retry.initalMs", "retry.initialMs", "explode", "no connector"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is not in:\n" << text;
  }
}

TEST(ParseComponent, BothArchiveAndTypeIsOneTooMany) {
  const auto text =
      problems_of(connect::Kind::source, R"({"name": "x", "topicName": "t", "sourceType": "netty",
                                                          "archive": "a.nar"})");
  EXPECT_NE(text.find("Cannot specify both archive and source-type"), std::string::npos) << text;
}

}  // namespace
}  // namespace hulse::runtime

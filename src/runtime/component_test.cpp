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
  const auto text = problems_of(connect::Kind::sink,
                                R"({"name": "x", "inputs": "t", "topicToSchemaType": {"t": "JSON"},
                                                        "transformFunction": "builtin://cast"})");
  EXPECT_NE(text.find("topicToSchemaType"), std::string::npos) << text;
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

TEST(ParseComponent, TopicsComeFromInputsPatternAndInputSpecs) {
  std::vector<std::string> notes;
  const auto parse = [&](std::string_view text) {
    auto object = boost::json::parse(text).as_object();
    object["name"] = "x";
    object["sinkType"] = "data-generator";
    return parse_component(connect::Kind::sink, object, notes);
  };
  auto parsed = parse(R"({"inputs":["a"],"inputSpecs":{"a":{},"b":{"receiverQueueSize":7}}})");
  ASSERT_TRUE(parsed) << parsed.error().text();
  EXPECT_EQ(parsed->inputs, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(parsed->receiver_queue, 7u);
  parsed = parse(R"({"topicsPattern":"logs-.*"})");
  ASSERT_TRUE(parsed) << parsed.error().text();
  EXPECT_EQ(parsed->topics_pattern, "persistent://public/default/logs-.*");
  for (const char* key : {"isRegexPattern", "regexPattern"}) {
    parsed = parse(fmt::format(R"({{"inputSpecs":{{"acme/crm/.*":{{"{}":true}}}}}})", key));
    ASSERT_TRUE(parsed) << parsed.error().text();
    EXPECT_EQ(parsed->topics_pattern, "persistent://acme/crm/.*");
  }
  const auto why = [&](std::string_view text) {
    const auto refused = parse(text);
    return refused ? std::string("taken") : refused.error().text();
  };
  EXPECT_NE(why(R"({"inputs":"a","topicsPattern":"b.*"})").find("not both"), std::string::npos);
  EXPECT_NE(why(R"({"topicsPattern":"b(.*"})").find("topicsPattern"), std::string::npos);
  EXPECT_NE(why("{}").find("Must specify at least one topic"), std::string::npos);
  EXPECT_NE(why(R"({"inputSpecs":{"a":{"schemaType":"avro"}}})").find("inputSpecs.a: schemaType"),
            std::string::npos);
}

TEST(ParseComponent, OrderingsExcludeEachOther) {
  const auto text =
      problems_of(connect::Kind::sink,
                  R"({"name":"x","inputs":"t","sinkType":"file","configs":{"path":"p"},
                                    "retainOrdering":true,"retainKeyOrdering":true,
                                    "processingGuarantees":"EFFECTIVELY_ONCE"})");
  EXPECT_NE(text.find("Only one of retain ordering"), std::string::npos) << text;
  EXPECT_NE(text.find("effectively once"), std::string::npos) << text;
}

TEST(ParseComponent, TheProducersConfigurationIsTaken) {
  std::vector<std::string> notes;
  const auto parsed =
      parse_component(connect::Kind::source,
                      boost::json::parse(
                          R"({"name":"x","topicName":"t","sourceType":"data-generator",
              "producerConfig":{"compressionType":"ZSTD","batchBuilder":"KEY_BASED",
                "maxPendingMessages":5,"batchingConfig":{"enabled":true,"batchingMaxMessages":9,
                "batchingMaxPublishDelayMs":3,"batchingMaxBytes":1000}}})")
                          .as_object(),
                      notes);
  ASSERT_TRUE(parsed) << parsed.error().text();
  EXPECT_EQ(parsed->compression, "ZSTD");
  EXPECT_TRUE(parsed->batch_by_key);
  EXPECT_EQ(parsed->batch_messages_max, 9);
  EXPECT_EQ(parsed->batch_bytes_max, 1000);
  EXPECT_EQ(parsed->batch_delay, std::chrono::milliseconds(3));
  const auto text = problems_of(connect::Kind::source,
                                R"({"name":"x","topicName":"t","sourceType":"data-generator",
                                    "producerConfig":{"compressionTyp":"ZSTD"}})");
  EXPECT_NE(text.find("producerConfig: compressionTyp: unknown key; did you mean compressionType?"),
            std::string::npos)
      << text;
}

}  // namespace
}  // namespace hulse::runtime

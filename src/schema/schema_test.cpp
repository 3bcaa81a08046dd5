#include <gtest/gtest.h>

#include "schema/avro_resolution.h"

namespace hulse::schema {
namespace {

std::string record(std::string_view fields, std::string_view name = "R") {
  return fmt::format(R"({{"type":"record","name":"{}","fields":[{}]}})", name, fields);
}

struct Case {
  const char* what;
  std::string reader;
  std::string writer;
  bool ok;
};

TEST(CanRead, TheRulesOfTheSpecification) {
  const auto a_int = std::string(R"({"name":"a","type":"int"})");
  const auto b_default = std::string(R"({"name":"b","type":"string","default":""})");
  const auto b_plain = std::string(R"({"name":"b","type":"string"})");
  const auto tree = [](std::string_view extra) {
    return fmt::format(
        R"({{"type":"record","name":"n.Tree","fields":[{{"name":"left","type":["null","Tree"]}}{}]}})",
        extra);
  };
  const std::vector<Case> cases{
      {"the same", record(a_int), record(a_int), true},
      {"a new field with a default", record(a_int + "," + b_default), record(a_int), true},
      {"a new field without", record(a_int + "," + b_plain), record(a_int), false},
      {"a field the reader dropped", record(a_int), record(a_int + "," + b_plain), true},
      {"int read as long", record(R"({"name":"a","type":"long"})"), record(a_int), true},
      {"long read as int", record(a_int), record(R"({"name":"a","type":"long"})"), false},
      {"int read as string", record(R"({"name":"a","type":"string"})"), record(a_int), false},
      {"string read as bytes", R"("bytes")", R"("string")", true},
      {"a type read as a union with it", record(R"({"name":"a","type":["null","int"]})"),
       record(a_int), true},
      {"a union read as one of it", record(a_int), record(R"({"name":"a","type":["null","int"]})"),
       false},
      {"a wider union", R"(["null","int","string"])", R"(["null","int"])", true},
      {"a narrower union", R"(["null","int"])", R"(["null","int","string"])", false},
      {"an alias of the reader's field", record(R"({"name":"x","aliases":["a"],"type":"int"})"),
       record(a_int), true},
      {"a symbol more to read", R"({"type":"enum","name":"E","symbols":["A","B"]})",
       R"({"type":"enum","name":"E","symbols":["A"]})", true},
      {"a symbol more to write", R"({"type":"enum","name":"E","symbols":["A"]})",
       R"({"type":"enum","name":"E","symbols":["A","B"]})", false},
      {"… with a default", R"({"type":"enum","name":"E","symbols":["A"],"default":"A"})",
       R"({"type":"enum","name":"E","symbols":["A","B"]})", true},
      {"fixed of another size", R"({"type":"fixed","name":"F","size":4})",
       R"({"type":"fixed","name":"F","size":5})", false},
      {"array items", R"({"type":"array","items":"long"})", R"({"type":"array","items":"int"})",
       true},
      {"map values", R"({"type":"map","values":"int"})", R"({"type":"map","values":"string"})",
       false},
      {"a type within itself", tree(R"(,{"name":"v","type":"int","default":0})"), tree(""), true},
      {"… that lacks a default", tree(R"(,{"name":"v","type":"int"})"), tree(""), false},
      {"a logical type",
       record(R"({"name":"a","type":{"type":"long","logicalType":"timestamp-millis"}})"),
       record(R"({"name":"a","type":"long"})"), true},
  };
  for (const auto& c : cases) {
    const auto result = can_read(c.reader, c.writer);
    EXPECT_EQ(result.has_value(), c.ok) << c.what << (result ? "" : ": " + result.error().text());
  }
}

TEST(CanRead, TheErrorNamesThePlace) {
  const auto result = can_read(
      record(
          R"({"name":"a","type":{"type":"record","name":"S","fields":[{"name":"b","type":"int"}]}})"),
      record(
          R"({"name":"a","type":{"type":"record","name":"S","fields":[{"name":"b","type":"string"}]}})"));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().text(), "a.b: the writer's string cannot be read as int");
}

TEST(CheckAvro, WhatIsNoSchemaIsRefused) {
  for (const char* bad :
       {"", "{", "7", "{}", R"("unknown")", R"({"type":"record","name":"R"})",
        R"({"type":"record","fields":[]})", R"({"type":"array"})", R"({"type":"enum","name":"E"})",
        R"({"type":"record","name":"R","fields":[{"name":"a"}]})"}) {
    EXPECT_FALSE(check_avro(bad)) << bad;
  }
  EXPECT_FALSE(check_avro(std::string(5000, '[') + std::string(5000, ']')));
  EXPECT_TRUE(check_avro(R"({"type":"record","name":"R","fields":[]})"));
}

TEST(SameDefinition, SpacingAndOrderDoNotMatter) {
  EXPECT_TRUE(same_definition(R"({"a": 1, "b": [2]})", R"({"b":[2],"a":1})"));
  EXPECT_FALSE(same_definition(R"({"a":1})", R"({"a":2})"));
}

}  // namespace
}  // namespace hulse::schema

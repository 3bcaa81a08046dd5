#include "config/secret_reference.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

namespace hulse::config {
namespace {

namespace json = boost::json;
using From = SecretReference::From;

struct Sample {
  std::string user;
  Secret password;
  Secret nested;
  int port = 1;
};
constexpr Field kFields[] = {
    field<&Sample::user>("user", "Who."),
    field<&Sample::password>("password", "Secret."),
    field<&Sample::nested>("ssl.password", "Secret too."),
    field<&Sample::port>("port", "Port."),
};

std::string text_of(const json::value& value) {
  const auto parsed = parse_reference(value);
  if (!parsed) return "refused";
  if (!*parsed) return "itself";
  return (*parsed)->from == From::literal ? "literal " + (*parsed)->name : (*parsed)->text();
}

TEST(SecretReference, EachFormIsRead) {
  EXPECT_EQ(text_of("env:ES_PASSWORD"), "env:ES_PASSWORD");
  EXPECT_EQ(text_of("file:/run/secrets/es"), "file:/run/secrets/es");
  EXPECT_EQ(text_of("file:///run/secrets/es"), "file:/run/secrets/es");
  EXPECT_EQ(text_of(json::object{{"path", "/run/es"}, {"key", "password"}}),
            "file:/run/es key password");
  EXPECT_EQ(text_of("hunter2"), "itself");
  EXPECT_EQ(text_of("environment"), "itself");
  EXPECT_EQ(text_of(17), "itself");
}

TEST(SecretReference, ASecretThatBeginsLikeOneIsEscaped) {
  EXPECT_EQ(text_of("literal:env:NAME"), "literal env:NAME");
  EXPECT_EQ(text_of("literal:literal:x"), "literal literal:x");
}

TEST(SecretReference, WhatCannotBeOneIsRefusedWithoutItsValue) {
  for (const char* wrong :
       {"env:", "env:a-b", "env:1A", "file:relative", "file:", "file://host/x"}) {
    const auto parsed = parse_reference(wrong);
    ASSERT_FALSE(parsed) << wrong;
    EXPECT_EQ(parsed.error().text().find("a-b"), std::string::npos);
    EXPECT_NE(parsed.error().text().find("literal:"), std::string::npos);
  }
  EXPECT_FALSE(parse_reference(json::object{{"path", "relative"}, {"key", "k"}}));
  EXPECT_FALSE(parse_reference(json::object{{"path", "/a"}, {"key", "../k"}}));
  EXPECT_FALSE(parse_reference(json::object{{"path", "/a"}}));
}

TEST(SecretReference, IsShownWhereASecretIsNot) {
  const json::object values{{"user", "env:NOT_A_SECRET_FIELD"},
                            {"password", "env:PASSWORD"},
                            {"ssl", json::object{{"password", "literal:x"}}}};
  const auto shown = redacted(kFields, values);
  EXPECT_EQ(shown.at("password"), "env:PASSWORD");
  EXPECT_EQ(shown.at("ssl").as_object().at("password"), kRedacted);
}

TEST(SecretReference, TheRestCanBeCheckedWithoutIt) {
  Problems problems;
  const auto given = without_references(
      kFields,
      {{{"password", "env:P"}, {"ssl", json::object{{"password", "mine"}}}},
       {{"user", json::object{{"path", "/x"}, {"key", "user"}}}, {"port", "env:PORT"}}},
      problems);
  EXPECT_EQ(given.values.at("password"), kRedacted);
  EXPECT_EQ(given.values.at("ssl").as_object().at("password"), "mine");
  EXPECT_EQ(given.secrets.at("user"), kRedacted);
  EXPECT_TRUE(problems.has("port"));
  EXPECT_FALSE(problems.has("user"));
}

}  // namespace
}  // namespace hulse::config

#include "runtime/state_value.h"

#include <gtest/gtest.h>

namespace hulse::runtime {
namespace {

TEST(StateValues, ComeBackAsTheyWere) {
  for (const std::string& bytes :
       {std::string(), std::string("text ü"), std::string("\xff\x00", 2)}) {
    const auto back = StateValue::decode(StateValue{std::nullopt, bytes}.encode());
    ASSERT_TRUE(back) << back.error().text();
    EXPECT_EQ(back->bytes, bytes);
    EXPECT_FALSE(back->number);
  }
  const auto number = StateValue::decode(StateValue{-5, ""}.encode());
  ASSERT_TRUE(number);
  EXPECT_EQ(number->number, -5);
}

TEST(StateValues, ANumberIsEightBytesAndBack) {
  const StateValue number{258, ""};
  EXPECT_EQ(number.as_bytes(), std::string("\0\0\0\0\0\0\1\2", 8));
  const StateValue bytes{std::nullopt, number.as_bytes()};
  ASSERT_TRUE(bytes.as_number());
  EXPECT_EQ(*bytes.as_number(), 258);
  EXPECT_FALSE((StateValue{std::nullopt, "seven b"}).as_number());
}

TEST(StateValues, WhatIsNoneIsRefused) {
  for (const char* text : {"", "7", "{}", R"({"v":2,"number":1})", R"({"v":1})",
                           R"({"v":1,"number":"x"})", R"({"v":1,"base64":"%"})"}) {
    EXPECT_FALSE(StateValue::decode(text)) << text;
  }
}

}  // namespace
}  // namespace hulse::runtime

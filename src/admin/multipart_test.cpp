#include "admin/multipart.h"

#include <gtest/gtest.h>

namespace hulse::admin {
namespace {

constexpr std::string_view kType = "multipart/form-data; boundary=xYz";

TEST(Multipart, PartsOfAFormAreFound) {
  const std::string form =
      "a preamble\r\n--xYz\r\n"
      "Content-Disposition: form-data; name=\"sinkConfig\"\r\n"
      "Content-Type: application/json; charset=UTF-8\r\n\r\n"
      "{\"name\":\"x\"}\r\n--xYz \r\n"
      "content-disposition: form-data; name=data; filename=\"my \\\"own\\\".nar\"\r\n\r\n"
      "\r\n--xY\r\n\r\n--xYz--\r\nthe end";
  const auto parts = parse_multipart(kType, form);
  ASSERT_TRUE(parts) << parts.error().text();
  ASSERT_EQ(parts->size(), 2u);
  EXPECT_EQ((*parts)[0].name, "sinkConfig");
  EXPECT_EQ((*parts)[0].content_type, "application/json; charset=UTF-8");
  EXPECT_EQ((*parts)[0].body, "{\"name\":\"x\"}");
  EXPECT_EQ((*parts)[1].name, "data");
  EXPECT_EQ((*parts)[1].file_name, "my \"own\".nar");
  EXPECT_EQ((*parts)[1].body, "\r\n--xY\r\n");
}

TEST(Multipart, WhatIsNoFormIsRefusedWithTheReason) {
  const auto why = [](std::string_view type, std::string_view form) {
    const auto parts = parse_multipart(type, form);
    return parts ? std::string("taken") : parts.error().text();
  };
  EXPECT_NE(why("application/json", "{}").find("multipart/form-data"), std::string::npos);
  EXPECT_NE(why("multipart/form-data", "--x").find("boundary"), std::string::npos);
  EXPECT_NE(why(kType, "nothing").find("boundary"), std::string::npos);
  const std::string whole =
      "--xYz\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nvalue\r\n--xYz--";
  ASSERT_EQ(why(kType, whole), "taken");
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_NE(why(kType, std::string_view(whole).substr(0, size)), "taken") << size;
  }
  EXPECT_NE(why(kType, "--xYz\r\nno colon\r\n\r\nv\r\n--xYz--").find("colon"), std::string::npos);
  EXPECT_NE(why(kType, "--xYz\r\nA: b\r\n\r\nv\r\n--xYz--").find("name"), std::string::npos);
}

}  // namespace
}  // namespace hulse::admin

#include "cli/masking.h"

#include <gtest/gtest.h>

namespace hulse::cli {
namespace {

TEST(Masking, KnowsSensitiveNames) {
  for (const char* name : {"password", "dbPassword", "API-Key", "api_key", "Authorization",
                           "access_token", "card", "Card_Number", "client.secret", "CVV", "pin"})
    EXPECT_TRUE(is_sensitive_name(name)) << name;
  for (const char* name : {"name", "discarded", "spinning", "keyboard", "author", "n", "panel"})
    EXPECT_FALSE(is_sensitive_name(name)) << name;
}

TEST(Masking, CoversMembersAtAnyDepth) {
  EXPECT_EQ(
      shown_value(R"({"user":"ann","password":"x","list":[{"token":{"a":1},"n":2}],"pin":null})",
                  1000),
      R"({"user":"ann","password":"********","list":[{"token":"********","n":2}],"pin":null})");
}

TEST(Masking, CoversWhatIsAssignedInText) {
  EXPECT_EQ(shown_value("user=ann&password=x&n=2", 1000), "user=ann&password=********&n=2");
  EXPECT_EQ(shown_value("Authorization: Bearer abc\nnext", 1000), "Authorization:********\\nnext");
  EXPECT_EQ(shown_value("{\"password\": \"x", 1000), "{\"password\":********")
      << "JSON that is cut off";
  EXPECT_EQ(shown_value("a password is a secret", 1000), "a password is a secret");
}

TEST(Masking, ShowsWhatIsNoTextAsBytesAndObeysNothing) {
  EXPECT_EQ(shown_value(std::string_view("\xff\x00\x01", 3), 1000), "3 bytes: ff 00 01");
  EXPECT_EQ(shown_value("a\x1b[31mb", 1000), "a\\x1b[31mb");
  EXPECT_EQ(shown_value("grüße", 3), "gr… (7 bytes)");
  EXPECT_EQ(shown_value("", 10), "");
}

}  // namespace
}  // namespace hulse::cli

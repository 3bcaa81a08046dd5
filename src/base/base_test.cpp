#include <gtest/gtest.h>

#include <random>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/text.h"

namespace hulse {
namespace {

TEST(Crc32c, KnownVector) { EXPECT_EQ(crc32c(0, "123456789"), 0xe3069283u); }

TEST(Crc32c, AnySplitGivesTheSame) {
  std::mt19937 random(7);
  std::string data(20000, '\0');
  for (char& c : data) c = static_cast<char>(random());
  // Bit by bit, from the definition: independent of both implementations.
  uint32_t expected = ~0u;
  for (const char c : data) {
    expected ^= static_cast<uint8_t>(c);
    for (int i = 0; i < 8; ++i) expected = (expected >> 1) ^ ((expected & 1) ? 0x82F63B78u : 0);
  }
  expected = ~expected;
  EXPECT_EQ(crc32c(0, data), expected);
  for (const size_t at : {0ul, 1ul, 7ul, 1024ul, 3072ul, 3073ul, 9999ul, 20000ul}) {
    const std::string_view view = data;
    EXPECT_EQ(crc32c(crc32c(0, view.substr(0, at)), view.substr(at)), expected) << at;
  }
}

TEST(Varint, RoundTripAndRefusal) {
  for (const uint64_t value : {0ull, 1ull, 127ull, 128ull, 300ull, ~0ull, 1ull << 63}) {
    std::string out;
    put_varint(out, value);
    std::string_view in = out;
    uint64_t back = 0;
    ASSERT_TRUE(get_varint(in, back));
    EXPECT_EQ(back, value);
    EXPECT_TRUE(in.empty());
  }
  std::string_view cut = "\x80";
  uint64_t value = 0;
  EXPECT_FALSE(get_varint(cut, value));
  std::string_view long_one = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02";
  EXPECT_FALSE(get_varint(long_one, value));
}

TEST(Text, NearestFindsTheSlipButNotAStranger) {
  const std::vector<std::string_view> keys{"indexName", "typeName", "elasticSearchUrl"};
  EXPECT_EQ(nearest("indxName", keys), "indexName");
  EXPECT_EQ(nearest("elasticsearchurl", keys), "elasticSearchUrl");
  EXPECT_EQ(nearest("banana", keys), std::nullopt);
}

TEST(Text, JsonQuoteKeepsUtf8AndReplacesTheRest) {
  EXPECT_EQ(json_quote("a\"b\\\n\x01"), R"("a\"b\\\n\u0001")");
  EXPECT_EQ(json_quote("é\xff"), "\"é\\ufffd\"");
  EXPECT_TRUE(is_utf8("é€😀"));
  EXPECT_FALSE(is_utf8("\xed\xa0\x80"));
  EXPECT_FALSE(is_utf8("\xc0\x80"));
}

TEST(ErrorText, ContextsOutermostFirst) {
  const Error error = Error(Code::io, "no space left").with("writing").with("segment 7");
  EXPECT_EQ(error.text(), "segment 7: writing: no space left");
}

TEST(Ids, TextAndOrder) {
  const MessageId plain{12, 3, -1, -1};
  const MessageId item{12, 3, -1, 5};
  EXPECT_EQ(plain.text(), "12:3:-1");
  EXPECT_EQ(item.text(), "12:3:-1:5");
  EXPECT_LT(plain, item);
  EXPECT_LT(kEarliest, plain);
  EXPECT_LT(plain, kLatest);
  EXPECT_EQ(random_hex(8).size(), 16u);
}

}  // namespace
}  // namespace hulse

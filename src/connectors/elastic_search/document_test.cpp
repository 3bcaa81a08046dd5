#include "connectors/elastic_search/document.h"

#include <gtest/gtest.h>

#include "connectors/elastic_search/answer.h"
#include "connectors/elastic_search/id_order.h"
#include "connectors/elastic_search/index_name.h"

namespace hulse::connectors::elastic_search {
namespace {

using Texts = std::vector<std::string>;

std::string document(std::string_view payload, bool strip) {
  std::string out;
  append_document(out, payload, strip);
  return out;
}

TEST(Document, IsOneLine) {
  EXPECT_EQ(document(R"({"a":"ü\n"})", true), R"({"a":"ü\n"})");
  EXPECT_EQ(document("{\n\t\"a\": 1,\r\n\"b\": \"x\x7f\"\n}", true), "{\"a\": 1,\"b\": \"x\"}");
  EXPECT_EQ(document("{\n\t\"a\": 1,\r\n\"b\": \"x\x7f\"\n}", false),
            "{ \t\"a\": 1,  \"b\": \"x\x7f\" }");
  EXPECT_TRUE(looks_like_an_object(" {\"a\":1}\r\n"));
  for (const char* bad : {"", " ", "{", "}", "[1]", "x{}", "{}x", "null", "\"{}\""}) {
    EXPECT_FALSE(looks_like_an_object(bad)) << bad;
  }
}

TEST(Document, Actions) {
  std::string out;
  append_action(out, "index", "\"i\"", std::nullopt);
  append_action(out, "delete", "\"i\"", "a\"b\n");
  EXPECT_EQ(
      out,
      "{\"index\":{\"_index\":\"i\"}}\n{\"delete\":{\"_index\":\"i\",\"_id\":\"a\\\"b\\n\"}}\n");
}

TEST(Document, IdsOfPlaces) {
  EXPECT_EQ(id_of_place("bus", "persistent://public/default/t-partition-3", {12, 5, 3, 7}),
            "bus-public/default/t-partition-3-12-5-7");
  EXPECT_EQ(id_of_place("bus", "persistent://public/default/t", {12, 5, -1, -1}),
            "bus-public/default/t-12-5-0");
  const std::string long_topic = "persistent://p/d/" + std::string(600, 't');
  const auto hashed = id_of_place("bus", long_topic, {1, 2, -1, 0});
  EXPECT_EQ(hashed.size(), 64u);
  EXPECT_NE(hashed, id_of_place("bus", long_topic, {1, 2, -1, 1}));
  EXPECT_EQ(hashed, id_of_place("bus", long_topic, {1, 2, -1, 0}));
}

TEST(Document, IdsOfFields) {
  const auto id = [](std::string_view payload, Texts fields) {
    const auto made = id_of_fields(payload, fields);
    return made ? *made : "! " + made.error().text();
  };
  EXPECT_EQ(id(R"({"a":"x","b":2})", {"a"}), "x");
  EXPECT_EQ(id(R"({"a":"x","b":2})", {"b"}), "2");
  EXPECT_EQ(id(R"({"a":"x","b":2})", {"b", "a"}), R"(["x",2])");  // in the document's order
  EXPECT_EQ(id(R"({"a":"x"})", {"c"}), "! its id cannot be made of primaryFields: it has no c");
  EXPECT_TRUE(id("{", {"c"}).starts_with("! "));
}

TEST(IndexNames, AreCheckedAndDated) {
  const auto fixed = IndexName::parse("logs-1");
  ASSERT_TRUE(fixed);
  EXPECT_FALSE(fixed->has_date());
  EXPECT_EQ(fixed->at(0), "logs-1");
  const auto dated = IndexName::parse("logs-%{+yyyy.MM.dd}-%{+HH'h'mm}");
  ASSERT_TRUE(dated) << dated.error().text();
  EXPECT_TRUE(dated->has_date());
  EXPECT_EQ(dated->at(1700000000123), "logs-2023.11.14-22h13");
  const auto fine = IndexName::parse("%{+yyMMddHHmmssSSS}x");
  ASSERT_TRUE(fine);
  EXPECT_EQ(fine->at(1700000000123), "231114221320123x");
  for (const char* bad : {"Logs", "_x", "-x", "+x", ".", "..", "a b", "a/b", "a*", "a,b",
                          "x%{+yyyy", "x%{+QQ}", "x%{+}", "a#b"}) {
    EXPECT_FALSE(IndexName::parse(bad)) << bad;
  }
  EXPECT_FALSE(IndexName::parse(std::string(256, 'x')));
  EXPECT_EQ(index_of_topic("persistent://public/default/Good_Topic-partition-0").value(),
            "good_topic-partition-0");
  EXPECT_FALSE(index_of_topic("persistent://public/default/_x"));
}

TEST(Answers, OfItems) {
  const auto meanings = [](std::string_view answer, size_t count) {
    const auto judged = judge_items(answer, count);
    if (!judged) return "! " + judged.error().text();
    std::string out;
    for (const auto& each : *judged) {
      out += "omrf"[static_cast<int>(each.meaning)];
      if (!each.words.empty()) out += "(" + each.words + ")";
    }
    return out;
  };
  EXPECT_EQ(
      meanings(
          R"({"took":3,"errors":false,"items":[{"index":{"status":201}},{"index":{"status":200}}]})",
          2),
      "oo");
  EXPECT_EQ(
      meanings(
          R"({"took": 3, "errors" : false, "items": [{"index": {"_id": "\"status\":", "status": 201}}]})",
          1),
      "o");
  EXPECT_EQ(meanings(R"({"errors":false,"items":[{"index":{"status":201}}]})", 2),
            "! an answer that is not one to _bulk: 1 items instead of 2");
  EXPECT_EQ(
      meanings(R"({"errors":true,"items":[{"index":{"status":201}},
      {"index":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"full"}}},
      {"index":{"status":400,"error":{"type":"mapper_parsing_exception","reason":"failed to parse",
        "caused_by":{"type":"x","reason":"For input string"}}}},
      {"delete":{"status":404,"result":"not_found"}},
      {"index":{"status":403,"error":{"type":"cluster_block_exception","reason":"read-only"}}},
      {"index":{"status":403,"error":{"type":"security_exception","reason":"no"}}},
      {"index":{"status":404,"error":{"type":"index_not_found_exception","reason":"no such index"}}},
      {"index":{"status":503,"error":"text"}}, {"index":{}}]})",
               9),
      "or(status 429: es_rejected_execution_exception: full)"
      "m(status 400: mapper_parsing_exception: failed to parse: For input string)"
      "or(status 403: cluster_block_exception: read-only)f(status 403: security_exception: no)"
      "r(status 404: index_not_found_exception: no such index)r(status 503: text)"
      "r(status 0: no reason given)");
  for (const char* bad :
       {"", "x", "[]", "{}", R"({"items":{}})", R"({"errors":true,"items":[1]})",
        R"({"errors":true,"items":[{"index":1}]})", R"({"errors":true,"items":[]})"}) {
    EXPECT_TRUE(meanings(bad, 1).starts_with("! an answer that is not one to _bulk: ")) << bad;
  }
}

TEST(Answers, OfRequests) {
  EXPECT_EQ(judge_request(401, "").meaning, Meaning::fatal);
  EXPECT_EQ(judge_request(413, "").meaning, Meaning::malformed);
  EXPECT_EQ(judge_request(400, "").meaning, Meaning::malformed);
  EXPECT_EQ(judge_request(502, "<html>").meaning, Meaning::retry);
  EXPECT_EQ(judge_request(404, "").meaning, Meaning::retry);
  EXPECT_EQ(judge_request(403, R"({"error":{"type":"security_exception","reason":"no"}})").words,
            "status 403: security_exception: no");
  EXPECT_EQ(words_of(" <html>bad gateway</html>\n"), "<html>bad gateway</html>");
  EXPECT_EQ(words_of(std::string(2000, 'x')).size(), 503u);
}

TEST(IdOrders, LaterChangesWait) {
  IdOrder order;
  const IdOrder::Place a{"t", {1, 0, -1, 0}};
  const IdOrder::Place b{"t", {1, 1, -1, 0}};
  const IdOrder::Place c{"t", {1, 2, -1, 0}};
  EXPECT_TRUE(order.may_go("x", a));
  order.failed("x", a);
  EXPECT_TRUE(order.may_go("y", b));
  EXPECT_FALSE(order.may_go("x", b));
  EXPECT_FALSE(order.may_go("x", c));
  EXPECT_FALSE(order.may_go("x", c));
  EXPECT_TRUE(order.may_go("x", a));
  order.failed("x", a);
  EXPECT_TRUE(order.may_go("x", a));
  order.settled("x", a);
  EXPECT_FALSE(order.may_go("x", c));  // b is before it
  EXPECT_TRUE(order.may_go("x", b));
  order.settled("x", b);
  EXPECT_TRUE(order.may_go("x", c));
  order.settled("x", c);
  EXPECT_TRUE(order.empty());
}

TEST(IdOrders, OneThatNeverComesBackIsGivenUp) {
  aio::VirtualTime time;
  IdOrder order;
  order.failed("x", {"t", {1, 0, -1, 0}});
  const IdOrder::Place later{"t", {1, 1, -1, 0}};
  EXPECT_FALSE(order.may_go("x", later));
  time.advance(std::chrono::minutes(6));
  EXPECT_TRUE(order.may_go("x", later));
  order.settled("x", later);
  EXPECT_TRUE(order.empty());
}

}  // namespace
}  // namespace hulse::connectors::elastic_search

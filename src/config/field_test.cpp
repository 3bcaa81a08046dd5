#include "config/field.h"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace hulse::config {
namespace {

namespace json = boost::json;

enum class Mode { ignore, warn, fail };

struct Sample {
  std::string url;
  std::string type = "tcp";
  int port = 10999;
  uint16_t small = 7;
  int64_t big = -1;
  double ratio = 0.5;
  bool enabled = true;
  Mode mode = Mode::fail;
  std::chrono::milliseconds pause{50};
  Secret password;
  std::string user;
  std::vector<std::string> names = {"a", "b"};
  std::map<std::string, std::string> extra;
  std::optional<std::string> index;
  bool ssl_enabled = false;

  void check(Problems& problems) const {
    if (user.empty() != password.empty()) problems.add("user", "goes with password: give both");
  }
};

constexpr std::string_view kTypes[] = {"tcp", "udp"};
constexpr std::string_view kModes[] = {"IGNORE", "WARN", "FAIL"};
constexpr std::string_view kUrlAliases[] = {"address"};
constexpr std::string_view kOldUser[] = {"login"};
constexpr Field kFields[] = {
    field<&Sample::url>("elasticSearchUrl", "Where it is.").required().aliases(kUrlAliases),
    field<&Sample::type>("type", "Protocol.").one_of(kTypes).ignore_case(),
    field<&Sample::port>("port", "Port.").range(1024, 65535),
    field<&Sample::small>("small", "A small one."),
    field<&Sample::big>("big", "A big one.").at_least(-1),
    field<&Sample::ratio>("ratio", "A ratio.").range(0, 1),
    field<&Sample::enabled>("enabled", "Whether."),
    field<&Sample::mode>("mode", "What to do.").one_of(kModes),
    field<&Sample::pause>("pauseMs", "How long.").at_least(0),
    field<&Sample::password>("password", "The password."),
    field<&Sample::user>("user", "Who.").deprecated(kOldUser),
    field<&Sample::names>("names", "Some names."),
    field<&Sample::extra>("extra", "Other properties."),
    field<&Sample::index>("indexName", "The index."),
    field<&Sample::ssl_enabled>("ssl.enabled", "TLS."),
    not_supported("schemaEnable", "false", "documents built from schemas are not there yet"),
};

Result<Sample> parsed(std::string_view values, std::string_view secrets = "{}") {
  const Given given{json::parse(values).as_object(), json::parse(secrets).as_object()};
  return parse<Sample>(kFields, given);
}
std::string problems(std::string_view values, std::string_view secrets = "{}") {
  const auto result = parsed(values, secrets);
  return result ? "none" : result.error().text();
}

TEST(Fields, TakeEveryKind) {
  const auto sample = parsed(R"({"elasticSearchUrl": "http://x", "type": "UDP", "port": 2000,
    "small": 65535, "big": 9000000000, "ratio": 1, "enabled": false, "mode": "WARN", "pauseMs": 5,
    "password": "p", "user": "u", "names": ["x", 1], "extra": {"k": "v", "n": 2},
    "indexName": "i", "ssl": {"enabled": true}, "schemaEnable": false})");
  ASSERT_TRUE(sample) << sample.error().text();
  EXPECT_EQ(sample->type, "udp");
  EXPECT_EQ(sample->port, 2000);
  EXPECT_EQ(sample->small, 65535);
  EXPECT_EQ(sample->big, 9000000000);
  EXPECT_EQ(sample->ratio, 1.0);
  EXPECT_FALSE(sample->enabled);
  EXPECT_EQ(sample->mode, Mode::warn);
  EXPECT_EQ(sample->pause, std::chrono::milliseconds(5));
  EXPECT_EQ(sample->password.reveal(), "p");
  EXPECT_EQ(sample->names, (std::vector<std::string>{"x", "1"}));
  EXPECT_EQ(sample->extra.at("n"), "2");
  EXPECT_EQ(sample->index, "i");
  EXPECT_TRUE(sample->ssl_enabled);
}

TEST(Fields, TakeStringsForNumbersBooleansAndLists) {
  const auto sample =
      parsed(R"({"address": "x", "port": "10911", "enabled": "True", "ratio": "0.25",
    "names": "one, two,,three", "pauseMs": " 7 ", "ssl.enabled": "true", "indexName": null})");
  ASSERT_TRUE(sample) << sample.error().text();
  EXPECT_EQ(sample->url, "x");
  EXPECT_EQ(sample->port, 10911);
  EXPECT_TRUE(sample->enabled);
  EXPECT_EQ(sample->ratio, 0.25);
  EXPECT_EQ(sample->names, (std::vector<std::string>{"one", "two", "three"}));
  EXPECT_EQ(sample->pause, std::chrono::milliseconds(7));
  EXPECT_TRUE(sample->ssl_enabled);
  EXPECT_FALSE(sample->index.has_value());
}

TEST(Fields, TellEveryProblemAtOnce) {
  EXPECT_EQ(problems(R"({"port": "abc", "indxName": "x", "mode": "warn", "type": "sctp",
                         "enabled": "yes", "small": 65536, "big": -2, "ratio": 2, "names": {},
                         "extra": "x", "zzzzzzzzzzz": 1, "schemaEnable": true, "user": "u"})"),
            "indxName: unknown key; did you mean indexName?\n"
            "zzzzzzzzzzz: unknown key; known are elasticSearchUrl, type, port, small, big, ratio, "
            "enabled, mode, pauseMs, password, user, names, extra, indexName, ssl.enabled\n"
            "elasticSearchUrl: required, but missing\n"
            "type: \"sctp\" is not one of tcp, udp\n"
            "port: \"abc\" is not a whole number\n"
            "small: 65536 is not in the range 0 to 65535\n"
            "big: -2 is too small; at least -1\n"
            "ratio: 2 is too large; at most 1\n"
            "enabled: \"yes\" is not true or false\n"
            "mode: \"warn\" is not one of IGNORE, WARN, FAIL\n"
            "names: an object is not a list\n"
            "extra: \"x\" is not a map of texts\n"
            "schemaEnable: documents built from schemas are not there yet\n"
            "user: goes with password: give both");
}

TEST(Fields, RefuseEmptyTwiceAndFractions) {
  EXPECT_EQ(problems(R"({"elasticSearchUrl": "", "port": 2000.5})"),
            "elasticSearchUrl: required, but empty\nport: 2000.5 is not a whole number");
  EXPECT_EQ(problems(R"({"elasticSearchUrl": "a", "address": "b"})"),
            "elasticSearchUrl: given twice, as elasticSearchUrl and as address");
  EXPECT_EQ(problems(R"({"elastic_search_url": "a", "address": "b"})"),
            "elastic_search_url: unknown key; did you mean elasticSearchUrl?");
  EXPECT_EQ(problems(R"({"address": "b", "port": ""})"), "port: \"\" is not a whole number");
}

TEST(Fields, TakeUnsignedNumbers) {
  const Given given{{{"elasticSearchUrl", "x"}, {"port", uint64_t(2000)}}, {}};
  const auto sample = parse<Sample>(kFields, given);
  ASSERT_TRUE(sample) << sample.error().text();
  EXPECT_EQ(sample->port, 2000);
  EXPECT_EQ(problems(R"({"elasticSearchUrl": "x", "big": 18446744073709551615})"),
            "big: 18446744073709551615 is not a whole number");
}

TEST(Fields, DeprecatedKeysWork) {
  const auto sample = parsed(R"({"address": "b", "login": "me", "password": "x"})");
  ASSERT_TRUE(sample) << sample.error().text();
  EXPECT_EQ(sample->user, "me");
}

constexpr const char* kCanary = "canary-5a1e";

TEST(Secrets, WinAndNeverShow) {
  const auto sample = parsed(R"({"address": "b", "user": "u", "password": "plain"})",
                             R"({"password": "canary-5a1e"})");
  ASSERT_TRUE(sample) << sample.error().text();
  EXPECT_EQ(sample->password.reveal(), kCanary);

  // Wrong in every way a secret can be, in the values and in the secrets, and for other fields too.
  const std::string texts[] = {
      problems(R"({"password": {"x": "canary-5a1e"}})"),
      problems(R"({"password": ["canary-5a1e"]})"),
      problems(R"({"pasword": "canary-5a1e"})"),
      problems(R"({"a": 1})", R"({"pasword": "canary-5a1e", "port": "canary-5a1e"})"),
      problems(R"({"password": "canary-5a1e"})", R"({"mode": "canary-5a1e"})"),
      json::serialize(redacted(kFields, json::parse(R"({"password": "canary-5a1e", "user": "u",
                          "pasword": "canary-5a1e", "ssl": {"enabled": true}})")
                                            .as_object())),
      json::serialize(definition(kFields)),
  };
  for (const auto& text : texts) {
    EXPECT_NE(text, "none");
    EXPECT_EQ(text.find(kCanary), std::string::npos) << text;
  }
  EXPECT_EQ(texts[5],
            R"({"password":"********","user":"u","pasword":"********","ssl":{"enabled":true}})");
}

TEST(Secrets, InUrlsAreRedactedToo) {
  const json::object values{
      {"elasticSearchUrl", "http://u:canary@h:1/x,https://v:canary@i and a@b"},
      {"names", {"x://canary@y", "z"}},
      {"extra", {{"k", "mysql://r:canary@@s/t"}}}};
  EXPECT_EQ(json::serialize(redacted(kFields, values)),
            R"({"elasticSearchUrl":"http://********@h:1/x,https://********@i and a@b",)"
            R"("names":["x://********@y","z"],"extra":{"k":"mysql://********@s/t"}})");
}

TEST(Definition, HasPulsarsShapeAndTheStructsDefaults) {
  const auto rows = definition(kFields);
  EXPECT_EQ(rows.size(), std::size(kFields) - 1);
  EXPECT_EQ(json::serialize(rows[2]),
            R"({"fieldName":"port","typeName":"int","attributes":{"required":"false",)"
            R"("defaultValue":"10999","sensitive":"false","help":"Port."}})");
  const auto of = [&](std::string_view key) {
    for (const auto& field : kFields) {
      if (field.key == key) return std::string(field.type_name) + "=" + field.default_value();
    }
    return std::string("no such field");
  };
  EXPECT_EQ(of("mode"), "java.lang.String=FAIL");
  EXPECT_EQ(of("names"), "java.util.List=a,b");
  EXPECT_EQ(of("pauseMs"), "long=50");
  EXPECT_EQ(of("ratio"), "double=0.5");
  EXPECT_EQ(of("enabled"), "boolean=true");
  EXPECT_EQ(of("password"), "java.lang.String=");
  EXPECT_EQ(of("indexName"), "java.lang.String=");
}

TEST(Fields, CredentialsInUrlsAreFoundToBeCoveredElsewhere) {
  const auto value =
      json::parse(R"({"a": ["http://me:word@host, http://other@host"], "b": "x@y"})");
  EXPECT_EQ(url_credentials(value), (std::vector<std::string>{"me:word", "other", "word"}));
}

TEST(Fields, AnEmptyMapOfSomethingThatIsNotThereAsksForNothing) {
  EXPECT_TRUE(parsed(R"({"elasticSearchUrl": "x", "schemaEnable": {}})"));
  EXPECT_TRUE(parsed(R"({"elasticSearchUrl": "x", "schemaEnable": []})"));
  EXPECT_FALSE(parsed(R"({"elasticSearchUrl": "x", "schemaEnable": {"a": 1}})"));
}

}  // namespace
}  // namespace hulse::config

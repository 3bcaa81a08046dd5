#include "runtime/secrets.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <boost/json.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/ids.h"
#include "base/secret.h"
#include "runtime/sealing.h"

namespace hulse::runtime {
namespace {

namespace json = boost::json;
namespace fs = std::filesystem;

json::value value(const std::string& text) { return json::value(std::string_view(text)); }

class Secrets : public testing::Test {
 protected:
  Secrets() : folder_(fs::temp_directory_path() / ("hulse-secrets-" + random_hex(6))) {
    fs::create_directories(folder_ / "mounted");
  }
  ~Secrets() override { fs::remove_all(folder_); }
  std::string file(const std::string& name, const std::string& text) const {
    const auto path = folder_ / name;
    std::ofstream(path) << text;
    return path.string();
  }
  std::string in(const std::string& name) const { return (folder_ / name).string(); }

  const fs::path folder_;
};

TEST_F(Secrets, AreReadWhereTheyAreKept) {
  ::setenv("HULSE_TEST_SECRET", "from the environment", 1);
  EXPECT_EQ(*resolve_secret("env:HULSE_TEST_SECRET", {}), "from the environment");
  EXPECT_EQ(*resolve_secret(value("file:" + file("plain", "from a file\n")), {}), "from a file");
  file("mounted/password", "from a folder");
  EXPECT_EQ(*resolve_secret(json::object{{"path", value(in("mounted"))}, {"key", "password"}}, {}),
            "from a folder");
  const auto document = file("all.json", R"({"password": "from a document"})");
  EXPECT_EQ(*resolve_secret(json::object{{"path", value(document)}, {"key", "password"}}, {}),
            "from a document");
  ASSERT_EQ(::mkfifo(in("pipe").c_str(), 0600), 0);
  EXPECT_FALSE(resolve_secret(value("file:" + in("pipe")), {})) << "it does not wait for a writer";
  EXPECT_FALSE(resolve_secret(value("file:" + in("mounted")), {}));
  EXPECT_EQ(*resolve_secret("literal:env:X", {}), "env:X");
  EXPECT_EQ(*resolve_secret("itself", {}), "itself");
}

TEST_F(Secrets, AllThatAreMissingAreNamedWithTheirKeys) {
  constexpr config::Field kNone[] = {config::not_supported("x", "", "")};
  const config::Given given{
      {}, {{"password", "env:HULSE_TEST_NOT_SET"}, {"token", value("file:" + in("missing"))}}};
  const auto resolved = resolve_secrets(kNone, given, {});
  ASSERT_FALSE(resolved);
  const auto text = resolved.error().text();
  EXPECT_NE(text.find("password: the environment variable HULSE_TEST_NOT_SET is not set"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("token: cannot read " + in("missing")), std::string::npos) << text;
}

TEST_F(Secrets, LieWhereTheServerSays) {
  const auto outside = file("outside", "x");
  file("mounted/inside", "y");
  const SecretSources sources{in("mounted"), "HULSE_TEST_"};
  EXPECT_TRUE(resolve_secret(value("file:" + in("mounted/inside")), sources));
  EXPECT_FALSE(resolve_secret(value("file:" + outside), sources));
  EXPECT_FALSE(resolve_secret(value("file:" + in("mounted/../outside")), sources));
  fs::create_symlink(outside, folder_ / "mounted" / "link");
  EXPECT_FALSE(resolve_secret(value("file:" + in("mounted/link")), sources));
  ::setenv("HULSE_TEST_SECRET", "x", 1);
  EXPECT_TRUE(resolve_secret("env:HULSE_TEST_SECRET", sources));
  EXPECT_FALSE(resolve_secret("env:HOME", sources));
}

TEST_F(Secrets, TheBoxOpensWithItsKeyOnly) {
  const auto box = SecretBox::open(in("key"));
  ASSERT_TRUE(box) << box.error().text();
  EXPECT_EQ(fs::status(in("key")).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  const auto sealed = box->seal("a secret", "t/n/x");
  ASSERT_TRUE(sealed);
  EXPECT_EQ(sealed->find("secret"), std::string::npos);
  EXPECT_NE(*sealed, *box->seal("a secret", "t/n/x")) << "each with a nonce of its own";
  // The key is there again after a restart.
  const auto again = SecretBox::open(in("key"));
  EXPECT_EQ(*again->unseal(*sealed, "t/n/x"), "a secret");
  EXPECT_FALSE(again->unseal(*sealed, "t/n/other"));
  auto damaged = *sealed;
  damaged[20] = damaged[20] == 'A' ? 'B' : 'A';
  EXPECT_FALSE(again->unseal(damaged, "t/n/x"));
  EXPECT_FALSE(again->unseal("short", "t/n/x"));
  const auto other = SecretBox::open(in("other"));
  const auto refused = other->unseal(*sealed, "t/n/x");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text().find("secretsKeyFile"), std::string::npos);
  file("bad", "not a key");
  EXPECT_FALSE(SecretBox::open(in("bad")));
}

ComponentRecord record_of(json::object configs, json::object secrets) {
  ComponentRecord record;
  record.config = {{"name", "x"},
                   {"inputs", json::array{"t"}},
                   {"sinkType", "elastic_search"},
                   {"configs", std::move(configs)},
                   {"secrets", std::move(secrets)}};
  return record;
}

TEST_F(Secrets, AStoredConfigurationHoldsNoneInClear) {
  const auto box = SecretBox::open(in("key"));
  const json::object configs{{"elasticSearchUrl", "http://me:canary@localhost:9200"},
                             {"password", "canary"}};
  const auto record = record_of(configs, {{"token", "canary"}});
  const auto closed = sealed(record, "public/default/x", &*box);
  ASSERT_TRUE(closed) << closed.error().text();
  const auto text = closed->encode();
  EXPECT_EQ(text.find("canary"), std::string::npos) << text;
  const auto decoded = ComponentRecord::decode(text);
  ASSERT_TRUE(decoded);
  const auto open = unsealed(*decoded, "public/default/x", &*box);
  ASSERT_TRUE(open) << open.error().text();
  EXPECT_EQ(open->config, record.config);
  EXPECT_TRUE(open->sealed.empty());
  EXPECT_FALSE(unsealed(*decoded, "public/default/x", nullptr));
  // Stored again by whoever cannot read them (a stop), they are still there.
  const auto other = SecretBox::open(in("other"));
  const auto again = sealed(*decoded, "public/default/x", &*other);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->sealed, decoded->sealed);
  EXPECT_FALSE(sealed(record, "public/default/x", nullptr)) << "without a key none is stored";
}

TEST_F(Secrets, ReferencesAreStoredAsTheyAre) {
  const auto record = record_of({{"elasticSearchUrl", "http://localhost:9200"},
                                 {"username", "me"},
                                 {"password", "env:ES_PASSWORD"}},
                                {});
  const auto stored = sealed(record, "public/default/x", nullptr);
  ASSERT_TRUE(stored) << stored.error().text();
  EXPECT_TRUE(stored->sealed.empty());
  EXPECT_EQ(stored->config, record.config);
}

}  // namespace
}  // namespace hulse::runtime

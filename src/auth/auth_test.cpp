#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>

#include "auth/authenticator.h"
#include "base/base64.h"

namespace hulse::auth {
namespace {

using testing::HasSubstr;

constexpr int64_t kNow = 1'764'000'000'000;

struct KeyPair {
  Secret private_der;
  std::string public_pem;
};

KeyPair make_keys(bool elliptic) {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      elliptic ? EVP_EC_gen("P-256") : EVP_RSA_gen(2048), EVP_PKEY_free);
  unsigned char* der = nullptr;
  const int size = i2d_PrivateKey(key.get(), &der);
  KeyPair out;
  out.private_der = Secret(std::string(reinterpret_cast<char*>(der), static_cast<size_t>(size)));
  OPENSSL_free(der);
  const std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new(BIO_s_mem()), BIO_free);
  PEM_write_bio_PUBKEY(bio.get(), key.get());
  char* text = nullptr;
  const long length = BIO_get_mem_data(bio.get(), &text);
  out.public_pem.assign(text, static_cast<size_t>(length));
  return out;
}

std::string as_data(const std::string& key) { return "data:;base64," + base64_encode(key); }

std::string url_base64(std::string_view text) {
  std::string out = base64_encode(text);
  while (out.ends_with('=')) out.pop_back();
  for (char& c : out) c = c == '+' ? '-' : c == '/' ? '_' : c;
  return out;
}

TokenVerifier verifier(const TokenOptions& options) {
  auto out = TokenVerifier::load(options);
  EXPECT_TRUE(out) << out.error().text();
  return std::move(out).value();
}

TEST(Token, SharedSecret) {
  const Secret key = create_secret_key();
  TokenOptions options;
  options.secret_key = as_data(key.reveal());
  const auto tokens = verifier(options);
  const auto token = create_token("admin", "HS256", key, 0);
  ASSERT_TRUE(token);
  const auto identity = tokens.verify(*token, kNow);
  ASSERT_TRUE(identity) << identity.error().text();
  EXPECT_EQ(identity->role, "admin");
  EXPECT_EQ(identity->expires_ms, 0);
  EXPECT_TRUE(tokens.verify(*token + "\n", kNow)) << "as read from a file";
  const auto other = create_token("admin", "HS256", create_secret_key(), 0);
  EXPECT_THAT(tokens.verify(*other, kNow).error().text(), HasSubstr("signature"));
  for (const char* bad : {"", "x", "a.b.c", "...", "eyJhbGciOiJIUzI1NiJ9.e30.AAAA"})
    EXPECT_FALSE(tokens.verify(bad, kNow)) << bad;
  std::string changed = *token;
  changed[changed.find('.') + 3] ^= 1;
  EXPECT_FALSE(tokens.verify(changed, kNow));
}

TEST(Token, Expiry) {
  const Secret key = create_secret_key();
  TokenOptions options;
  options.secret_key = as_data(key.reveal());
  const auto token = create_token("r", "HS256", key, kNow + 10'000);
  EXPECT_EQ(verifier(options).verify(*token, kNow)->expires_ms, kNow + 10'000);
  EXPECT_THAT(verifier(options).verify(*token, kNow + 10'000).error().text(), HasSubstr("expired"));
  options.clock_skew_seconds = 5;
  EXPECT_TRUE(verifier(options).verify(*token, kNow + 14'000));
}

TEST(Token, PublicKeys) {
  for (const bool elliptic : {false, true}) {
    const auto keys = make_keys(elliptic);
    TokenOptions options;
    options.public_key = as_data(keys.public_pem);
    options.public_algorithm = elliptic ? "ES256" : "RS256";
    const auto tokens = verifier(options);
    const auto token = create_token("r", options.public_algorithm, keys.private_der, 0);
    ASSERT_TRUE(token) << token.error().text();
    const auto identity = tokens.verify(*token, kNow);
    ASSERT_TRUE(identity) << identity.error().text();
    EXPECT_EQ(identity->role, "r");
    const auto stranger = make_keys(elliptic);
    const auto forged = create_token("r", options.public_algorithm, stranger.private_der, 0);
    EXPECT_FALSE(tokens.verify(*forged, kNow));
    // The public key is no secret: signing with it as one must get nobody in.
    const auto confused = create_token("admin", "HS256", Secret(keys.public_pem), 0);
    ASSERT_TRUE(confused);
    EXPECT_THAT(tokens.verify(*confused, kNow).error().text(), HasSubstr("HS256"));
  }
}

TEST(Token, NoneIsRefused) {
  TokenOptions options;
  options.secret_key = as_data(create_secret_key().reveal());
  const auto tokens = verifier(options);
  for (const char* algorithm : {"none", "None", "NONE", "nOnE", ""}) {
    const std::string head =
        url_base64(fmt::format("{{\"alg\":\"{}\",\"typ\":\"JWT\"}}", algorithm));
    const std::string body = url_base64("{\"sub\":\"admin\"}");
    EXPECT_FALSE(tokens.verify(head + "." + body + ".", kNow)) << algorithm;
    EXPECT_FALSE(tokens.verify(head + "." + body, kNow)) << algorithm;
  }
  EXPECT_FALSE(tokens.verify(url_base64("{}") + "." + url_base64("{\"sub\":\"a\"}") + ".", kNow));
}

TEST(Token, NoRole) {
  const Secret key = create_secret_key();
  TokenOptions options;
  options.secret_key = as_data(key.reveal());
  options.role_claim = "group";
  const auto token = create_token("r", "HS256", key, 0);
  EXPECT_THAT(verifier(options).verify(*token, kNow).error().text(), HasSubstr("\"group\""));
  options.role_claim = "sub";
  options.audience_claim = "aud";
  options.audience = "here";
  EXPECT_THAT(verifier(options).verify(*token, kNow).error().text(), HasSubstr("audience"));
}

TEST(Token, KeysThatCannotBe) {
  EXPECT_FALSE(TokenVerifier::load({}));
  TokenOptions options;
  options.secret_key = "file:///no/such/file";
  EXPECT_THAT(TokenVerifier::load(options).error().text(), HasSubstr("/no/such/file"));
  options = {.public_key = as_data("nonsense")};
  EXPECT_THAT(TokenVerifier::load(options).error().text(), HasSubstr("neither PEM nor DER"));
  options.public_algorithm = "HS256";
  EXPECT_THAT(TokenVerifier::load(options).error().text(), HasSubstr("tokenPublicAlg"));
}

// What `openssl passwd -apr1` gives.
TEST(PasswordFile, Apr1) {
  EXPECT_EQ(apr1("secret", "FG4AO6aX"), "$apr1$FG4AO6aX$BemPmemJczFeF5R49lJDi.");
  EXPECT_EQ(apr1("a", "FG4AO6aX"), "$apr1$FG4AO6aX$4kfpyAAaK2fU9z9UBc8gy0");
  EXPECT_EQ(apr1("", "FG4AO6aX"), "$apr1$FG4AO6aX$Dm7ZCZ2ZJAner5AhF1f.c0");
  EXPECT_EQ(apr1("0123456789abcdefXYZ", "FG4AO6aX"), "$apr1$FG4AO6aX$HvHvsm91LM4zKSIX/wdIi.");
}

TEST(PasswordFile, Users) {
  const std::string text =
      "# comment\nann:" + apr1("apple", "abcdefgh") +
      "\r\nbob:$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/"
      "1GM/O6IND4WQhG.\n";
  const auto file = PasswordFile::load(as_data(text));
  ASSERT_TRUE(file) << file.error().text();
  EXPECT_TRUE(file->matches("ann", Secret("apple")));
  EXPECT_FALSE(file->matches("ann", Secret("Apple")));
  EXPECT_FALSE(file->matches("ann", Secret("")));
  EXPECT_TRUE(file->matches("bob", Secret("secret")));
  EXPECT_FALSE(file->matches("bob", Secret("apple")));
  EXPECT_FALSE(file->matches("eve", Secret("apple")));
  EXPECT_THAT(PasswordFile::load(as_data("ann:x\nbroken\n")).error().text(), HasSubstr("line 2"));
}

TEST(Authenticator, Methods) {
  const Secret key = create_secret_key();
  Options options;
  options.enabled = true;
  options.token.secret_key = as_data(key.reveal());
  options.password_file = as_data("ann:" + apr1("apple", "abcdefgh"));
  const auto loaded = Authenticator::load(options);
  ASSERT_TRUE(loaded) << loaded.error().text();
  const auto role = [&](const Credentials& credentials) {
    const auto identity = loaded->check(credentials, kNow);
    return identity ? identity->role : "refused: " + identity.error().text();
  };
  EXPECT_EQ(role({"token", Secret(*create_token("r", "HS256", key, 0)), ""}), "r");
  EXPECT_EQ(role({"basic", Secret("ann:apple"), ""}), "ann");
  EXPECT_THAT(role({"basic", Secret("ann:pear"), ""}), HasSubstr("refused: unknown user or wrong"));
  EXPECT_EQ(role({"tls", Secret(), "client"}), "client");
  EXPECT_THAT(role({"tls", Secret(), ""}), HasSubstr("refused: no trusted client certificate"));
  EXPECT_THAT(role({"none", Secret(), ""}), HasSubstr("refused"));
  EXPECT_THAT(role({"kerberos", Secret(), ""}), HasSubstr("\"kerberos\""));
  options.anonymous_role = "guest";
  const auto open = Authenticator::load(options);
  EXPECT_EQ(open->check({"none", Secret(), ""}, kNow)->role, "guest");
  // A credential that is wrong is refused, not taken for none.
  EXPECT_FALSE(open->check({"basic", Secret("ann:pear"), ""}, kNow));
  EXPECT_FALSE(open->check({"token", Secret("x"), ""}, kNow));
}

TEST(Authenticator, Http) {
  const auto bearer = Authenticator::from_http("Bearer abc", "");
  EXPECT_EQ(bearer->method, "token");
  EXPECT_EQ(bearer->data.reveal(), "abc");
  const auto basic = Authenticator::from_http("Basic " + base64_encode("u:p"), "");
  EXPECT_EQ(basic->data.reveal(), "u:p");
  EXPECT_FALSE(Authenticator::from_http("Negotiate x", ""));
  EXPECT_FALSE(Authenticator::from_http("Basic !!", ""));
}

TEST(Authenticator, AllProblemsAtOnce) {
  Options options;
  options.enabled = true;
  options.providers = {"org.apache.pulsar.broker.authentication.AuthenticationProviderToken",
                       "basic", "saml"};
  const auto loaded = Authenticator::load(options);
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().text(), HasSubstr("saml"));
  EXPECT_THAT(loaded.error().text(), HasSubstr("tokenSecretKey"));
  EXPECT_THAT(loaded.error().text(), HasSubstr("basicAuthConf"));
}

}  // namespace
}  // namespace hulse::auth

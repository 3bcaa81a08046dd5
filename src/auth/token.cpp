#include "auth/token.h"

#include <jwt.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>

#include <boost/json.hpp>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>

#include "base/assert.h"
#include "base/base64.h"
#include "base/text.h"

namespace hulse::auth {
namespace {

namespace json = boost::json;

using Jwt = std::unique_ptr<jwt_t, decltype(&jwt_free)>;
using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

constexpr size_t kTokenBytesMax = 16 << 10;
constexpr size_t kSecretBytes = 32;

Error refused(std::string why) { return Error(Code::permission, "the token " + std::move(why)); }

// The text that libjwt takes: what is PEM already, or PEM of DER.
Result<std::string> to_pem(const std::string& key, bool is_private) {
  if (key.starts_with("-----BEGIN")) return key;
  const auto* bytes = reinterpret_cast<const unsigned char*>(key.data());
  const auto size = static_cast<long>(key.size());
  const Key parsed(
      is_private ? d2i_AutoPrivateKey(nullptr, &bytes, size) : d2i_PUBKEY(nullptr, &bytes, size),
      EVP_PKEY_free);
  if (!parsed) {
    return Error(Code::invalid, fmt::format("the {} key is neither PEM nor DER",
                                            is_private ? "private" : "public"));
  }
  const Bio out(BIO_new(BIO_s_mem()), BIO_free);
  const int written = is_private ? PEM_write_bio_PrivateKey(out.get(), parsed.get(), nullptr,
                                                            nullptr, 0, nullptr, nullptr)
                                 : PEM_write_bio_PUBKEY(out.get(), parsed.get());
  if (written != 1) return Error(Code::internal, "OpenSSL cannot write the key as PEM");
  char* text = nullptr;
  const long length = BIO_get_mem_data(out.get(), &text);
  return std::string(text, static_cast<size_t>(length));
}

bool is_shared_secret(std::string_view algorithm) { return algorithm.starts_with("HS"); }

bool names_audience(jwt_t* token, const std::string& claim, const std::string& audience) {
  const std::unique_ptr<char, decltype(&std::free)> text(jwt_get_grants_json(token, claim.c_str()),
                                                         std::free);
  if (!text) return false;
  boost::system::error_code error;
  // One value or a list of them (RFC 7519, section 4.1.3).
  const auto value = json::parse(text.get(), error);
  if (error) return false;
  if (value.is_string()) return value.get_string() == audience;
  if (!value.is_array()) return false;
  return std::any_of(value.get_array().begin(), value.get_array().end(), [&](const auto& one) {
    return one.is_string() && one.get_string() == audience;
  });
}

}  // namespace

Result<Secret> read_key(const std::string& where) {
  constexpr std::string_view kFile = "file://";
  constexpr std::string_view kData = "data:";
  std::string path;
  if (where.starts_with(kFile)) {
    path = where.substr(kFile.size());
  } else if (where.starts_with(kData)) {
    const size_t comma = where.find(',');
    const auto decoded = comma == std::string::npos || !where.substr(0, comma).ends_with("base64")
                             ? std::nullopt
                             : base64_decode(std::string_view(where).substr(comma + 1));
    if (!decoded) return Error(Code::invalid, "a key in a data: URL is \"data:;base64,…\"");
    return Secret(*decoded);
  } else if (where.starts_with('/') || std::ifstream(where).is_open()) {
    path = where;
  } else {
    const auto decoded = base64_decode(where);
    if (!decoded || decoded->empty()) {
      return Error(Code::invalid,
                   "a key is a file (file:///path), \"data:;base64,…\", or the key in Base64; what "
                   "is given is none of these");
    }
    return Secret(*decoded);
  }
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  if (!file || bytes.str().empty()) {
    return Error(Code::not_found, fmt::format("the key file {} cannot be read, or is empty", path));
  }
  return Secret(bytes.str());
}

Result<TokenVerifier> TokenVerifier::load(const TokenOptions& options) {
  TokenVerifier out;
  out.options_ = options;
  if (options.secret_key.empty() && options.public_key.empty()) {
    return Error(Code::invalid,
                 "token authentication needs tokenSecretKey (HS256) or tokenPublicKey (RS256, "
                 "ES256)");
  }
  if (!options.secret_key.empty()) {
    auto key = read_key(options.secret_key);
    if (!key) return key.error().with("tokenSecretKey");
    out.secret_ = std::move(*key);
  }
  if (!options.public_key.empty()) {
    const auto algorithm = jwt_str_alg(options.public_algorithm.c_str());
    if (algorithm == JWT_ALG_INVAL || algorithm == JWT_ALG_NONE ||
        is_shared_secret(options.public_algorithm)) {
      return Error(Code::invalid, fmt::format("tokenPublicAlg: \"{}\" is no algorithm of a public "
                                              "key; RS256 and ES256 are",
                                              options.public_algorithm));
    }
    const auto key = read_key(options.public_key);
    if (!key) return key.error().with("tokenPublicKey");
    auto pem = to_pem(key->reveal(), false);
    if (!pem) return pem.error().with("tokenPublicKey");
    out.public_pem_ = std::move(*pem);
  }
  return out;
}

Result<TokenIdentity> TokenVerifier::verify(const std::string& shown, int64_t now_ms) const {
  // Clients send what their file holds, the end of its line included.
  const std::string token(trim(shown));
  if (token.empty()) return refused("is empty");
  if (token.size() > kTokenBytesMax) return refused("is too long");
  jwt_t* raw = nullptr;
  // Without a key nothing is verified: only what it claims to be signed with is looked at.
  if (jwt_decode(&raw, token.c_str(), nullptr, 0) != 0) return refused("is not a JSON Web Token");
  const Jwt unverified(raw, jwt_free);
  const char* name = jwt_get_header(unverified.get(), "alg");
  const std::string algorithm = name == nullptr ? "" : name;
  const bool shared = is_shared_secret(algorithm);
  const bool by_secret = shared && !secret_.empty();
  const bool by_key = !shared && !public_pem_.empty() && algorithm == options_.public_algorithm;
  if (!by_secret && !by_key) {
    return refused(
        fmt::format("is signed with {}, which this broker does not accept", json_quote(algorithm)));
  }
  const std::string& key = by_secret ? secret_.reveal() : public_pem_;
  raw = nullptr;
  if (jwt_decode(&raw, token.c_str(), reinterpret_cast<const unsigned char*>(key.data()),
                 static_cast<int>(key.size())) != 0) {
    return refused("has a signature that is not of this broker's key");
  }
  const Jwt verified(raw, jwt_free);
  const int64_t now = now_ms / 1000;
  TokenIdentity out;
  errno = 0;
  const int64_t expires = jwt_get_grant_int(verified.get(), "exp");
  if (errno == 0) {
    if (expires + options_.clock_skew_seconds <= now) return refused("has expired");
    out.expires_ms = (expires + options_.clock_skew_seconds) * 1000;
  } else if (errno != ENOENT) {
    return refused("has an \"exp\" that is not a number");
  }
  errno = 0;
  const int64_t begins = jwt_get_grant_int(verified.get(), "nbf");
  if (errno == 0 && begins - options_.clock_skew_seconds > now) return refused("is not valid yet");
  if (errno != 0 && errno != ENOENT) return refused("has an \"nbf\" that is not a number");
  if (!options_.audience_claim.empty() &&
      !names_audience(verified.get(), options_.audience_claim, options_.audience)) {
    return refused("is not meant for this broker (its audience)");
  }
  const char* role = jwt_get_grant(verified.get(), options_.role_claim.c_str());
  if (role == nullptr || *role == '\0') {
    return refused(fmt::format("names no role: it has no claim \"{}\"", options_.role_claim));
  }
  out.role = role;
  return out;
}

Result<std::string> create_token(const std::string& role, const std::string& algorithm,
                                 const Secret& key, int64_t expires_ms) {
  const auto known = jwt_str_alg(algorithm.c_str());
  if (known == JWT_ALG_INVAL || known == JWT_ALG_NONE) {
    return Error(Code::invalid, fmt::format("\"{}\" is no signature algorithm; HS256, RS256 and "
                                            "ES256 are",
                                            algorithm));
  }
  std::string bytes = key.reveal();
  if (!is_shared_secret(algorithm)) {
    auto pem = to_pem(bytes, true);
    if (!pem) return pem.error();
    bytes = std::move(*pem);
  }
  jwt_t* raw = nullptr;
  if (jwt_new(&raw) != 0) return Error(Code::internal, "libjwt gives no token");
  const Jwt token(raw, jwt_free);
  jwt_add_grant(raw, "sub", role.c_str());
  if (expires_ms != 0) jwt_add_grant_int(raw, "exp", static_cast<long>(expires_ms / 1000));
  if (jwt_set_alg(raw, known, reinterpret_cast<const unsigned char*>(bytes.data()),
                  static_cast<int>(bytes.size())) != 0) {
    return Error(Code::invalid, "the key cannot sign with " + algorithm);
  }
  const std::unique_ptr<char, decltype(&std::free)> text(jwt_encode_str(raw), std::free);
  if (!text) return Error(Code::invalid, "the key cannot sign with " + algorithm);
  return std::string(text.get());
}

Secret create_secret_key() {
  std::string bytes(kSecretBytes, '\0');
  HULSE_ASSERT(RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), kSecretBytes) == 1,
               "OpenSSL has no randomness");
  return Secret(std::move(bytes));
}

}  // namespace hulse::auth

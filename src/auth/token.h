// JSON Web Tokens as Pulsar's token authentication uses them: the role is a claim. Signed by a
// shared secret (HS256, HS384, HS512) or a private key (RS…, ES…). libjwt does the signatures and
// stays inside token.cpp.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/secret.h"

namespace hulse::auth {

// Where a key is, as Pulsar writes it: "file:///path", "data:;base64,…", the path of a file, or the
// key itself in Base64. Returns its bytes.
Result<Secret> read_key(const std::string& where);

struct TokenOptions {
  std::string secret_key;  // see read_key()
  std::string public_key;  // see read_key(): PEM, or DER as Pulsar's tool writes it
  // Of the public key's tokens; nothing else is accepted, so that a public key can never be taken
  // for a shared secret.
  std::string public_algorithm = "RS256";
  std::string role_claim = "sub";
  std::string audience_claim;  // empty: not looked at
  std::string audience;
  int64_t clock_skew_seconds = 0;
};

struct TokenIdentity {
  std::string role;
  int64_t expires_ms = 0;  // milliseconds since 1970; 0: never
};

class TokenVerifier {
 public:
  // Fails when a key cannot be read or there is none.
  static Result<TokenVerifier> load(const TokenOptions& options);

  // Code::permission with the reason: the signature, an algorithm that is not the key's ("none"
  // never is), expired, not yet valid, no role. The token itself is in no message.
  Result<TokenIdentity> verify(const std::string& token, int64_t now_ms) const;

 private:
  TokenOptions options_;
  Secret secret_;
  std::string public_pem_;
};

// A token for `role`, signed by a shared secret or a private key in PEM or DER. `algorithm` as in
// JWT: "HS256". `expires_ms` 0: never.
Result<std::string> create_token(const std::string& role, const std::string& algorithm,
                                 const Secret& key, int64_t expires_ms);

// Fresh random bytes for HS256.
Secret create_secret_key();

}  // namespace hulse::auth

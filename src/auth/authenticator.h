// Authenticator: who is it? From what a client shows, over the binary protocol or HTTP, to a role.
// What a role may do is the broker's authorization.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "auth/password_file.h"
#include "auth/token.h"
#include "base/result.h"
#include "base/secret.h"

namespace hulse::auth {

struct Options {
  bool enabled = false;
  // Names of Pulsar's classes or just "token", "tls", "basic". Empty: those that are configured.
  std::vector<std::string> providers;
  TokenOptions token;
  std::string password_file;   // see read_key(); for basic
  std::string anonymous_role;  // of who shows nothing; empty: refused
  // Other parts of this process show `own_secret` by the method kOwnMethod and are `own_role`.
  // Empty: nobody is.
  Secret own_secret;
  std::string own_role;
};

// Only over the binary protocol.
inline constexpr const char* kOwnMethod = "hulse-internal";

// What a client shows.
struct Credentials {
  std::string method;  // of the binary protocol: "token", "tls", "basic", "none"; or an HTTP scheme
  Secret data;         // the token, or "user:password"
  std::string certificate_name;  // common name of a trusted client certificate; empty: none
};

struct Identity {
  std::string role;
  int64_t expires_ms = 0;  // milliseconds since 1970; 0: never
};

class Authenticator {
 public:
  // Reads keys and passwords. All problems in one error.
  static Result<Authenticator> load(Options options);

  bool enabled() const { return options_.enabled; }
  // Without authentication everybody is the empty role. Code::permission with a reason that may be
  // told to the client.
  Result<Identity> check(const Credentials& credentials, int64_t now_ms) const;

  // Of an HTTP request: its Authorization header ("Bearer …", "Basic …"; empty if there is none).
  static Result<Credentials> from_http(std::string_view authorization,
                                       std::string certificate_name);

 private:
  bool has(std::string_view provider) const;
  Options options_;
  std::optional<TokenVerifier> tokens_;
  std::optional<PasswordFile> passwords_;
};

}  // namespace hulse::auth

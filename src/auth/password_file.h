// A password file as Apache's htpasswd writes it: "user:hash" a line. Used by basic authentication.
#pragma once

#include <map>
#include <string>

#include "base/result.h"
#include "base/secret.h"

namespace hulse::auth {

class PasswordFile {
 public:
  // `where` as in read_key() (token.h). Fails with the line that is not understood.
  static Result<PasswordFile> load(const std::string& where);

  // Whether it is that user's password. Hashes: apr1 (htpasswd's default) and whatever crypt(3)
  // knows: bcrypt (htpasswd -B), SHA-512, SHA-256, MD5, DES. Takes as long as the hash is strong.
  bool matches(const std::string& user, const Secret& password) const;

 private:
  std::map<std::string, std::string> hashes_;
};

// The apr1 hash of a password: "$apr1$salt$hash". (An MD5-crypt of Apache's own, which neither
// crypt(3) nor OpenSSL's library has.)
std::string apr1(const std::string& password, const std::string& salt);

}  // namespace hulse::auth

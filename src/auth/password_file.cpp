#include "auth/password_file.h"

#include <crypt.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <memory>

#include "auth/token.h"

namespace hulse::auth {
namespace {

constexpr std::string_view kApr1 = "$apr1$";

std::string md5(const std::string& bytes) {
  unsigned char out[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_Digest(bytes.data(), bytes.size(), out, &size, EVP_md5(), nullptr);
  return {reinterpret_cast<const char*>(out), size};
}

bool same(const std::string& a, const std::string& b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

// The algorithm is MD5-crypt with another magic: described in the manual page of openssl-passwd and
// in Apache's documentation of password formats.
std::string apr1(const std::string& password, const std::string& salt) {
  const std::string magic(kApr1);
  const std::string inner = md5(password + salt + password);
  std::string text = password + magic + salt;
  for (size_t left = password.size(); left > 0; left -= std::min<size_t>(16, left))
    text += inner.substr(0, std::min<size_t>(16, left));
  for (size_t bits = password.size(); bits > 0; bits >>= 1) {
    text += (bits & 1) != 0 || password.empty() ? '\0' : password[0];
  }
  std::string hash = md5(text);
  for (int round = 0; round < 1000; ++round) {
    std::string next = round % 2 != 0 ? password : hash;
    if (round % 3 != 0) next += salt;
    if (round % 7 != 0) next += password;
    next += round % 2 != 0 ? hash : password;
    hash = md5(next);
  }
  // Six bits a character, least significant first, of bytes in the order the format has.
  constexpr std::string_view kAlphabet =
      "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  std::string out = magic + salt + "$";
  const auto put = [&](uint32_t value, int characters) {
    for (; characters > 0; --characters, value >>= 6) out += kAlphabet[value & 63];
  };
  const auto byte = [&](size_t at) {
    return static_cast<uint32_t>(static_cast<uint8_t>(hash[at]));
  };
  for (size_t i = 0; i < 5; ++i) {
    put(byte(i) << 16 | byte(i + 6) << 8 | byte(i == 4 ? 5 : i + 12), 4);
  }
  put(byte(11), 2);
  return out;
}

Result<PasswordFile> PasswordFile::load(const std::string& where) {
  const auto bytes = read_key(where);
  if (!bytes) return bytes.error();
  PasswordFile out;
  size_t number = 0;
  std::string_view rest = bytes->reveal();
  while (!rest.empty()) {
    ++number;
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with('#')) continue;
    const size_t colon = line.find(':');
    if (colon == 0 || colon == std::string_view::npos || colon + 1 == line.size()) {
      return Error(Code::invalid,
                   fmt::format("line {} is not \"user:hash\" as htpasswd writes it", number));
    }
    out.hashes_[std::string(line.substr(0, colon))] = std::string(line.substr(colon + 1));
  }
  if (out.hashes_.empty()) return Error(Code::invalid, "there is no user in it");
  return out;
}

bool PasswordFile::matches(const std::string& user, const Secret& password) const {
  const auto known = hashes_.find(user);
  if (known == hashes_.end()) return false;
  const std::string& hash = known->second;
  if (hash.starts_with(kApr1)) {
    const size_t end = hash.find('$', kApr1.size());
    if (end == std::string::npos) return false;
    return same(apr1(password.reveal(), hash.substr(kApr1.size(), end - kApr1.size())), hash);
  }
  const auto data = std::make_unique<crypt_data>();
  const char* made = crypt_r(password.reveal().c_str(), hash.c_str(), data.get());
  // crypt_r marks what it cannot do by a result that begins with "*".
  return made != nullptr && *made != '*' && same(made, hash);
}

}  // namespace hulse::auth

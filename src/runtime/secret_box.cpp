#include "runtime/secret_box.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <memory>

#include "aio/small_file.h"
#include "base/base64.h"
#include "base/log.h"
#include "base/text.h"

namespace hulse::runtime {
namespace {

constexpr size_t kNonceBytes = 12;
constexpr size_t kTagBytes = 16;

using Cipher = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}
unsigned char* bytes_of(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }

}  // namespace

Result<SecretBox> SecretBox::open(const std::string& path) {
  auto text = aio::read_small_file(path);
  if (!text && text.error().code() == Code::not_found) {
    std::string raw(kKeyBytes, '\0');
    if (RAND_bytes(bytes_of(raw), static_cast<int>(raw.size())) != 1)
      return Error(Code::internal, "the system gives no random bytes for a key");
    const auto written = aio::write_private_file(path, base64_encode(raw) + "\n");
    // Another process may have made it meanwhile: then that one's key is the key.
    if (!written && written.error().code() != Code::already_exists) {
      return written.error().with(
          "making the key that stored secrets are encrypted with "
          "(secretsKeyFile)");
    }
    text = aio::read_small_file(path);
  }
  if (!text) return text.error().with("secretsKeyFile");
  const auto raw = base64_decode(trim(*text));
  if (!raw || raw->size() != kKeyBytes) {
    return Error(Code::invalid, fmt::format("secretsKeyFile: {} holds no key of {} bytes in Base64",
                                            path, kKeyBytes));
  }
  if (aio::readable_by_others(path))
    log::warn("secrets", "{} can be read by others than its owner: chmod 600 {}", path, path);
  std::array<unsigned char, kKeyBytes> key{};
  std::copy(raw->begin(), raw->end(), key.begin());
  return SecretBox(path, key);
}

Result<std::string> SecretBox::seal(std::string_view text, std::string_view owner) const {
  std::string out(kNonceBytes + text.size() + kTagBytes, '\0');
  unsigned char* nonce = bytes_of(out);
  const Cipher cipher(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  int size = 0;
  const bool done =
      cipher != nullptr && RAND_bytes(nonce, kNonceBytes) == 1 &&
      EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, key_.data(), nonce) == 1 &&
      EVP_EncryptUpdate(cipher.get(), nullptr, &size, bytes_of(owner),
                        static_cast<int>(owner.size())) == 1 &&
      EVP_EncryptUpdate(cipher.get(), nonce + kNonceBytes, &size, bytes_of(text),
                        static_cast<int>(text.size())) == 1 &&
      EVP_EncryptFinal_ex(cipher.get(), nonce + kNonceBytes + size, &size) == 1 &&
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes,
                          nonce + kNonceBytes + text.size()) == 1;
  if (!done) return Error(Code::internal, "OpenSSL could not encrypt the secrets");
  return base64_encode(out);
}

Result<std::string> SecretBox::unseal(std::string_view sealed, std::string_view owner) const {
  auto raw = base64_decode(sealed);
  if (!raw || raw->size() < kNonceBytes + kTagBytes)
    return Error(Code::corrupt, "the stored secrets are damaged");
  const size_t length = raw->size() - kNonceBytes - kTagBytes;
  unsigned char* nonce = bytes_of(*raw);
  std::string out(length, '\0');
  const Cipher cipher(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  int size = 0;
  unsigned char rest[kTagBytes];
  const bool done =
      cipher != nullptr &&
      EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, key_.data(), nonce) == 1 &&
      EVP_DecryptUpdate(cipher.get(), nullptr, &size, bytes_of(owner),
                        static_cast<int>(owner.size())) == 1 &&
      EVP_DecryptUpdate(cipher.get(), bytes_of(out), &size, nonce + kNonceBytes,
                        static_cast<int>(length)) == 1 &&
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes,
                          nonce + kNonceBytes + length) == 1 &&
      EVP_DecryptFinal_ex(cipher.get(), rest, &size) == 1;
  if (!done) {
    return Error(Code::permission,
                 fmt::format("its secrets were stored with another key than that of {} "
                             "(secretsKeyFile); put the old key back, or delete it and create it "
                             "again",
                             path_));
  }
  return out;
}

}  // namespace hulse::runtime

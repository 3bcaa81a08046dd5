// SecretBox: encrypts what a configuration holds of secrets before it is stored on a topic, with a
// key that lies in a file of its own (AES-256-GCM). Used by the worker; docs/decisions/0020.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hulse::runtime {

// Immutable; any thread.
class SecretBox {
 public:
  // The key in that file, which is made (mode 0600, durable) when it is not there. Blocks.
  static Result<SecretBox> open(const std::string& path);

  // Base64 text. It opens again only with the same `owner` (the component's name), so that one
  // component's secrets cannot be put into another.
  Result<std::string> seal(std::string_view text, std::string_view owner) const;
  // Code::permission when this is not the key it was sealed with; names the key's file.
  Result<std::string> unseal(std::string_view sealed, std::string_view owner) const;

 private:
  static constexpr size_t kKeyBytes = 32;
  SecretBox(std::string path, std::array<unsigned char, kKeyBytes> key)
      : path_(std::move(path)), key_(key) {}

  std::string path_;
  std::array<unsigned char, kKeyBytes> key_;
};

}  // namespace hulse::runtime

// A token that somebody shows: without the secret none is good.
#include <cstddef>
#include <cstdint>
#include <string>

#include "auth/authenticator.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hulse;
  static const auto verifier = auth::TokenVerifier::load(
      {.secret_key = "data:;base64,MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="});
  if (!verifier) __builtin_trap();
  const std::string input(reinterpret_cast<const char*>(data), size);
  if (verifier->verify(input, 0)) __builtin_trap();
  (void)auth::Authenticator::from_http(input, "");
  return 0;
}

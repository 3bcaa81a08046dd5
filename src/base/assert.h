// Invariants that stay on in release. Never for input: input is answered with an Error.
#pragma once

#include <string_view>

namespace hulse {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line,
                                   std::string_view message = {});
}

#define HULSE_ASSERT(expression, ...) \
  (static_cast<bool>(expression)      \
       ? void(0)                      \
       : ::hulse::assertion_failed(#expression, __FILE__, __LINE__ __VA_OPT__(, ) __VA_ARGS__))

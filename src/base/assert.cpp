#include "base/assert.h"

#include <cstdio>
#include <cstdlib>

namespace hulse {

void assertion_failed(const char* expression, const char* file, int line,
                      std::string_view message) {
  // Straight to the descriptor: the log may be what is broken.
  std::fprintf(stderr, "hulse: bug: %s does not hold at %s:%d %.*s\n", expression, file, line,
               static_cast<int>(message.size()), message.data());
  std::abort();
}

}  // namespace hulse

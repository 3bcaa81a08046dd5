#include "base/ids.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <vector>

#include "base/assert.h"

namespace hulse {

std::string MessageId::text() const {
  if (batch_index < 0) return fmt::format("{}:{}:{}", ledger, entry, partition);
  return fmt::format("{}:{}:{}:{}", ledger, entry, partition, batch_index);
}

std::string random_hex(unsigned bytes) {
  std::vector<unsigned char> raw(bytes);
  // Up to 256 bytes the call is never short and never interrupted.
  HULSE_ASSERT(bytes <= 256 && getrandom(raw.data(), raw.size(), 0) == static_cast<ssize_t>(bytes));
  std::string out;
  for (const unsigned char byte : raw) out += fmt::format("{:02x}", byte);
  return out;
}

}  // namespace hulse

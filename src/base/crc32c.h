// CRC32C (Castagnoli), as Pulsar's frames and our stored records use it. Hardware instruction where
// the processor has one; Debian 12 packages no library for it.
#pragma once

#include <cstdint>
#include <string_view>

namespace hulse {

// Continues `crc` (0 at the start) over `data`: crc32c(crc32c(0, a), b) == crc32c(0, a + b).
uint32_t crc32c(uint32_t crc, std::string_view data);

}  // namespace hulse

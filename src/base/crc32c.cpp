#include "base/crc32c.h"

#include <array>
#include <cstring>
#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace hulse {
namespace {

constexpr uint32_t kPolynomial = 0x82F63B78;  // reflected

constexpr std::array<uint32_t, 256> make_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    table[i] = crc;
  }
  return table;
}
constexpr auto kTable = make_table();

uint32_t by_table(uint32_t crc, const char* data, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    crc = (crc >> 8) ^ kTable[(crc ^ static_cast<uint8_t>(data[i])) & 0xff];
  }
  return crc;
}

#if defined(__x86_64__)
// The instruction has a latency of 3 cycles and a throughput of 1: three independent streams fill
// it. Their results are joined with tables that advance a crc over kBlock (or 2 * kBlock) zero
// bytes.
constexpr size_t kBlock = 1024;

using Matrix = std::array<uint32_t, 32>;

constexpr uint32_t multiply(const Matrix& matrix, uint32_t vector) {
  uint32_t sum = 0;
  for (size_t i = 0; vector != 0; vector >>= 1, ++i) {
    if ((vector & 1) != 0) sum ^= matrix[i];
  }
  return sum;
}

constexpr Matrix square(const Matrix& matrix) {
  Matrix out{};
  for (size_t i = 0; i < 32; ++i) out[i] = multiply(matrix, matrix[i]);
  return out;
}

// The linear map "append `bytes` zero bytes", bytes a power of two.
constexpr Matrix zeros(size_t bytes) {
  Matrix one_bit{};
  one_bit[0] = kPolynomial;
  for (size_t i = 1; i < 32; ++i) one_bit[i] = uint32_t{1} << (i - 1);
  Matrix matrix = one_bit;
  for (size_t bits = 1; bits < bytes * 8; bits *= 2) matrix = square(matrix);
  return matrix;
}

using ShiftTable = std::array<std::array<uint32_t, 256>, 4>;
constexpr ShiftTable shift_table(size_t bytes) {
  const Matrix matrix = zeros(bytes);
  ShiftTable table{};
  for (uint32_t n = 0; n < 256; ++n) {
    for (uint32_t byte = 0; byte < 4; ++byte) table[byte][n] = multiply(matrix, n << (8 * byte));
  }
  return table;
}

uint32_t shift(const ShiftTable& table, uint32_t crc) {
  return table[0][crc & 0xff] ^ table[1][(crc >> 8) & 0xff] ^ table[2][(crc >> 16) & 0xff] ^
         table[3][crc >> 24];
}

uint64_t load(const char* data) {
  uint64_t word;
  std::memcpy(&word, data, 8);
  return word;
}

__attribute__((target("sse4.2"))) uint32_t by_instruction(uint32_t start, const char* data,
                                                          size_t size) {
  static const ShiftTable kShift = shift_table(kBlock);
  uint64_t crc = start;
  while (size >= 3 * kBlock) {
    uint64_t second = 0;
    uint64_t third = 0;
    for (size_t i = 0; i < kBlock; i += 8) {
      crc = _mm_crc32_u64(crc, load(data + i));
      second = _mm_crc32_u64(second, load(data + kBlock + i));
      third = _mm_crc32_u64(third, load(data + 2 * kBlock + i));
    }
    crc = shift(kShift, static_cast<uint32_t>(crc)) ^ second;
    crc = shift(kShift, static_cast<uint32_t>(crc)) ^ third;
    data += 3 * kBlock;
    size -= 3 * kBlock;
  }
  for (; size >= 8; data += 8, size -= 8) crc = _mm_crc32_u64(crc, load(data));
  auto last = static_cast<uint32_t>(crc);
  for (; size > 0; ++data, --size) last = _mm_crc32_u8(last, static_cast<uint8_t>(*data));
  return last;
}
#endif

}  // namespace

uint32_t crc32c(uint32_t crc, std::string_view data) {
  crc = ~crc;
#if defined(__x86_64__)
  static const bool kHasInstruction = __builtin_cpu_supports("sse4.2");
  if (kHasInstruction) return ~by_instruction(crc, data.data(), data.size());
#endif
  return ~by_table(crc, data.data(), data.size());
}

}  // namespace hulse

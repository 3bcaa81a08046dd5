// A schema definition as a client may send it.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "schema/avro_resolution.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hulse;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t half = input.find('\0');
  const auto reader = input.substr(0, half);
  const auto writer = half == std::string_view::npos ? reader : input.substr(half + 1);
  (void)schema::can_read(reader, writer);
  // What is a schema can read itself.
  if (schema::check_avro(reader) && !schema::can_read(reader, reader)) __builtin_trap();
  return 0;
}

// Whatever a socket brings: a frame, its entry, the messages in it.
#include <cstddef>
#include <cstdint>

#include "wire/frame.h"
#include "wire/messages.h"
#include "wire/peek.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hulse;
  const Bytes bytes = Bytes::copy({reinterpret_cast<const char*>(data), size});
  const auto frame = wire::parse_frame(bytes);
  const Bytes entry = frame && !frame->entry.empty() ? frame->entry : bytes;
  (void)wire::verify_checksum(entry.view());
  const auto seen = wire::peek(entry.view());
  if (seen) (void)wire::sticky_hash(*seen);
  const auto messages = wire::decode_messages(entry, {1, 2, -1, -1}, {}, 0, 1 << 20);
  if (!messages) return 0;
  // Every view must point into memory that is still there.
  size_t sum = 0;
  for (const auto& message : (*messages)->list) {
    for (const char c : message.value) sum += static_cast<uint8_t>(c);
    if (message.key) {
      for (const char c : *message.key) sum += static_cast<uint8_t>(c);
    }
    for (const auto& [key, value] : message.properties) sum += key.size() + value.size();
  }
  return sum == SIZE_MAX ? 1 : 0;
}

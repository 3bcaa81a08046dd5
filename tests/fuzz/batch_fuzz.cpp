// A batch payload behind good metadata: what random bytes seldom reach through the checksum.
#include <cstddef>
#include <cstdint>

#include "wire/messages.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hulse;
  if (size < 2) return 0;
  wire::pb::MessageMetadata metadata;
  metadata.set_producer_name("p");
  metadata.set_sequence_id(0);
  metadata.set_publish_time(1);
  metadata.set_num_messages_in_batch(data[0]);
  const auto codec = static_cast<wire::pb::CompressionType>(data[1] % 5);
  const std::string_view payload(reinterpret_cast<const char*>(data) + 2, size - 2);
  // Stored as if it were compressed already, so that decompression meets it too.
  auto entry = wire::encode_entry(metadata, payload, wire::pb::NONE);
  if (!entry) return 0;
  if (codec != wire::pb::NONE) {
    metadata.set_compression(codec);
    metadata.set_uncompressed_size(static_cast<uint32_t>(size) * 3);
    std::string head = metadata.SerializeAsString();
    std::string raw(4, '\0');
    put_u32(raw.data(), static_cast<uint32_t>(head.size()));
    entry = raw + head + std::string(payload);
  }
  const auto messages = wire::decode_messages(Bytes::from(*entry), {1, 2, -1, -1}, {}, 0, 1 << 20);
  size_t sum = 0;
  if (messages) {
    for (const auto& message : (*messages)->list) {
      for (const char c : message.value) sum += static_cast<uint8_t>(c);
    }
  }
  return sum == SIZE_MAX ? 1 : 0;
}

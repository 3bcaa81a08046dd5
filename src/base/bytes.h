// Bytes: an immutable slice of a reference-counted buffer. It is how payloads travel from socket to
// disk and to sinks without a copy. Copying one costs an atomic increment; any thread may hold one.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace hulse {

class Bytes {
 public:
  Bytes() = default;
  // The owner keeps `view` alive.
  Bytes(std::shared_ptr<const void> owner, std::string_view view)
      : owner_(std::move(owner)), view_(view) {}

  static Bytes from(std::string text) {
    auto owner = std::make_shared<const std::string>(std::move(text));
    const std::string_view view = *owner;
    return Bytes(std::move(owner), view);
  }
  static Bytes copy(std::string_view text) { return from(std::string(text)); }

  const char* data() const { return view_.data(); }
  size_t size() const { return view_.size(); }
  bool empty() const { return view_.empty(); }
  std::string_view view() const { return view_; }

  Bytes slice(size_t offset, size_t length = std::string_view::npos) const {
    return Bytes(owner_, view_.substr(offset, length));
  }
  const std::shared_ptr<const void>& owner() const { return owner_; }

 private:
  std::shared_ptr<const void> owner_;
  std::string_view view_;
};

// Big-endian integers, as every length and checksum of the Pulsar protocol.
inline void put_u16(char* out, uint16_t value) {
  out[0] = static_cast<char>(value >> 8);
  out[1] = static_cast<char>(value);
}
inline void put_u32(char* out, uint32_t value) {
  put_u16(out, static_cast<uint16_t>(value >> 16));
  put_u16(out + 2, static_cast<uint16_t>(value));
}
inline void put_u64(char* out, uint64_t value) {
  put_u32(out, static_cast<uint32_t>(value >> 32));
  put_u32(out + 4, static_cast<uint32_t>(value));
}
inline uint16_t get_u16(const char* in) {
  return static_cast<uint16_t>(static_cast<uint8_t>(in[0]) << 8 | static_cast<uint8_t>(in[1]));
}
inline uint32_t get_u32(const char* in) {
  return static_cast<uint32_t>(get_u16(in)) << 16 | get_u16(in + 2);
}
inline uint64_t get_u64(const char* in) {
  return static_cast<uint64_t>(get_u32(in)) << 32 | get_u32(in + 4);
}

// Unsigned LEB128, as protobuf's varint.
void put_varint(std::string& out, uint64_t value);
// Takes one varint off the front of `in`; false when `in` ends within it or it is longer than 64
// bits.
bool get_varint(std::string_view& in, uint64_t& value);

}  // namespace hulse

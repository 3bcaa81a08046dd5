// Meter: messages and bytes that passed, and how fast they did. Lives on the broker's strand.
#pragma once

#include <cstdint>

namespace hulse::broker {

struct Meter {
  uint64_t messages = 0;
  uint64_t bytes = 0;
  // Per second, between the last two samples.
  double message_rate = 0;
  double byte_rate = 0;

  void add(uint64_t more_messages, uint64_t more_bytes) {
    messages += more_messages;
    bytes += more_bytes;
  }
  // `seconds` have passed since the sample before.
  void sample(double seconds) {
    message_rate = static_cast<double>(messages - sampled_messages_) / seconds;
    byte_rate = static_cast<double>(bytes - sampled_bytes_) / seconds;
    sampled_messages_ = messages;
    sampled_bytes_ = bytes;
  }

 private:
  uint64_t sampled_messages_ = 0;
  uint64_t sampled_bytes_ = 0;
};

}  // namespace hulse::broker

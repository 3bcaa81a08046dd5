// What a dead letter (or a message for a retry topic) says of the message it is made of, in the
// properties every Pulsar client uses.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "base/message.h"

namespace hulse::client {

inline constexpr std::string_view kRealTopic = "REAL_TOPIC";
inline constexpr std::string_view kRealSubscription = "REAL_SUBSCRIPTION";
inline constexpr std::string_view kOriginMessageId = "ORIGIN_MESSAGE_ID";
inline constexpr std::string_view kReconsumeTimes = "RECONSUMETIMES";

// Views are of the message, of the arguments, and of itself: it lives as long as it is used.
class DeadLetterProperties {
 public:
  // The message's own, and where it came from. One that is a dead letter or a retry already keeps
  // its first origin: that is what tells two letters of one message from two messages.
  DeadLetterProperties(const Message& message, std::string_view topic,
                       std::string_view subscription);
  DeadLetterProperties(const DeadLetterProperties&) = delete;
  DeadLetterProperties& operator=(const DeadLetterProperties&) = delete;

  // Sets one, instead of what it was.
  void set(std::string_view name, std::string value);

  std::span<const Property> list() const { return list_; }

 private:
  void keep(std::string_view name, std::string_view value);

  std::vector<Property> list_;
  std::deque<std::string> texts_;
};

}  // namespace hulse::client

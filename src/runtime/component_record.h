// What the worker remembers of a component: the value of its record on the topic of components.
// Versioned JSON, readable with any Pulsar client.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "base/result.h"
#include "connect/descriptor.h"
#include "runtime/status.h"

namespace hulse::runtime {

struct ComponentRecord {
  connect::Kind kind = connect::Kind::sink;
  boost::json::object config;  // a SinkConfig or SourceConfig, as given and updated
  int64_t created_ms = 0;      // milliseconds since 1970
  int64_t modified_ms = 0;
  std::set<unsigned> stopped;  // instances that the user stopped
  // Deleted; its subscription waits for the same component to be created again until then.
  std::optional<int64_t> drop_subscription_ms;

  std::string encode() const;
  static Result<ComponentRecord> decode(std::string_view text);  // Code::corrupt
};

// What an instance has counted, kept from life to life.
std::string encode_counters(const Counters& counters);
Result<Counters> decode_counters(std::string_view text);  // Code::corrupt

}  // namespace hulse::runtime

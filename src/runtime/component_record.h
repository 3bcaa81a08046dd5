// What the workers remember of a component and of its instances: the values of their records.
// Versioned JSON, readable with any Pulsar client.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <map>
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
  boost::json::object config;  // a SinkConfig, SourceConfig or FunctionConfig
  // The secrets of `config`, encrypted; `config` then has kRedacted in their place. Empty: it has
  // none but references. sealing.h
  std::string sealed;
  int64_t created_ms = 0;  // milliseconds since 1970
  int64_t modified_ms = 0;
  std::set<unsigned> stopped;  // instances that the user stopped
  // How often the user restarted them: one that runs under another number starts anew.
  std::map<unsigned, uint64_t> restarts;
  // Deleted; its subscription waits for the same component to be created again until then.
  std::optional<int64_t> drop_subscription_ms;

  std::string encode() const;
  static Result<ComponentRecord> decode(std::string_view text);  // Code::corrupt
};

// An instance: who runs it, and what it told last.
struct InstanceRecord {
  std::string worker;  // empty: nobody yet
  bool ended = true;   // that worker runs it no more
  Status status;       // its counters go on from life to life

  std::string encode() const;
  static Result<InstanceRecord> decode(std::string_view text);  // Code::corrupt
};

}  // namespace hulse::runtime

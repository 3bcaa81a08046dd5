// What the runtime tells a connector about the instance it runs as.
#pragma once

#include <map>
#include <string>

#include "aio/task.h"

namespace hulse::connect {

class State;

enum class Guarantee { at_most_once, at_least_once, effectively_once };

// Lives as long as the connector. Its strings never change.
struct Context {
  std::string tenant;
  std::string name_space;
  std::string name;       // of the component
  unsigned instance = 0;  // 0 … instances - 1
  unsigned instances = 1;
  Guarantee guarantee = Guarantee::at_least_once;
  std::string bus_id;  // who the bus is, for identities that leave it (design: "Bus id")
  std::string topic;   // a source's output topic; the first input topic of a sink or function
  // A source's, before it is opened: the last position of each lane (source.h) that is stored.
  std::map<std::string, std::string, std::less<>> positions;
  size_t message_bytes_max = 5 * 1024 * 1024;  // what the broker accepts in one message

  // What the component remembers (state.h). Null where nothing can be remembered: `hulse check`.
  State* state = nullptr;

  // The strand of the instance: open, read, write and close run here.
  aio::Executor executor;

  std::string full_name() const { return tenant + "/" + name_space + "/" + name; }
};

}  // namespace hulse::connect

// What the three protocols have in common: where they run and how they begin and end.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "aio/gate.h"
#include "connectors/netty/inbox.h"
#include "connectors/netty/netty_config.h"

namespace hulse::connectors::netty {

struct Setting {
  NettyConfig config;
  std::string name;  // of the component, for the log
  size_t message_bytes_max = 0;
  std::vector<aio::Executor> loops;  // at least one; where connections live
  std::shared_ptr<Inbox> inbox;
};

// Lives on the instance's strand.
class Listener {
 public:
  virtual ~Listener() = default;
  // Listens, or says why it cannot.
  virtual aio::Task<Result<void>> open() = 0;
  // Ends every connection. Also after a failed open.
  virtual aio::Task<void> close() = 0;
};

std::unique_ptr<Listener> make_tcp(Setting setting);
std::unique_ptr<Listener> make_udp(Setting setting);
std::unique_ptr<Listener> make_http(Setting setting);

}  // namespace hulse::connectors::netty

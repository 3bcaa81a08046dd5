// Opening a listener: what every server needs before its first connection.
#pragma once

#include <string>

#include "aio/task.h"

namespace hulse::aio {

// "127.0.0.1", "::1" or a name that resolves.
Task<Result<Endpoint>> resolve(std::string host, uint16_t port);

// A TCP listener on the caller's executor. Errors name the address and the system's words; a port
// that is taken is Code::busy.
Task<Result<Acceptor>> listen(std::string host, uint16_t port);

// Of accept(): whether to go on after a pause (the process is out of descriptors, say).
bool accept_may_be_retried(const boost::system::error_code& error);

}  // namespace hulse::aio

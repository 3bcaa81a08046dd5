// The broker's part of the web interface: readiness, metrics, lookup and what topics are doing.
#pragma once

#include <optional>

#include "aio/http_server.h"
#include "broker/broker.h"

namespace hulse::broker {

// The refusal of a request whose sender may not make it, from the same table for every path of the
// web interface. Writes what changes something into the log, with who asked. On the broker's
// strand.
aio::Task<std::optional<aio::HttpResponse>> refuse_stranger(Broker& broker,
                                                            const aio::HttpRequest& request);

// Whose request it is, once it was let in; empty: nobody is asked.
aio::Task<std::string> role_of(Broker& broker, const aio::HttpRequest& request);

// Whether a role may read the topic, or write to it. On the broker's strand.
aio::Task<bool> may_use(Broker& broker, std::string role, std::string topic, bool write);

// On the broker's strand. 404 with {"reason": …} for what it does not know.
aio::Task<aio::HttpResponse> handle(Broker& broker, aio::HttpRequest request);

}  // namespace hulse::broker

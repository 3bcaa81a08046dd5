// The broker's part of the web interface: readiness, metrics, lookup and what topics are doing.
#pragma once

#include "aio/http_server.h"
#include "broker/broker.h"

namespace hulse::broker {

// On the broker's strand. 404 with {"reason": …} for what it does not know.
aio::Task<aio::HttpResponse> handle(Broker& broker, aio::HttpRequest request);

}  // namespace hulse::broker

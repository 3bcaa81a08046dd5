// The REST of sources, sinks, functions and the worker: Apache Pulsar's paths, shapes and words.
#pragma once

#include <string>
#include <string_view>

#include "aio/http_server.h"
#include "runtime/worker.h"

namespace hulse::admin {

// Whether the path is one of these.
bool serves(std::string_view path);

// On the worker's strand. Whoever calls it has checked that the caller may.
aio::Task<aio::HttpResponse> handle(runtime::Worker& worker, aio::HttpRequest request);

// The metrics of every instance in Prometheus' text format: Apache Pulsar's names and labels, and
// what those do not say. On the worker's strand.
aio::Task<std::string> metrics_of(runtime::Worker& worker);

}  // namespace hulse::admin

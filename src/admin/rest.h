// The REST of sources, sinks, functions and the worker: Apache Pulsar's paths, shapes and words.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "aio/http_server.h"
#include "runtime/worker.h"

namespace hulse::admin {

// Whether the path is one of these.
bool serves(std::string_view path);

// Who asks, once it is known that they may ask for this path.
struct Caller {
  std::string role;  // empty: nobody is asked who they are
  // Whether they may read the topic, or write to it: a component works with the worker's rights,
  // which may be more than theirs. Without a function they may.
  std::function<aio::Task<bool>(std::string topic, bool write)> may_use;
};

// On the worker's strand. Whoever calls it has checked that the caller may. Each change leaves one
// line of `audit` in the log: who, from where, what without secrets, and what came of it.
aio::Task<aio::HttpResponse> handle(runtime::Worker& worker, aio::HttpRequest request,
                                    Caller caller);
aio::Task<aio::HttpResponse> handle(runtime::Worker& worker, aio::HttpRequest request);

// The metrics of every instance in Prometheus' text format: Apache Pulsar's names and labels, and
// what those do not say. On the worker's strand.
aio::Task<std::string> metrics_of(runtime::Worker& worker);

}  // namespace hulse::admin

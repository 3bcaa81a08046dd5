#include "admin/rest.h"

#include "admin/rest_common.h"

namespace hulse::admin {

aio::HttpResponse refuse(const Error& error) {
  unsigned status = 500;
  switch (error.code()) {
    case Code::invalid: status = 400; break;
    case Code::permission: status = 401; break;
    case Code::not_found: status = 404; break;
    case Code::busy: status = 409; break;
    case Code::unavailable:
    case Code::timeout:
    case Code::closed:
    case Code::cancelled: status = 503; break;
    default: break;
  }
  return refuse(status, error.text());
}

json::array connector_definitions(std::optional<connect::Kind> kind) {
  json::array out;
  for (const auto* connector : connect::registry()) {
    if (kind && connector->kind != *kind) continue;
    const bool sink = connector->kind == connect::Kind::sink;
    json::object one{{"name", connector->name}, {"description", connector->description}};
    one[sink ? "sinkClass" : "sourceClass"] = fmt::format("builtin://{}", connector->name);
    out.push_back(std::move(one));
  }
  return out;
}

bool serves(std::string_view path) {
  return path.starts_with("/admin/v3/") || path == "/admin/v2/worker" ||
         path.starts_with("/admin/v2/worker/") || path.starts_with("/admin/v2/worker-stats/");
}

aio::Task<aio::HttpResponse> handle(runtime::Worker& worker, aio::HttpRequest request) {
  Call call(worker, request);
  // A script that starts the server goes on at once.
  co_await worker.wait_ready();
  auto answered = co_await handle_components(call);
  if (!answered) answered = co_await handle_worker(call);
  if (answered) co_return std::move(*answered);
  co_return refuse(404, fmt::format("{} {} is not served by this version of Hulse", request.method,
                                    request.target));
}

}  // namespace hulse::admin

#include "admin/rest.h"

#include "admin/rest_common.h"
#include "base/log.h"
#include "base/text.h"

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

namespace {

void audit(const Call& call, const aio::HttpResponse& answered) {
  if (call.get() || call.request.method == "HEAD") return;
  const std::string who = call.caller.role.empty() ? "anybody" : json_quote(call.caller.role);
  std::string said;
  std::string noted = call.noted;
  for (char& c : noted) {
    if (static_cast<unsigned char>(c) < ' ') c = ' ';  // one line, whatever a key is called
  }
  if (answered.status >= 300) {
    boost::system::error_code error;
    const auto body = json::parse(answered.body, error);
    const auto* reason =
        !error && body.is_object() ? body.get_object().if_contains("reason") : nullptr;
    if (reason != nullptr) said = "; " + json::serialize(*reason);
  }
  log::info("audit", "{} {} by {} from {}: {}{}{}", call.request.method, call.request.path(), who,
            call.request.peer, answered.status, call.noted.empty() ? "" : "; " + noted, said);
}

}  // namespace

aio::Task<aio::HttpResponse> handle(runtime::Worker& worker, aio::HttpRequest request) {
  Caller nobody;
  co_return co_await handle(worker, std::move(request), std::move(nobody));
}

aio::Task<aio::HttpResponse> handle(runtime::Worker& worker, aio::HttpRequest request,
                                    Caller caller) {
  Call call(worker, request, caller);
  // A script that starts the server goes on at once.
  co_await worker.wait_ready();
  auto answered = co_await handle_components(call);
  if (!answered) answered = co_await handle_worker(call);
  if (!answered) {
    answered = refuse(404, fmt::format("{} {} is not served by this version of Hulse",
                                       request.method, request.target));
  }
  audit(call, *answered);
  co_return std::move(*answered);
}

}  // namespace hulse::admin

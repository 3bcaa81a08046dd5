// /admin/v3/functions: there are none yet, but who asks for them gets an answer.
#include "admin/rest_common.h"

namespace hulse::admin {

Answer handle_functions(Call& call) {
  const auto& parts = call.parts;
  if (parts.size() < 4 || parts[1] != "v3" || (parts[2] != "functions" && parts[2] != "function"))
    co_return std::nullopt;
  if (call.get() && call.is(3, {"connectors"}))
    co_return answer(connector_definitions(std::nullopt));
  if (call.get() && call.is(3, {"builtins"})) co_return answer(json::array());
  if (call.get() && parts.size() == 5) co_return answer(json::array());
  if (call.post() && parts.size() == 6)
    co_return refuse(400, "this version of Hulse runs sources and sinks; functions come later");
  if (parts.size() >= 6) co_return refuse(404, fmt::format("Function {} doesn't exist", parts[5]));
  co_return std::nullopt;
}

}  // namespace hulse::admin

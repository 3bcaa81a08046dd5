// /admin/v2/worker and /admin/v2/worker-stats: this process is the cluster.
#include "admin/rest_common.h"

namespace hulse::admin {

Answer handle_worker(Call& call) {
  if (call.parts.size() < 4 || call.parts[1] != "v2") co_return std::nullopt;
  if (call.parts[2] == "worker-stats" && call.get()) {
    if (call.is(3, {"metrics"}) || call.is(3, {"functionsmetrics"}))
      co_return answer(json::array());
    co_return std::nullopt;
  }
  if (call.parts[2] != "worker") co_return std::nullopt;
  const json::object self{{"workerId", call.worker.options().id},
                          {"workerHostname", call.address.host},
                          {"port", call.address.port}};
  if (call.get() && call.is(3, {"cluster"})) co_return answer(json::array{self});
  if (call.get() && call.is(3, {"cluster", "leader"})) co_return answer(self);
  if (call.get() && call.is(3, {"cluster", "leader", "ready"})) {
    if (call.worker.ready()) co_return answer(true);
    co_return refuse(503, "Leader not yet ready. Please retry again");
  }
  if (call.get() && call.is(3, {"assignments"})) {
    json::array running;
    for (const auto& name : call.worker.assigned()) running.emplace_back(name);
    if (running.empty()) co_return answer(json::object());
    co_return answer(json::object{{call.worker.options().id, std::move(running)}});
  }
  if (call.get() && call.is(3, {"connectors"}))
    co_return answer(connector_definitions(std::nullopt));
  if (call.put() && call.is(3, {"rebalance"})) co_return no_content();  // one worker is in balance
  co_return std::nullopt;
}

}  // namespace hulse::admin

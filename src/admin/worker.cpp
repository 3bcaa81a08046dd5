// /admin/v2/worker and /admin/v2/worker-stats: the workers of the bus, and what runs where.
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
  const auto show = [](const runtime::Member& member) {
    return json::object{
        {"workerId", member.id}, {"workerHostname", member.host}, {"port", member.port}};
  };
  const auto leader = call.worker.leader();
  if (call.get() && call.is(3, {"cluster"})) {
    json::array members;
    for (const auto& member : call.worker.members()) members.push_back(show(member));
    co_return answer(members);
  }
  if (call.get() && call.is(3, {"cluster", "leader"})) {
    if (!leader) co_return refuse(503, "no worker leads yet; please retry again");
    co_return answer(show(*leader));
  }
  if (call.get() && call.is(3, {"cluster", "leader", "ready"})) {
    if (call.worker.ready() && leader) co_return answer(true);
    co_return refuse(503, "Leader not yet ready. Please retry again");
  }
  if (call.get() && call.is(3, {"assignments"})) {
    json::object out;
    for (const auto& [worker, instances] : call.worker.assignments()) {
      json::array list;
      for (const auto& name : instances) list.emplace_back(name);
      out[worker] = std::move(list);
    }
    co_return answer(out);
  }
  if (call.get() && call.is(3, {"connectors"}))
    co_return answer(connector_definitions(std::nullopt));
  if (call.put() && call.is(3, {"rebalance"})) co_return no_content();  // the leader keeps them so
  co_return std::nullopt;
}

}  // namespace hulse::admin

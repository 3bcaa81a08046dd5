// REST of the broker's own storage: snapshots, which `hulse storage backup` copies.
#include "aio/offload.h"
#include "broker/rest_common.h"

namespace hulse::broker {

aio::Task<std::optional<aio::HttpResponse>> handle_storage(Call& call) {
  if (!call.is(0, {"admin", "hulse", "storage", "snapshot"})) co_return std::nullopt;
  auto& shared = call.broker.shared();
  if (call.post()) {
    const auto path = co_await aio::offload(
        shared.disk, [&store = shared.store] { return store.take_snapshot(); });
    if (path) co_return answer(json::object{{"path", *path}});
    co_return refuse(path.error().code() == Code::busy ? 409 : 500, path.error().text());
  }
  if (call.del()) {
    const auto dropped = co_await aio::offload(
        shared.disk, [&store = shared.store] { return store.drop_snapshot(); });
    co_return done(dropped);
  }
  co_return std::nullopt;
}

}  // namespace hulse::broker

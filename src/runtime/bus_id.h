// The bus id: who the bus is, for identities that leave it (Elasticsearch's _id). Random, written
// once to the bus's own state topic, read by everybody.
#pragma once

#include <string>

#include "aio/task.h"
#include "client/client.h"

namespace hulse::runtime {

// The first record with the key `bus-id` on persistent://public/functions/hulse-state; written if
// there is none. Of several writers at once the first one in the topic counts for all.
aio::Task<Result<std::string>> bus_id(client::Client& client);

}  // namespace hulse::runtime

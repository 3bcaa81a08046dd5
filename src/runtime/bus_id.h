// The bus id: who the bus is, for identities that leave it (Elasticsearch's _id). Random, written
// once to the bus's own state topic, read by everybody.
#pragma once

#include <string>

#include "aio/task.h"
#include "client/client.h"

namespace hulse::runtime {

// Where Pulsar keeps what its own workers remember.
inline constexpr const char* kStateNamespace = "public/functions";

// The key `bus-id` of the key-value topic `hulse-state` of that namespace; written if it is not
// there. Of several writers at once the first one in the topic counts for all.
aio::Task<Result<std::string>> bus_id(client::Client& client, std::string name_space);

}  // namespace hulse::runtime

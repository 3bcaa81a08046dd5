// Compaction of a topic: of each key the newest message stays, under its own id, in a store of its
// own that consumers and readers with read_compacted see in the place of what lies before its
// horizon. As Pulsar's: an empty value deletes its key, messages without a key are left out.
#pragma once

#include "broker/topic.h"

namespace hulse::broker {

// Reads the topic twice (what was compacted before, then what came since) and writes what stays;
// what readers see changes at once when all of it is durable. Memory: the keys. Runs on the
// broker's strand, the work on the disk executor; one at a time per topic.
aio::Task<Result<void>> compact(std::shared_ptr<Topic> topic);

}  // namespace hulse::broker

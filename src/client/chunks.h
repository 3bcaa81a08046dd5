// Chunks: large messages that come in several entries, while they are not complete. Used by
// Consumer.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "aio/clock.h"
#include "wire/messages.h"

namespace hulse::client {

using Position = std::pair<uint64_t, uint64_t>;  // ledger, entry

struct ChunkLimits {
  size_t messages_max = 100;                         // incomplete at once
  size_t bytes_max = 64 << 20;                       // of all of them, and of a complete one
  aio::Duration age_max = std::chrono::seconds(60);  // without a further chunk
};

// What was given up: its entries, and why.
struct DroppedChunks {
  std::vector<Position> parts;
  std::string bytes;  // of its first chunks, as they came
  Error why;
};

class Chunks {
 public:
  explicit Chunks(ChunkLimits limits) : limits_(limits) {}

  struct Complete {
    std::string joined;
    std::vector<Position> parts;  // without the last one
  };
  // What a chunk leads to: nothing yet, a whole message, or the end of one that cannot become
  // whole. `duplicate`: of a message that is complete already, sent again by a producer that lost
  // the receipt; nobody needs it.
  struct Outcome {
    std::optional<Complete> complete;
    bool duplicate = false;
    std::vector<DroppedChunks> dropped;
  };
  Outcome add(const wire::pb::MessageMetadata& metadata, std::string_view payload,
              Position position);

  // Those without a further chunk for too long.
  std::vector<DroppedChunks> expire();
  void clear();

  bool empty() const { return open_.empty(); }
  // Nothing up to here may be acknowledged with what comes after it.
  std::optional<Position> first() const;

 private:
  struct Open {
    std::string bytes;
    int32_t next = 0;
    int32_t total = 0;
    uint64_t published = 0;
    std::vector<Position> parts;
    aio::TimePoint touched{};
  };
  using Map = std::map<std::string, Open>;
  DroppedChunks drop(Map::iterator at, Error why);

  const ChunkLimits limits_;
  Map open_;  // by uuid
  // Of the last complete ones: uuid and publish time. A producer that begins anew under its name
  // may give uuids again ("name-0"); what is sent again has its first time.
  std::deque<std::pair<std::string, uint64_t>> done_;
  size_t bytes_ = 0;
};

}  // namespace hulse::client

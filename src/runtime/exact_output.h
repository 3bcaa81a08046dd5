// ExactOutput: the output topic of a source under EFFECTIVELY_ONCE: nothing is in it twice.
//
// Each entry carries, in a property of its outer metadata that consumers do not see, the last
// position of each lane in it: what is stored and how far it goes are one write. A producer has a
// fixed name, so that no two lives can write at once; when it opens, what this name has stored
// behind the offset is read back, and records at or below that are left out. When its connection is
// lost, the producer fails instead of coming back: what has become of what was on its way, and
// whether another life was there meanwhile, only the topic knows, and the next life reads that.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "client/client.h"
#include "connect/source.h"
#include "runtime/source_offsets.h"

namespace hulse::runtime {

// The entry property: a JSON object, lane → position in Base64.
inline constexpr const char* kPositionProperty = "__hulse_pos";

// Lives on the client's strand. Closed before it is destroyed; client and offsets outlive it.
class ExactOutput {
 public:
  // All records are stored, or why not; with the topic and the entry of the last one, if it was
  // not there already.
  struct Stored {
    Result<void> result;
    std::map<std::string, MessageId> last;
  };
  using Done = std::function<void(Stored)>;

  // `options` with the topic, as a user gave it, and the fixed name.
  ExactOutput(client::Client& client, client::ProducerOptions options, SourceOffsets& offsets);

  aio::Task<Result<void>> open();
  // Copies the records; opens what they go to. The number of those that were stored already.
  // Records of a lane stay in one partition, or go where their keys say.
  aio::Task<Result<size_t>> send(const connect::SourceBatch& batch, Done done);
  aio::Task<bool> wait_for_room();
  aio::Task<Result<void>> flush();
  aio::Task<void> close();

  size_t message_bytes_max() const { return destinations_.front().message_bytes_max(); }
  // What cannot be known for certain, since it was last asked for; empty: nothing.
  std::string take_doubt() { return std::exchange(doubt_, {}); }

 private:
  struct Mark {
    std::string lane;
    std::string position;
  };
  struct Destination {
    std::string topic;
    std::shared_ptr<client::Producer> producer;
    Positions stored;        // by earlier lives
    std::deque<Mark> marks;  // of messages that are in no entry yet
    uint64_t first_mark = 0;
    size_t message_bytes_max() const {
      return producer ? producer->message_bytes_max() : wire::kMessageBytesMax;
    }
  };

  aio::Task<Result<void>> open_destination(Destination& destination);
  aio::Task<Result<void>> read_back(Destination& destination, MessageId from);
  static void mark_entry(Destination& destination, std::span<const uint64_t> tokens,
                         wire::pb::MessageMetadata& metadata);

  client::Client& client_;
  const client::ProducerOptions options_;
  SourceOffsets& offsets_;
  std::deque<Destination> destinations_;  // by partition; they stay where they are
  std::vector<std::vector<wire::Outgoing>> sorted_;
  std::string doubt_;
};

}  // namespace hulse::runtime

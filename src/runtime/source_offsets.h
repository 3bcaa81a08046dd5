// SourceOffsets: how far an instance of a source has come, kept on a topic of its own.
//
//   persistent://NAMESPACE/hulse-offsets:TENANT:NAMESPACE:NAME:INDEX
//   key tenant/namespace/name/index → {"v":1,"positions":{lane: Base64},"readFrom":{topic:
//   "ledger:entry"}}
//
// One record is one atomic change, and names the one it replaces: of two owners the one that knows
// less is refused.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "client/client.h"
#include "client/key_value_topic.h"

namespace hulse::runtime {

// Positions by lane (connect/source.h).
using Positions = std::map<std::string, std::string, std::less<>>;

struct Offset {
  // The last of each lane below which every record is stored, on all topics, or was left out.
  Positions positions;
  // By topic: whatever this instance stored in it behind the positions lies there or later.
  std::map<std::string, MessageId> read_from;
  uint64_t records = 0;  // how many the positions stand for

  std::string encode() const;
  static Result<Offset> decode(std::string_view text);  // Code::corrupt
};

struct OffsetsOptions {
  std::string name_space;  // of the workers' topics
  std::string component;   // tenant/namespace/name
  unsigned index = 0;
};

// Lives on the client's strand. Closed before it is destroyed.
class SourceOffsets {
 public:
  static aio::Task<Result<std::unique_ptr<SourceOffsets>>> open(client::Client& client,
                                                                OffsetsOptions options);

  const Offset& offset() const { return offset_; }
  // One change after the other, each made on what the one before has left. Code::busy: another
  // instance is the owner now.
  aio::Task<Result<void>> change(std::function<void(Offset&)> change);
  // Of an instance that will not come back.
  aio::Task<Result<void>> forget();
  aio::Task<void> close();

 private:
  SourceOffsets(aio::Executor executor, std::shared_ptr<client::KeyValueTopic> topic,
                std::string key);
  const std::shared_ptr<client::KeyValueTopic> topic_;
  const std::string key_;
  uint64_t version_ = 0;
  bool changing_ = false;
  aio::Event changed_;
  Offset offset_;
};

}  // namespace hulse::runtime

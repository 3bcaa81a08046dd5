// SourceInstance: reads a source and writes to its topic. Back-pressure: nothing is read while the
// output has no room. A source that can be read again goes on behind its stored offset.
#pragma once

#include <deque>

#include "runtime/exact_output.h"
#include "runtime/instance.h"

namespace hulse::runtime {

class SourceInstance : public Instance {
 public:
  using Instance::Instance;

 private:
  // A batch on its way into the topic.
  struct Sent {
    size_t records = 0;
    aio::TimePoint began = aio::Clock::now();
    Positions positions;  // the last of each lane
    std::map<std::string, MessageId> last;
    std::function<void(const Result<void>&)> told;
    bool stored = false;
  };

  aio::Task<Ended> life() override;
  aio::Task<Result<void>> open_output();
  aio::Task<void> close_output();
  aio::Task<Ended> pump(connect::Source& source);
  aio::Task<Result<void>> send(connect::SourceBatch batch);
  void settle(const std::shared_ptr<Sent>& sent, const Result<void>& result);
  aio::Task<void> keep_offset();
  aio::Task<Result<void>> store_offset();
  void end(Ended ended);
  bool exact() const { return component_.guarantee == connect::Guarantee::effectively_once; }

  // Of this life. One of the two outputs, and the offsets of a source that has positions.
  std::shared_ptr<client::TopicProducer> producer_;
  std::unique_ptr<ExactOutput> exact_;
  std::unique_ptr<SourceOffsets> offsets_;
  std::unique_ptr<aio::Gate> work_;
  std::unique_ptr<aio::Event> changed_;
  std::deque<std::shared_ptr<Sent>> sent_;
  Positions reached_;  // of the batches that are stored, up to the first that is not
  std::map<std::string, MessageId> reached_in_;
  std::vector<std::function<void(const Result<void>&)>> to_tell_;  // when reached_ is stored
  uint64_t reached_records_ = 0;
  bool unstored_ = false;
  std::optional<Ended> ended_;
  std::vector<wire::Outgoing> outgoing_;  // kept for its memory
};

}  // namespace hulse::runtime

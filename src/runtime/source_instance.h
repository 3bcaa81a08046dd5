// SourceInstance: reads a source and writes to its topic. Back-pressure: nothing is read while the
// producer has no room.
#pragma once

#include "runtime/instance.h"

namespace hulse::runtime {

class SourceInstance : public Instance {
 public:
  using Instance::Instance;

 private:
  aio::Task<Ended> life() override;
  aio::Task<Ended> pump(connect::Source& source, client::TopicProducer& producer);
  void send(client::TopicProducer& producer, connect::SourceBatch batch);

  std::vector<wire::Outgoing> outgoing_;  // kept for its memory
};

}  // namespace hulse::runtime

// FunctionSink: makes a sink of a function, so that everything the runtime does for a sink
// (subscriptions, retries, dead letters, acknowledgement, counting) it does for a function. What it
// "writes to" is the function and then the output topics.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "aio/gate.h"
#include "client/client.h"
#include "connect/sink.h"
#include "functions/descriptor.h"
#include "runtime/component.h"
#include "runtime/status.h"

namespace hulse::runtime {

// In the properties of what a function publishes: which message it was made of.
inline constexpr std::string_view kInputTopic = "__pfn_input_topic__";
inline constexpr std::string_view kInputMessageId = "__pfn_input_msg_id__";
// As Pulsar writes it there: MessageIdData in Base64.
std::string input_message_id(const MessageId& id);
std::optional<MessageId> parse_input_message_id(std::string_view text);

// Lives on the instance's strand. `component`, `client` and `latency` outlive it.
class FunctionSink : public connect::Sink {
 public:
  FunctionSink(const Component& component, client::Client& client, Latency& latency,
               std::unique_ptr<functions::Function> function);
  ~FunctionSink() override;

  aio::Task<Result<void>> open(const connect::Context& context) override;
  aio::Task<void> write(connect::RecordBatch batch) override;
  aio::Task<void> flush() override;
  aio::Task<void> close() override;

 private:
  using TopicProducer = std::shared_ptr<client::TopicProducer>;
  struct Work;

  aio::Task<void> run(std::shared_ptr<Work> work);
  aio::Task<void> publish(std::shared_ptr<Work> work);
  aio::Task<Result<TopicProducer>> producer_for(std::string topic);
  void send(const std::shared_ptr<Work>& work, client::TopicProducer& producer, size_t first,
            size_t end);
  void fail(Work& work, uint32_t input, connect::Verdict verdict, const Error& why);
  void done(Work& work, uint32_t input);

  const Component& component_;
  client::Client& client_;
  Latency& latency_;
  const std::unique_ptr<functions::Function> function_;
  aio::Gate gate_;
  aio::Event changed_;
  std::map<std::string, TopicProducer> producers_;  // by topic; the output topic is the empty one
  size_t processing_ = 0;                           // batches the function has
  size_t in_flight_ = 0;                            // batches without all outcomes
  uint64_t given_ = 0;                              // turns to publish: given out,
  uint64_t turn_ = 0;                               // and whose it is
};

}  // namespace hulse::runtime

// LogTopic: the log lines of one instance, on a topic, as Apache Pulsar writes them: the text as
// the message, the properties loglevel, instance (its number) and fqn (tenant/namespace/name).
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <string>

#include "aio/gate.h"
#include "base/log.h"
#include "client/client.h"
#include "runtime/component.h"

namespace hulse::runtime {

// Lives on the client's strand; the client outlives it. Lines come from any thread and never wait:
// what does not find room is dropped, counted, and told once there is room again. Nothing is opened
// before the first line. Closed before it is destroyed.
class LogTopic {
 public:
  // `label`: the part under which the instance's lines are logged.
  LogTopic(client::Client& client, const Component& component, unsigned index, std::string label);
  ~LogTopic();

  // Sends what is held, for a moment at the most.
  aio::Task<void> close();

 private:
  struct Line {
    log::Level level;
    std::string text;
  };
  // Shared with the lines that are on their way here.
  struct Inbox {
    explicit Inbox(aio::Executor executor) : changed(executor) {}
    std::deque<Line> lines;
    aio::Event changed;
    std::atomic<size_t> bytes{0};
    std::atomic<uint64_t> dropped{0};
  };

  aio::Task<void> run();
  aio::Task<Result<void>> open();
  void send(const Line& line);
  aio::Task<void> report_dropped();
  aio::Task<Result<void>> drain();

  client::Client& client_;
  const std::string topic_;
  const std::string name_;
  const std::string instance_;
  const std::shared_ptr<Inbox> inbox_;
  std::shared_ptr<client::TopicProducer> producer_;
  aio::Gate gate_;
  std::unique_ptr<log::Listener> listener_;
};

}  // namespace hulse::runtime

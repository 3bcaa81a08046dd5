#include "runtime/log_topic.h"

#include <boost/asio/post.hpp>

#include "aio/backoff.h"
#include "aio/timeout.h"

namespace hulse::runtime {
namespace {

constexpr std::string_view kPart = "log topic";  // not the instance's, or it would feed itself
constexpr size_t kBytesMax = 1 << 20;
constexpr aio::Duration kCloseMax = std::chrono::seconds(2);
constexpr aio::Duration kReportEvery = std::chrono::seconds(1);

std::string_view name_of(log::Level level) {
  switch (level) {
    case log::Level::debug: return "DEBUG";
    case log::Level::info: return "INFO";
    case log::Level::warn: return "WARN";
    case log::Level::error:
    case log::Level::off: return "ERROR";
  }
  return "INFO";
}

}  // namespace

LogTopic::LogTopic(client::Client& client, const Component& component, unsigned index,
                   std::string label)
    : client_(client),
      topic_(component.log_topic),
      name_(component.full_name()),
      instance_(std::to_string(index)),
      inbox_(std::make_shared<Inbox>(client.executor())),
      gate_(client.executor()) {
  listener_ = std::make_unique<log::Listener>(
      std::move(label),
      [inbox = inbox_, executor = client.executor()](log::Level level, std::string_view text) {
        if (inbox->bytes + text.size() > kBytesMax) {
          ++inbox->dropped;
          return;
        }
        inbox->bytes += text.size();
        aio::asio::post(executor, [inbox, line = Line{level, std::string(text)}]() mutable {
          inbox->lines.push_back(std::move(line));
          inbox->changed.notify();
        });
      });
  gate_.spawn("log topic " + topic_, run());
  gate_.spawn("dropped lines of " + name_, report_dropped());
}

LogTopic::~LogTopic() = default;

aio::Task<Result<void>> LogTopic::open() {
  client::ProducerOptions options;
  options.topic = topic_;
  options.linger = std::chrono::milliseconds(100);
  options.properties = {{"function", name_}};
  auto producer = co_await client_.create_topic_producer(std::move(options));
  if (!producer) co_return producer.error();
  producer_ = std::move(*producer);
  co_return Result<void>();
}

aio::Task<void> LogTopic::run() {
  aio::Backoff backoff({std::chrono::seconds(1), std::chrono::seconds(60)});
  for (;;) {
    while (inbox_->lines.empty()) {
      const bool woken = co_await inbox_->changed.wait();
      if (!woken) co_return;
    }
    if (!producer_) {
      const auto opened = co_await open();
      if (!opened) {
        if (opened.error().cancelled()) co_return;
        log::warn(kPart, "the lines of {} do not reach {}: {}", name_, topic_,
                  opened.error().text());
        const bool slept = co_await aio::sleep(backoff.next());
        if (!slept) co_return;
        continue;
      }
      backoff.reset();
    }
    const bool room = co_await producer_->wait_for_room();
    if (!room) {
      const bool stopping = co_await aio::cancelled();
      if (stopping) co_return;
      // It has failed for good: another one may not.
      const auto failed = std::exchange(producer_, nullptr);
      co_await failed->close();
      continue;
    }
    send(inbox_->lines.front());
    inbox_->lines.pop_front();
  }
}

void LogTopic::send(const Line& line) {
  const Property properties[] = {
      {"loglevel", name_of(line.level)}, {"instance", instance_}, {"fqn", name_}};
  const wire::Outgoing message{.value = line.text, .properties = properties};
  producer_->send({&message, 1}, [inbox = inbox_, size = line.text.size()](const auto& id) {
    inbox->bytes -= size;
    if (!id) ++inbox->dropped;
  });
}

aio::Task<void> LogTopic::report_dropped() {
  for (;;) {
    const bool slept = co_await aio::sleep(kReportEvery);
    if (!slept) co_return;
    const auto producer = producer_;
    const uint64_t count = producer ? inbox_->dropped.exchange(0) : 0;
    if (count == 0) continue;
    const auto text =
        fmt::format("{} log lines were dropped: {} did not take them fast enough", count, topic_);
    log::warn(kPart, "{}: {}", name_, text);
    const bool room = co_await producer->wait_for_room();
    if (!room || !producer_) continue;
    inbox_->bytes += text.size();
    send({log::Level::warn, text});
  }
}

aio::Task<Result<void>> LogTopic::drain() {
  while (!inbox_->lines.empty()) {
    send(inbox_->lines.front());
    inbox_->lines.pop_front();
  }
  co_return co_await producer_->flush();
}

aio::Task<void> LogTopic::close() {
  listener_.reset();
  co_await gate_.close();
  if (!producer_ && !inbox_->lines.empty()) {
    const auto opened = co_await aio::with_timeout(kCloseMax, "opening " + topic_, open());
    if (!opened) log::warn(kPart, "{}: {}", name_, opened.error().text());
  }
  if (producer_) {
    const auto sent = co_await aio::with_timeout(kCloseMax, "writing to " + topic_, drain());
    if (!sent) log::warn(kPart, "the last lines of {}: {}", name_, sent.error().text());
    co_await producer_->close();
    producer_.reset();
  }
}

}  // namespace hulse::runtime

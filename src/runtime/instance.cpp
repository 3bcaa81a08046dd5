#include "runtime/instance.h"

#include "base/log.h"
#include "runtime/function_instance.h"
#include "runtime/sink_instance.h"
#include "runtime/source_instance.h"

namespace hulse::runtime {
namespace {

constexpr aio::Duration kRestartInitial = std::chrono::milliseconds(500);
// A life this long was a good one: the next restart begins counting anew.
constexpr aio::Duration kGoodLife = std::chrono::seconds(30);
constexpr size_t kFailuresKept = 10;

}  // namespace

Instance::Instance(std::shared_ptr<const Component> component, unsigned index, const Bus& bus,
                   aio::Executor executor, const Counters& counters)
    : owned_(std::move(component)),
      index_(index),
      bus_(bus),
      executor_(executor),
      context_{.executor = executor},
      counters_(counters) {
  context_.tenant = component_.tenant;
  context_.name_space = component_.name_space;
  context_.name = component_.name;
  context_.instance = index;
  context_.instances = component_.parallelism;
  context_.guarantee = component_.guarantee;
  context_.bus_id = bus.id;
  context_.topic =
      component_.kind == connect::Kind::source ? component_.output : component_.reads();
  context_.executor = executor;
}

Instance::~Instance() = default;

std::string Instance::label() const {
  const auto kind = connect::to_string(component_.kind);
  return component_.parallelism == 1
             ? fmt::format("{} {}", kind, component_.full_name())
             : fmt::format("{} {}/{}", kind, component_.full_name(), index_);
}

Ended Instance::after_open(const Error& why) {
  const bool for_good =
      why.code() == Code::invalid || why.code() == Code::permission || why.code() == Code::busy ||
      why.code() == Code::not_found;  // a namespace, or a topic where none is made by itself
  return {why, for_good};
}

void Instance::running(std::string_view where) {
  state_ = State::running;
  reason_.clear();
  log::info(label(), "running: {}", where);
}

void Instance::note_failure(const std::string& text) {
  ++counters_.failures;
  if (failures_.size() == kFailuresKept) failures_.pop_front();
  failures_.push_back({text, aio::wall_ms()});
}

void Instance::retrying(const Error& why, aio::Duration wait) {
  state_ = State::retrying;
  reason_ = why.text();
  note_failure(reason_);
  ++counters_.restarts;
  log::warn(label(), "{}; starting again in {} ms (restart {})", why.text(),
            std::chrono::duration_cast<std::chrono::milliseconds>(wait).count(),
            counters_.restarts);
}

aio::Task<void> Instance::run() {
  const auto self = shared_from_this();
  auto client = client::Client::make(executor_, bus_.client);
  if (!client) {
    state_ = State::failed;
    reason_ = client.error().text();
    note_failure(reason_);
    co_return;
  }
  client_ = std::move(*client);
  remembered_ = std::make_unique<StateStore>(*client_, bus_.name_space, component_.full_name());
  context_.state = remembered_.get();
  if (!component_.log_topic.empty())
    log_topic_ = std::make_unique<LogTopic>(*client_, component_, index_, label());
  aio::Backoff backoff({kRestartInitial, component_.policy.restart_max});
  int64_t restarts_in_a_row = 0;
  for (;;) {
    state_ = State::starting;
    const auto began = aio::Clock::now();
    const uint64_t written = counters_.written;
    const Ended ended = co_await life();
    if (ended.why.cancelled()) {
      state_ = State::stopped;
      break;
    }
    if (counters_.written > written || aio::Clock::now() - began > kGoodLife) {
      backoff.reset();
      restarts_in_a_row = 0;
    }
    const int64_t most = component_.policy.restarts_max;
    if (ended.for_good || (most > 0 && restarts_in_a_row >= most)) {
      state_ = State::failed;
      reason_ = ended.why.text();
      note_failure(reason_);
      log::error(label(), "failed: {}", reason_);
      break;
    }
    ++restarts_in_a_row;
    const auto wait = backoff.next();
    retrying(ended.why, wait);
    const bool slept = co_await aio::sleep(wait);
    if (!slept) {
      state_ = State::stopped;
      break;
    }
  }
  co_await remembered_->close();
  if (log_topic_) co_await log_topic_->close();
  co_await client_->stop();
}

std::shared_ptr<Instance> make_instance(std::shared_ptr<const Component> component, unsigned index,
                                        const Bus& bus, aio::Executor executor,
                                        const Counters& counters) {
  if (component->kind == connect::Kind::function)
    return std::make_shared<FunctionInstance>(std::move(component), index, bus, executor, counters);
  if (component->kind == connect::Kind::sink)
    return std::make_shared<SinkInstance>(std::move(component), index, bus, executor, counters);
  return std::make_shared<SourceInstance>(std::move(component), index, bus, executor, counters);
}

}  // namespace hulse::runtime

#include "runtime/instance.h"

#include "base/log.h"
#include "base/secret.h"
#include "config/secret_reference.h"
#include "runtime/function_instance.h"
#include "runtime/sink_instance.h"
#include "runtime/source_instance.h"

namespace hulse::runtime {
namespace {

constexpr aio::Duration kRestartInitial = std::chrono::milliseconds(500);
// A life this long was a good one: the next restart begins counting anew.
constexpr aio::Duration kGoodLife = std::chrono::seconds(30);
constexpr size_t kFailuresKept = 10;
constexpr size_t kHiddenBytesMin = 4;

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
  const auto each = static_cast<double>(component_.parallelism);
  limit_ = RateLimit(static_cast<double>(component_.policy.records_per_second) / each,
                     static_cast<double>(component_.policy.bytes_per_second) / each);
  meters_.records_limit = limit_.records();
  meters_.bytes_limit = limit_.bytes();
  written_ = counters.written;
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

Result<config::Given> Instance::given() {
  auto resolved = resolve_secrets(component_.fields(), component_.given, bus_.secrets);
  if (resolved) {
    hidden_.clear();
    const auto hide = [&](const std::string&, const boost::json::value& value) {
      // A short one stands in ordinary words.
      if (value.is_string() && value.get_string().size() >= kHiddenBytesMin)
        hidden_.emplace_back(value.get_string());
    };
    config::visit_secrets(component_.fields(), resolved->values, hide);
    for (const auto& [name, value] : resolved->secrets) hide({}, value);
    for (auto& one : config::url_credentials(resolved->values)) {
      if (one.size() >= kHiddenBytesMin) hidden_.push_back(std::move(one));
    }
    return resolved;
  }
  // A file that is mounted late, or is being exchanged: it is looked for again.
  return Error(Code::unavailable, resolved.error().text());
}

Error Instance::masked(const Error& error) const {
  std::string text = error.text();
  bool found = false;
  for (const auto& secret : hidden_) {
    for (size_t at = text.find(secret); at != std::string::npos; at = text.find(secret, at)) {
      text.replace(at, secret.size(), kRedacted);
      found = true;
    }
  }
  return found ? Error(error.code(), text) : error;
}

void Instance::running(std::string_view where) {
  state_ = State::running;
  reason_.clear();
  log::info(label(), "running: {}", where);
}

void Instance::note_failure(std::string_view led_to, Code code, Failure failure) {
  ++counters_.failures;
  ++meters_.failures[{std::string(led_to), code}];
  if (failures_.size() == kFailuresKept) failures_.pop_front();
  failure.at_ms = aio::wall_ms();
  failures_.push_back(std::move(failure));
}

// The worker asks once a second, which is as fine as a speed has to be.
Status Instance::status() {
  const auto now = aio::Clock::now();
  records_out_.add(counters_.written - std::exchange(written_, counters_.written), now);
  meters_.records_in = records_in_.per_second(now);
  meters_.records_out = records_out_.per_second(now);
  meters_.bytes_in = bytes_in_.per_second(now);
  return {state_,
          reason_,
          counters_,
          failures_,
          last_received_ms_,
          meters_,
          latency_,
          minute_.since(now, counters_, latency_)};
}

void Instance::came_in(size_t records, size_t bytes) {
  const auto now = aio::Clock::now();
  last_received_ms_ = aio::wall_ms();
  counters_.received += records;
  counters_.in_flight += records;
  meters_.batch_records.observe(static_cast<double>(records));
  records_in_.add(records, now);
  bytes_in_.add(bytes, now);
  if (limit_.limits()) limit_.charge(records, bytes, now);
}

aio::Task<bool> Instance::wait_for_limit() {
  for (;;) {
    const auto began = aio::Clock::now();
    const auto wait = limit_.wait(began);
    if (wait <= aio::Duration::zero()) co_return true;
    const bool slept = co_await aio::sleep(wait);
    meters_.limited_ms += static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(aio::Clock::now() - began).count());
    if (!slept) co_return false;
  }
}

void Instance::retrying(const Error& why, aio::Duration wait) {
  state_ = State::retrying;
  reason_ = why.text();
  note_failure("restart", why.code(), {.text = reason_});
  ++counters_.restarts;
  log::warn(label(), "{}; starting again in {} ms (restart {})", why.text(),
            std::chrono::duration_cast<std::chrono::milliseconds>(wait).count(),
            counters_.restarts);
}

aio::Task<void> Instance::run() {
  const auto self = shared_from_this();
  auto client = bus_.clients->on(executor_);
  if (!client) {
    state_ = State::failed;
    reason_ = client.error().text();
    note_failure("fatal", client.error().code(), {.text = reason_});
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
    Ended ended = co_await life();
    ended.why = masked(ended.why);
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
      note_failure("fatal", ended.why.code(), {.text = reason_});
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

#include "functions/identity.h"

namespace hulse::functions {
namespace {

struct Config {
  std::string counter_key;
};

constexpr config::Field kFields[] = {
    config::field<&Config::counter_key>(
        "counterKey", "Key of the state under which the records are counted; empty: they are not."),
};

constexpr std::string_view kClasses[] = {
    "org.apache.pulsar.functions.api.utils.IdentityFunction",
};

class Identity : public Function {
 public:
  explicit Identity(Config config) : config_(std::move(config)) {}

  aio::Task<Result<void>> open(const connect::Context& context) override {
    state_ = context.state;
    co_return Result<void>();
  }

  aio::Task<Answers> process(const connect::RecordBatch& batch) override {
    Answers answers;
    if (!config_.counter_key.empty() && state_ != nullptr) {
      const auto size = static_cast<int64_t>(batch.size());
      const auto counted = co_await state_->increment(config_.counter_key, size);
      if (!counted) {
        for (uint32_t i = 0; i < batch.size(); ++i)
          answers.failures.push_back({i, connect::Verdict::retry, counted.error()});
        co_return answers;
      }
    }
    answers.outputs.reserve(batch.size());
    for (uint32_t i = 0; i < batch.size(); ++i) {
      const auto& record = batch[i];
      answers.outputs.push_back({.input = i,
                                 .value = record.value,
                                 .key = record.key,
                                 .event_time = record.event_time,
                                 .null_value = record.null_value});
    }
    co_return answers;
  }

  aio::Task<void> close() override { co_return; }

 private:
  const Config config_;
  connect::State* state_ = nullptr;
};

Result<std::unique_ptr<Function>> make(const config::Given& given) {
  auto parsed = config::parse<Config>(kFields, given);
  if (!parsed) return std::move(parsed).error();
  return std::unique_ptr<Function>(std::make_unique<Identity>(std::move(*parsed)));
}

}  // namespace

constexpr Descriptor kIdentity{
    .name = "identity",
    .description = "Copies each record to the output topic; counts them in the state if told to.",
    .classes = kClasses,
    .fields = kFields,
    .batches_max = 64,  // it may wait for the state
    .make = &make};

}  // namespace hulse::functions

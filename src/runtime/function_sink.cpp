#include "runtime/function_sink.h"

#include "base/base64.h"
#include "base/log.h"
#include "runtime/output_options.h"
#include "wire/frame.h"

namespace hulse::runtime {
namespace {

using connect::Verdict;

// Others than the output topic, which a function may name record by record.
constexpr size_t kTopicsMax = 1000;

// What goes with each output, gathered for one batch.
class Properties {
 public:
  Properties(const connect::RecordBatch& batch, bool forward) : batch_(batch), forward_(forward) {}

  std::span<const Property> of(const functions::Output& output) {
    const auto& record = batch_[output.input];
    auto& list = lists_.emplace_back();
    const auto set = [&](std::string_view name) {
      for (const auto& [known, value] : output.properties) {
        if (known == name) return true;
      }
      return name == kInputTopic || name == kInputMessageId;
    };
    if (forward_) {
      for (const auto& property : record.properties) {
        if (!set(property.first)) list.push_back(property);
      }
    }
    list.insert(list.end(), output.properties.begin(), output.properties.end());
    list.emplace_back(kInputTopic, batch_.topic());
    list.emplace_back(kInputMessageId, ids_.emplace_back(input_message_id(record.id)));
    return list;
  }

 private:
  const connect::RecordBatch& batch_;
  const bool forward_;
  std::deque<std::vector<Property>> lists_;  // a deque: what was handed out stays where it is
  std::deque<std::string> ids_;
};

}  // namespace

std::string input_message_id(const MessageId& id) {
  wire::pb::MessageIdData data;
  data.set_ledgerid(static_cast<uint64_t>(id.ledger));
  data.set_entryid(static_cast<uint64_t>(id.entry));
  if (id.partition >= 0) data.set_partition(id.partition);
  if (id.batch_index >= 0) data.set_batch_index(id.batch_index);
  return base64_encode(data.SerializeAsString());
}

std::optional<MessageId> parse_input_message_id(std::string_view text) {
  const auto bytes = base64_decode(text);
  wire::pb::MessageIdData data;
  if (!bytes || !data.ParseFromString(*bytes)) return std::nullopt;
  return MessageId{static_cast<int64_t>(data.ledgerid()), static_cast<int64_t>(data.entryid()),
                   data.has_partition() ? data.partition() : -1,
                   data.has_batch_index() ? data.batch_index() : -1};
}

// A batch from the function to the receipts of its outputs.
struct FunctionSink::Work {
  explicit Work(connect::RecordBatch taken) : batch(std::move(taken)), open(batch.size(), 0) {}
  connect::RecordBatch batch;
  functions::Answers answers;
  std::vector<uint32_t> open;  // outputs of each record without a receipt, and 1 until all are sent
  size_t left = 0;             // records without an outcome
};

FunctionSink::FunctionSink(const Component& component, client::Client& client, Latency& latency,
                           std::unique_ptr<functions::Function> function)
    : component_(component),
      client_(client),
      latency_(latency),
      function_(std::move(function)),
      gate_(client.executor()),
      changed_(client.executor()) {}

FunctionSink::~FunctionSink() = default;

aio::Task<Result<void>> FunctionSink::open(const connect::Context& context) {
  const auto opened = co_await function_->open(context);
  if (!opened) co_return opened.error();
  if (component_.output.empty()) co_return Result<void>();
  const auto output = co_await producer_for("");
  if (!output) co_return output.error();
  co_return Result<void>();
}

aio::Task<void> FunctionSink::write(connect::RecordBatch batch) {
  const size_t most = component_.function->batches_max;
  while (processing_ >= most) {
    const bool woken = co_await changed_.wait();
    if (!woken) co_return;
  }
  ++processing_;
  ++in_flight_;
  const auto work = std::make_shared<Work>(std::move(batch));
  work->left = work->batch.size();
  gate_.spawn("function of " + component_.full_name(), run(work));
}

aio::Task<void> FunctionSink::run(std::shared_ptr<Work> work) {
  const uint64_t turn = given_++;
  const auto began = aio::Clock::now();
  work->answers = co_await function_->process(work->batch);
  --processing_;
  latency_.add(work->batch.size(), aio::Clock::now() - began);
  changed_.notify();
  // Outputs keep the order of their inputs, whatever the function finished first.
  while (turn_ != turn) {
    const bool woken = co_await changed_.wait();
    if (!woken) co_return;
  }
  co_await publish(work);
  ++turn_;
  changed_.notify();
}

void FunctionSink::fail(Work& work, uint32_t input, Verdict verdict, const Error& why) {
  if (work.open[input] == 0) return;
  work.open[input] = 0;
  work.batch.fail(input, verdict, why);
  if (--work.left == 0) --in_flight_;
  changed_.notify();
}

void FunctionSink::done(Work& work, uint32_t input) {
  if (work.open[input] == 0 || --work.open[input] > 0) return;
  work.batch.ok(input);
  if (--work.left == 0) --in_flight_;
  changed_.notify();
}

aio::Task<void> FunctionSink::publish(std::shared_ptr<Work> work) {
  auto& outputs = work->answers.outputs;
  std::fill(work->open.begin(), work->open.end(), 1u);
  for (const auto& failure : work->answers.failures)
    fail(*work, failure.input, failure.verdict, failure.error);
  // Of failed records nothing is published; without an output topic nothing is either, as in
  // Pulsar.
  std::erase_if(outputs, [&](const functions::Output& output) {
    return work->open[output.input] == 0 || (output.topic.empty() && component_.output.empty());
  });
  for (size_t first = 0; first < outputs.size();) {
    size_t end = first + 1;
    while (end < outputs.size() && outputs[end].topic == outputs[first].topic) ++end;
    const auto producer = co_await producer_for(std::string(outputs[first].topic));
    bool room = false;
    if (producer) room = co_await (*producer)->wait_for_room();
    std::optional<Error> why;
    Verdict verdict = Verdict::reconnect;
    if (!producer) {
      why = producer.error();
      const auto code = why->code();
      const bool never =
          code == Code::invalid || code == Code::not_found || code == Code::permission;
      verdict = never ? Verdict::reject : Verdict::retry;
    } else if (!room) {
      const auto failed = co_await (*producer)->flush();
      if (failed || failed.error().cancelled()) co_return;
      why = failed.error().with("publishing to " + (*producer)->topic());
    }
    if (why) {
      if (why->cancelled()) co_return;
      for (size_t i = first; i < end; ++i) fail(*work, outputs[i].input, verdict, *why);
    } else {
      send(work, **producer, first, end);
    }
    first = end;
  }
  for (uint32_t i = 0; i < work->open.size(); ++i) done(*work, i);
}

void FunctionSink::send(const std::shared_ptr<Work>& work, client::TopicProducer& producer,
                        size_t first, size_t end) {
  Properties properties(work->batch, component_.forward_properties);
  std::vector<wire::Outgoing> messages;
  std::vector<uint32_t> inputs;
  messages.reserve(end - first);
  inputs.reserve(end - first);
  for (size_t i = first; i < end; ++i) {
    const auto& output = work->answers.outputs[i];
    const uint32_t input = output.input;
    if (work->open[input] == 0) continue;  // another of its outputs has failed
    messages.push_back({.value = output.value,
                        .key = output.key,
                        .properties = properties.of(output),
                        .event_time = output.event_time,
                        .null_value = output.null_value});
    inputs.push_back(input);
    ++work->open[input];
  }
  if (messages.empty()) return;
  // The producer copies. It is closed, which ends its calls, before this sink goes.
  producer.send(messages, [this, work, inputs = std::move(inputs),
                           topic = producer.topic()](const Result<MessageId>& stored) {
    for (const uint32_t input : inputs) {
      if (stored) {
        done(*work, input);
      } else {
        fail(*work, input, Verdict::reconnect, stored.error().with("publishing to " + topic));
      }
    }
  });
}

aio::Task<Result<FunctionSink::TopicProducer>> FunctionSink::producer_for(std::string topic) {
  const auto known = producers_.find(topic);
  if (known != producers_.end()) co_return known->second;
  if (producers_.size() > kTopicsMax) {
    co_return Error(Code::invalid,
                    fmt::format("the function publishes to more than {} topics", kTopicsMax));
  }
  auto options = output_options(component_);
  if (!options) co_return options.error();
  if (!topic.empty()) options->topic = topic;
  options->chunking = true;  // what came in chunks may have to leave in chunks
  options->properties = {{"application", "pulsar-function"}, {"id", component_.full_name()}};
  auto producer = co_await client_.create_topic_producer(*options);
  if (!producer) co_return producer.error().with("opening the output topic " + options->topic);
  producers_[topic] = *producer;
  co_return *producer;
}

aio::Task<void> FunctionSink::flush() {
  while (in_flight_ > 0) {
    const bool woken = co_await changed_.wait();
    if (!woken) co_return;
  }
}

aio::Task<void> FunctionSink::close() {
  co_await gate_.close();
  for (const auto& [topic, producer] : producers_) co_await producer->close();
  producers_.clear();
  co_await function_->close();
}

}  // namespace hulse::runtime

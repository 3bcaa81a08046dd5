// The data generator: a source of made-up people and a sink that prints what it gets. For first
// steps.
#include "aio/clock.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/text.h"
#include "connect/descriptor.h"
#include "connectors/data_generator/data_generator_config.h"
#include "connectors/data_generator/person.h"

namespace hulse::connectors::data_generator {
namespace {

// How many records one read makes when nothing is to be waited for.
constexpr size_t kBatchRecords = 100;

class DataSource final : public connect::Source {
 public:
  explicit DataSource(SourceConfig config) : config_(config) {}

  aio::Task<Result<void>> open(const connect::Context&) override { co_return Result<void>(); }

  aio::Task<Result<connect::SourceBatch>> read() override {
    const auto pause = config_.sleep_between_messages;
    if (pause.count() > 0 && !first_) {
      const bool slept = co_await aio::sleep(pause);
      if (!slept) co_return Error(Code::cancelled, "stopped");
    }
    first_ = false;
    const auto values = std::make_shared<std::vector<std::string>>();
    connect::SourceBatch batch;
    const size_t count = pause.count() > 0 ? 1 : kBatchRecords;
    for (size_t i = 0; i < count; ++i) values->push_back(people_.next());
    for (const auto& value : *values) {
      batch.records.push_back({.value = value});
      batch.bytes += value.size();
    }
    batch.owner = values;
    co_return batch;
  }

  aio::Task<void> close() override { co_return; }

  std::string where() const override { return "made-up people"; }

 private:
  SourceConfig config_;
  People people_{std::hash<std::string>()(random_hex(16))};
  bool first_ = true;
};

class PrintSink final : public connect::Sink {
 public:
  explicit PrintSink(SinkConfig) {}

  aio::Task<Result<void>> open(const connect::Context&) override { co_return Result<void>(); }

  aio::Task<void> write(connect::RecordBatch batch) override {
    for (size_t i = 0; i < batch.size(); ++i) log::info("data-generator", "{}", line(batch[i]));
    batch.ok_all();
    co_return;
  }

  Result<std::vector<std::string>> preview(const connect::Context&,
                                           connect::RecordBatch batch) override {
    std::vector<std::string> lines;
    for (size_t i = 0; i < batch.size(); ++i) lines.push_back(line(batch[i]));
    return lines;
  }

  aio::Task<void> close() override { co_return; }

 private:
  static std::string line(const connect::Record& record) {
    if (record.null_value) return "RECV: null";
    if (is_utf8(record.value)) return fmt::format("RECV: {}", record.value);
    return fmt::format("RECV: {} bytes that are not text", record.value.size());
  }
};

constexpr connect::Descriptor kDescriptors[] = {
    {.name = "data-generator",
     .kind = connect::Kind::source,
     .description = "Makes up people, one JSON record each, at a steady pace.",
     .fields = kSourceFields,
     .make_source =
         [](const config::Given& given) {
           return connect::make<connect::Source, DataSource, SourceConfig>(kSourceFields, given);
         }},
    {.name = "data-generator",
     .kind = connect::Kind::sink,
     .description = "Prints each record to the log with the prefix RECV:.",
     .make_sink =
         [](const config::Given& given) {
           return connect::make<connect::Sink, PrintSink, SinkConfig>({}, given);
         }},
};

}  // namespace

std::span<const connect::Descriptor> descriptors() { return kDescriptors; }

}  // namespace hulse::connectors::data_generator

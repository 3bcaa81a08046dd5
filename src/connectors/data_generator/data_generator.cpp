// The data generator: a source of made-up people and a sink that prints what it gets. For first
// steps.
#include "aio/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "connect/descriptor.h"
#include "connectors/data_generator/data_generator_config.h"
#include "connectors/data_generator/person.h"

namespace hulse::connectors::data_generator {
namespace {

// How many records one read makes when nothing is to be waited for.
constexpr size_t kBatchRecords = 100;

// The position of a record: its number in eight bytes, the highest first.
std::string position_of(uint64_t number) {
  std::string out(8, '\0');
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<char>(number >> (56 - 8 * i));
  return out;
}

uint64_t number_at(std::string_view position) {
  uint64_t number = 0;
  for (const char byte : position) number = number << 8 | static_cast<unsigned char>(byte);
  return number;
}

// Makes the same people in every life: which one is record n follows from the source's name and n.
class DataSource final : public connect::Source {
 public:
  explicit DataSource(SourceConfig config) : config_(config) {}

  aio::Task<Result<void>> open(const connect::Context& context) override {
    lane_ = std::to_string(context.instance);
    seed_ = std::hash<std::string>()(context.full_name() + "/" + lane_);
    const auto stored = context.positions.find(lane_);
    if (stored != context.positions.end()) next_ = number_at(stored->second) + 1;
    co_return Result<void>();
  }

  aio::Task<Result<connect::SourceBatch>> read() override {
    const auto pause = config_.sleep_between_messages;
    if (pause.count() > 0 && !first_) {
      const bool slept = co_await aio::sleep(pause);
      if (!slept) co_return Error(Code::cancelled, "stopped");
    }
    first_ = false;
    const uint64_t end = config_.records ? static_cast<uint64_t>(*config_.records) : UINT64_MAX;
    if (next_ >= end) {
      // Nothing more will come; it stays until it is stopped.
      co_await aio::sleep(kForEver);
      co_return Error(Code::cancelled, "stopped");
    }
    struct Made {
      std::string value;
      std::string position;
      std::string key;
    };
    struct Owner {
      std::string lane;
      std::vector<Made> made;
    };
    const auto owner = std::make_shared<Owner>();
    owner->lane = lane_;
    const uint64_t count = std::min<uint64_t>(pause.count() > 0 ? 1 : kBatchRecords, end - next_);
    for (uint64_t i = 0; i < count; ++i, ++next_) {
      owner->made.push_back({People(seed_ + next_).next(), position_of(next_),
                             config_.numbered ? fmt::format("{}-{}", lane_, next_) : ""});
    }
    connect::SourceBatch batch;
    for (const auto& made : owner->made) {
      auto& record = batch.records.emplace_back();
      record.value = made.value;
      if (config_.numbered) record.key = made.key;
      record.lane = owner->lane;
      record.position = made.position;
      batch.bytes += made.value.size() + made.key.size();
    }
    batch.owner = owner;
    co_return batch;
  }

  aio::Task<void> close() override { co_return; }

  std::string where() const override { return "made-up people"; }

 private:
  static constexpr aio::Duration kForEver = std::chrono::hours(24 * 365);
  SourceConfig config_;
  std::string lane_;
  uint64_t seed_ = 0;
  uint64_t next_ = 0;
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
     .effectively_once = true,
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

// The file sink: records as lines of a file, each acknowledged only when it is on the disk.
#include "aio/event.h"
#include "aio/gate.h"
#include "aio/offload.h"
#include "aio/threads.h"
#include "base/log.h"
#include "connect/descriptor.h"
#include "connectors/file/append_file.h"
#include "connectors/file/file_config.h"
#include "connectors/file/line.h"

namespace hulse::connectors::file {
namespace {

// What may wait for the disk; a topic that brings more waits itself.
constexpr size_t kWaitingBytesMax = 8 * 1024 * 1024;
// Text is handed to the kernel in pieces of about this size.
constexpr size_t kWriteBytes = 1024 * 1024;
// Of a record beside its value: it bounds the memory of many small ones.
constexpr size_t kRecordBytes = 100;

// Batches that come while the disk is busy are written and synced together. Lives on the instance's
// strand; all disk work happens on a thread of its own, one group at a time.
class FileSink final : public connect::Sink {
 public:
  explicit FileSink(FileConfig config) : config_(std::move(config)) {}

  aio::Task<Result<void>> open(const connect::Context& context) override {
    const auto at = config_.path.find(kInstance);
    std::string path = config_.path;
    if (at != std::string::npos) {
      path.replace(at, kInstance.size(), std::to_string(context.instance));
    }
    disk_ = std::make_unique<aio::Threads>("file-sink", 1);
    work_ = std::make_unique<Work>(context.executor);
    const auto open_file = [file = file_, path, json = config_.format == Format::json] {
      return file->open(path, json);
    };
    auto opened = co_await aio::offload(disk_->at(0), open_file);
    if (!opened) co_return std::move(opened).error();
    work_->gate.spawn("file sink writer", write_groups());
    co_return Result<void>();
  }

  aio::Task<void> write(connect::RecordBatch batch) override {
    while (work_->waiting_bytes > kWaitingBytesMax) {
      const bool woken = co_await work_->taken.wait();
      if (!woken) co_return;
    }
    work_->waiting_bytes += batch.value_bytes() + batch.size() * kRecordBytes;
    work_->waiting.push_back(std::move(batch));
    work_->added.notify();
  }

  aio::Task<void> flush() override {
    while (work_ && (work_->writing || !work_->waiting.empty())) {
      const bool woken = co_await work_->settled.wait();
      if (!woken) co_return;
    }
  }

  Result<std::vector<std::string>> preview(const connect::Context&,
                                           connect::RecordBatch batch) override {
    std::vector<std::string> lines(batch.size());
    for (size_t i = 0; i < batch.size(); ++i)
      append_line(lines[i], batch[i], batch.topic(), config_.format);
    return lines;
  }

  aio::Task<void> close() override {
    if (work_) {
      co_await work_->gate.close();
      work_->waiting.clear();
    }
    if (disk_) {
      const auto close_file = [file = file_] { file->close(); };
      co_await aio::offload(disk_->at(0), close_file);
      disk_->stop();
    }
    work_.reset();
    disk_.reset();
  }

 private:
  static constexpr std::string_view kInstance = "{instance}";

  struct Work {
    explicit Work(aio::Executor executor)
        : added(executor), taken(executor), settled(executor), gate(executor) {}
    std::vector<connect::RecordBatch> waiting;
    size_t waiting_bytes = 0;
    bool writing = false;
    aio::Event added;
    aio::Event taken;
    aio::Event settled;
    aio::Gate gate;
  };

  using Group = std::vector<connect::RecordBatch>;

  aio::Task<void> write_groups() {
    for (;;) {
      while (work_->waiting.empty()) {
        const bool woken = co_await work_->added.wait();
        if (!woken) co_return;
      }
      if (work_->gate.closing()) co_return;
      // Shared because the closure that goes to the disk thread has to be copyable.
      const auto group = std::make_shared<Group>(std::move(work_->waiting));
      work_->waiting.clear();
      work_->waiting_bytes = 0;
      work_->writing = true;
      work_->taken.notify();
      const auto store = [file = file_, group, format = config_.format] {
        return store_group(*file, *group, format);
      };
      const auto stored = co_await aio::offload(disk_->at(0), store);
      for (auto& batch : *group) settle(batch, stored);
      work_->writing = false;
      work_->settled.notify();
    }
  }

  static void append_line(std::string& text, const connect::Record& record,
                          const std::string& topic, Format format) {
    if (format == Format::json) {
      append_json_line(text, record, topic);
    } else {
      append_raw_line(text, record);
    }
  }

  // On the disk thread.
  static Result<void> store_group(AppendFile& file, const Group& group, Format format) {
    std::string text;
    Result<void> done;
    const auto hand_over = [&] {
      done = file.append(text);
      text.clear();
    };
    for (const auto& batch : group) {
      for (size_t i = 0; i < batch.size() && done; ++i) {
        append_line(text, batch[i], batch.topic(), format);
        if (text.size() >= kWriteBytes) hand_over();
      }
    }
    if (done) hand_over();
    if (done) done = file.sync();
    if (!done) file.discard();
    return done;
  }

  static void settle(connect::RecordBatch& batch, const Result<void>& stored) {
    if (stored) {
      batch.ok_all();
    } else if (stored.error().code() == Code::too_large) {
      batch.fail_all(connect::Verdict::retry, stored.error());
    } else {
      batch.fail_all(connect::Verdict::reconnect, stored.error());
    }
  }

  FileConfig config_;
  // Shared with closures on the disk thread only; the thread is joined before this object goes.
  std::shared_ptr<AppendFile> file_ = std::make_shared<AppendFile>();
  std::unique_ptr<aio::Threads> disk_;
  std::unique_ptr<Work> work_;
};

constexpr connect::Descriptor kDescriptors[] = {{
    .name = "file",
    .kind = connect::Kind::sink,
    .description =
        "Appends records to a file, as JSON lines or raw, synced before acknowledgement.",
    .fields = kFields,
    .make_sink =
        [](const config::Given& given) {
          return connect::make<connect::Sink, FileSink, FileConfig>(kFields, given);
        },
}};

}  // namespace

std::span<const connect::Descriptor> descriptors() { return kDescriptors; }

}  // namespace hulse::connectors::file

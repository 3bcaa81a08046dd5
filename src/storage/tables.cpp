#include "storage/tables.h"

#include <fmt/format.h>
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/listener.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/checkpoint.h>
#include <rocksdb/write_batch.h>

#include "base/bytes.h"

namespace hulse::storage {
namespace {

constexpr std::string_view kPositionKey = "P";

rocksdb::Slice slice(std::string_view text) { return {text.data(), text.size()}; }
std::string_view view(const rocksdb::Slice& text) { return {text.data(), text.size()}; }

Error to_error(const rocksdb::Status& status) {
  Code code = status.IsCorruption() ? Code::corrupt : Code::io;
  if (status.IsNoSpace()) code = Code::full;
  return Error(code, "tables: " + status.ToString());
}

// RocksDB would look for room by itself after a full disk, and refuse resume() meanwhile. The store
// knows better when there is some.
class NoOwnRecovery : public rocksdb::EventListener {
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason, rocksdb::Status,
                            bool* by_itself) override {
    *by_itself = false;
  }
};

rocksdb::Options options() {
  rocksdb::Options out;
  out.create_if_missing = true;
  out.write_buffer_size = 2 << 20;
  out.max_write_buffer_number = 3;
  out.max_open_files = 64;
  out.max_background_jobs = 2;
  out.avoid_flush_during_shutdown = true;
  out.advise_random_on_open = false;
  out.info_log_level = rocksdb::WARN_LEVEL;
  out.keep_log_file_num = 2;
  out.stats_dump_period_sec = 0;
  out.stats_persist_period_sec = 0;
  out.listeners.push_back(std::make_shared<NoOwnRecovery>());
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(4 << 20, 2);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  out.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return out;
}

}  // namespace

Tables::Tables() : batch_(std::make_unique<rocksdb::WriteBatch>()) {}
Tables::~Tables() = default;

Result<std::unique_ptr<Tables>> Tables::open(const std::string& path, rocksdb::Env* env) {
  std::unique_ptr<Tables> tables(new Tables);
  rocksdb::DB* db = nullptr;
  auto chosen = options();
  if (env != nullptr) chosen.env = env;
  const auto status = rocksdb::DB::Open(chosen, path, &db);
  if (!status.ok()) return to_error(status).with("opening " + path);
  tables->db_.reset(db);
  return tables;
}

Result<std::optional<std::string>> Tables::get(std::string_view key) const {
  std::string value;
  const auto status = db_->Get(rocksdb::ReadOptions(), slice(key), &value);
  if (status.IsNotFound()) return std::optional<std::string>();
  if (!status.ok()) return to_error(status);
  return std::optional<std::string>(std::move(value));
}

Result<void> Tables::scan(
    std::string_view prefix, std::string_view start,
    const std::function<bool(std::string_view key, std::string_view value)>& found) const {
  const std::unique_ptr<rocksdb::Iterator> at(db_->NewIterator(rocksdb::ReadOptions()));
  for (at->Seek(slice(start)); at->Valid() && view(at->key()).starts_with(prefix); at->Next()) {
    if (!found(view(at->key()), view(at->value()))) break;
  }
  if (!at->status().ok()) return to_error(at->status());
  return {};
}

Result<std::optional<std::pair<std::string, std::string>>> Tables::at_or_before(
    std::string_view key, std::string_view prefix) const {
  using Found = std::optional<std::pair<std::string, std::string>>;
  const std::unique_ptr<rocksdb::Iterator> at(db_->NewIterator(rocksdb::ReadOptions()));
  at->SeekForPrev(slice(key));
  if (!at->status().ok()) return to_error(at->status());
  if (!at->Valid() || !view(at->key()).starts_with(prefix)) return Found();
  return Found(std::pair(at->key().ToString(), at->value().ToString()));
}

void Tables::put(std::string_view key, std::string_view value) {
  batch_->Put(slice(key), slice(value));
}
void Tables::erase(std::string_view key) { batch_->Delete(slice(key)); }
void Tables::erase_range(std::string_view begin, std::string_view end) {
  batch_->DeleteRange(slice(begin), slice(end));
}

Result<void> Tables::apply(const LogPosition& position) {
  char value[16];
  put_u64(value, position.segment);
  put_u64(value + 8, position.offset);
  batch_->Put(slice(kPositionKey), rocksdb::Slice(value, 16));
  rocksdb::WriteOptions write;
  write.disableWAL = true;
  const auto status = db_->Write(write, batch_.get());
  if (!status.ok()) return to_error(status);
  batch_->Clear();
  return {};
}

Result<void> Tables::resume() {
  const auto status = db_->Resume();
  if (!status.ok()) return to_error(status);
  return {};
}

Result<LogPosition> Tables::position() const {
  const auto value = get(kPositionKey);
  if (!value) return value.error();
  LogPosition position;
  if (!*value) return position;
  if ((*value)->size() != 16) return Error(Code::corrupt, "tables: the log position is damaged");
  position.segment = get_u64((*value)->data());
  position.offset = get_u64((*value)->data() + 8);
  return position;
}

Result<void> Tables::flush() {
  const auto status = db_->Flush(rocksdb::FlushOptions());
  if (!status.ok()) return to_error(status);
  return {};
}

Result<void> Tables::checkpoint(const std::string& path) {
  rocksdb::Checkpoint* made = nullptr;
  auto status = rocksdb::Checkpoint::Create(db_.get(), &made);
  const std::unique_ptr<rocksdb::Checkpoint> checkpoint(made);
  if (status.ok()) status = checkpoint->CreateCheckpoint(path);
  if (!status.ok()) return to_error(status);
  return {};
}

Result<void> Tables::verify() const {
  const auto status = db_->VerifyChecksum();
  if (!status.ok()) return to_error(status);
  return {};
}

}  // namespace hulse::storage

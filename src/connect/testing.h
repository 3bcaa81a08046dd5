// For tests of connectors: batches to write, and what became of their records.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "aio/clock.h"
#include "connect/context.h"
#include "connect/record.h"

namespace hulse::connect::testing {

// The context of instance 0 of public/default/test.
inline Context context_on(aio::Executor executor) {
  return Context{.tenant = "public",
                 .name_space = "default",
                 .name = "test",
                 .bus_id = "bus",
                 .topic = "persistent://public/default/topic",
                 .executor = executor};
}

// Owns what its records point into. Record i has the id 1:<entry>:-1:i.
struct Entry {
  std::vector<std::string> values;
  std::vector<std::optional<std::string>> keys;                 // may be shorter than values
  std::vector<std::pair<std::string, std::string>> properties;  // of every record
  std::vector<Property> property_views;
  Records records;
};

inline std::shared_ptr<const Records> entry_of(
    std::vector<std::string> values, int64_t entry = 0,
    std::vector<std::optional<std::string>> keys = {},
    std::vector<std::pair<std::string, std::string>> properties = {},
    std::string topic = "persistent://public/default/topic") {
  auto made = std::make_shared<Entry>();
  made->values = std::move(values);
  made->keys = std::move(keys);
  made->properties = std::move(properties);
  for (const auto& [name, value] : made->properties) made->property_views.emplace_back(name, value);
  made->records.topic = std::move(topic);
  for (size_t i = 0; i < made->values.size(); ++i) {
    Record record;
    record.value = made->values[i];
    if (i < made->keys.size() && made->keys[i]) record.key = *made->keys[i];
    record.properties = made->property_views;
    record.publish_time = 1700000000000;
    record.id = {.ledger = 1, .entry = entry, .partition = -1, .batch_index = static_cast<int>(i)};
    made->records.records.push_back(record);
  }
  return {made, &made->records};
}

// Collects the outcomes of batches; outlives them.
class Outcomes {
 public:
  RecordBatch batch(const std::shared_ptr<const Records>& records) {
    std::vector<uint32_t> chosen;
    for (uint32_t i = 0; i < records->records.size(); ++i) chosen.push_back(i);
    const size_t number = begin();
    return RecordBatch(records, std::move(chosen), [this, number](std::vector<Outcome> outcomes) {
      const std::lock_guard lock(mutex_);
      of_[number] = std::move(outcomes);
      ++settled_;
    });
  }
  size_t settled() const {
    const std::lock_guard lock(mutex_);
    return settled_;
  }
  // Of the batch made as `number`-th; empty until it has settled.
  std::vector<Outcome> of(size_t number) const {
    const std::lock_guard lock(mutex_);
    return of_.at(number);
  }
  std::vector<Verdict> verdicts(size_t number) const {
    std::vector<Verdict> out;
    for (const auto& outcome : of(number)) out.push_back(outcome.verdict);
    return out;
  }
  // Waits until `count` batches have settled; false after ten seconds.
  aio::Task<bool> wait(size_t count) const {
    const auto limit = aio::Clock::now() + std::chrono::seconds(10);
    while (settled() < count) {
      if (aio::Clock::now() > limit) co_return false;
      co_await aio::sleep(std::chrono::milliseconds(1));
    }
    co_return true;
  }

 private:
  size_t begin() {
    const std::lock_guard lock(mutex_);
    of_.emplace_back();
    return of_.size() - 1;
  }
  mutable std::mutex mutex_;
  std::vector<std::vector<Outcome>> of_;
  size_t settled_ = 0;
};

}  // namespace hulse::connect::testing

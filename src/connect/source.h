// Source: brings records from another system into a topic.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/message.h"
#include "connect/context.h"

namespace hulse::connect {

struct SourceRecord {
  std::string_view value;
  std::optional<std::string_view> key = {};
  std::span<const Property> properties = {};
  int64_t event_time = 0;  // milliseconds since 1970; 0: none
  // Of a source that can be read again: where the record is. A lane is what has an order of its own
  // (a log, a file, a chunk of a snapshot; a text); in it positions grow, as bytes are compared.
  std::string_view lane = {};
  std::string_view position = {};
};

// Records in order, and the buffers their views point into.
struct SourceBatch {
  std::vector<SourceRecord> records;
  std::shared_ptr<const void> owner;
  size_t bytes = 0;  // of values and keys; what queues are bounded by

  // Told once, on the instance's strand: every record is stored durably (and, where there are
  // positions, that they are), or why not. May be empty.
  std::function<void(const Result<void>&)> stored;
};

// All members run on the instance's strand, one at a time. Cancelled coroutines return soon.
class Source {
 public:
  virtual ~Source() = default;

  // Same rule for failures as Sink::open. A listener that cannot bind fails here.
  virtual aio::Task<Result<void>> open(const Context& context) = 0;

  // The next records. Waits until there are some. The runtime calls it again only when the bus can
  // take more: whoever is not read from must hold its own senders back. An error closes the source,
  // which is opened again after a backoff.
  virtual aio::Task<Result<SourceBatch>> read() = 0;

  virtual aio::Task<void> close() = 0;

  // One line for the user, after open: where it listens or what it reads ("tcp://127.0.0.1:10999").
  virtual std::string where() const { return {}; }
};

}  // namespace hulse::connect

// Function: makes records out of records. Where the code runs (in this program, a plugin, a child
// process) is the business of whoever implements this interface; the runtime sends what comes out
// and acknowledges what went in.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "connect/context.h"
#include "connect/record.h"
#include "connect/state.h"

namespace hulse::functions {

// One message to publish.
struct Output {
  uint32_t input = 0;           // of which record of the batch
  std::string_view topic = {};  // empty: the function's output topic
  std::string_view value = {};
  std::optional<std::string_view> key = {};
  // Beside the input's own, which the runtime carries over (forwardSourceMessageProperty).
  std::span<const Property> properties = {};
  int64_t event_time = 0;  // milliseconds since 1970; 0: none
  bool null_value = false;
};

// A record that did not go through; its outputs count for nothing. `retry` for a trouble that
// passes or may be another time's, `reject` for what can never succeed.
struct Failure {
  uint32_t input = 0;
  connect::Verdict verdict = connect::Verdict::retry;
  Error error;
};

// What a batch came to. A record without output or failure is done. Views are into the batch or
// into what `owner` keeps.
struct Answers {
  std::vector<Output> outputs;  // in the order of their inputs
  std::vector<Failure> failures;
  std::shared_ptr<const void> owner;
};

// All members run on the instance's strand. Cancelled coroutines return soon.
class Function {
 public:
  virtual ~Function() = default;

  // Same rule for failures as Sink::open. The state is in the context, which outlives the function.
  virtual aio::Task<Result<void>> open(const connect::Context& context) = 0;

  // The batch stays where it is until this returns. Several calls may be under way if the
  // descriptor says so; outputs are sent in the order of the inputs all the same.
  virtual aio::Task<Answers> process(const connect::RecordBatch& batch) = 0;

  // Also called after a failed open. Never fails.
  virtual aio::Task<void> close() = 0;
};

}  // namespace hulse::functions

// Sink: takes records out of topics into another system.
#pragma once

#include "connect/context.h"
#include "connect/record.h"

namespace hulse::connect {

// All members run on the instance's strand (Context::executor), one at a time. Cancelled coroutines
// return soon (C9).
class Sink {
 public:
  virtual ~Sink() = default;

  // Reaches the target or says why not. Code::invalid, permission and busy end the instance; other
  // failures are tried again.
  virtual aio::Task<Result<void>> open(const Context& context) = 0;

  // Takes the batch over and returns as soon as the sink can take another one: a full sink waits
  // here, which is how back-pressure reaches the topic. Outcomes may come later, from any thread;
  // `ok` only when the target has the record durably.
  virtual aio::Task<void> write(RecordBatch batch) = 0;

  // Writes what it holds and returns when nothing is in flight. Called before a stop; bounded by
  // the runtime.
  virtual aio::Task<void> flush() { co_return; }

  // What it would send for each record, as people read it: nothing is opened or sent. Empty where
  // nothing would be: the record's outcome, given as by write(), says why.
  virtual Result<std::vector<std::string>> preview(const Context&, RecordBatch) {
    return Error(Code::invalid, "this sink cannot show what it would write");
  }

  // Lets go of everything at once; batches still held are destroyed. Never fails. Also called after
  // a failed open.
  virtual aio::Task<void> close() = 0;
};

}  // namespace hulse::connect

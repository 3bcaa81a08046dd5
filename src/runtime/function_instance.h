// FunctionInstance: a sink instance whose sink is a function.
#pragma once

#include "runtime/sink_instance.h"

namespace hulse::runtime {

class FunctionInstance : public SinkInstance {
 public:
  using SinkInstance::SinkInstance;

 private:
  Result<std::unique_ptr<connect::Sink>> make_sink(const config::Given& given) override;
};

}  // namespace hulse::runtime

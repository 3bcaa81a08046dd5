#include "runtime/function_instance.h"

#include "runtime/function_sink.h"

namespace hulse::runtime {

Result<std::unique_ptr<connect::Sink>> FunctionInstance::make_sink(const config::Given& given) {
  auto function = component_.function->make(given);
  if (!function) return function.error();
  return std::unique_ptr<connect::Sink>(
      std::make_unique<FunctionSink>(component_, *client_, latency_, std::move(*function)));
}

}  // namespace hulse::runtime

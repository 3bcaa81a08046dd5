// An entry as compaction takes it apart: what it finds it must be able to leave out.
#include <cstddef>
#include <cstdint>
#include <string>

#include "wire/compaction.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hulse;
  const auto entry = Bytes::from(std::string(reinterpret_cast<const char*>(data), size));
  (void)wire::present_messages(entry);
  const auto messages = wire::keyed_messages(entry);
  if (!messages || messages->size() < 2) return 0;
  std::vector<bool> keep(messages->size(), true);
  keep[size % keep.size()] = false;
  const auto rest = wire::without_messages(entry, keep);
  if (!rest) return 0;
  const auto again = wire::keyed_messages(Bytes::from(std::string(*rest)));
  if (!again || again->size() != messages->size()) __builtin_trap();
  return 0;
}

// The body of a request that creates or updates a sink, a source or a function: the form, the JSON
// in it, the configuration and what is made of it.
#include <boost/json.hpp>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "admin/multipart.h"
#include "runtime/component_edit.h"
#include "runtime/component_record.h"
#include "runtime/function_sink.h"
#include "runtime/state_value.h"

namespace {

void configure(hulse::connect::Kind kind, std::string_view text) {
  using namespace hulse;
  boost::system::error_code error;
  const auto value = boost::json::parse(text, error);
  if (error || !value.is_object()) return;
  std::vector<std::string> notes;
  const auto merged = runtime::merge_component(kind, {{"name", "x"}}, value.get_object());
  const auto component = runtime::parse_component(kind, merged, notes);
  if (!component) return;
  const auto shown = runtime::shown_component(*component, merged);
  // Nothing differs from itself.
  if (runtime::component_changes({*component, merged}, {*component, merged})) __builtin_trap();
  (void)shown;
  // What was covered once is covered: a stored configuration is known to hold nothing in clear by
  // that.
  const auto covered = runtime::without_secrets(component->fields(), merged);
  if (runtime::without_secrets(component->fields(), covered) != covered) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hulse;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  (void)runtime::ComponentRecord::decode(input);
  (void)runtime::InstanceRecord::decode(input);
  configure(connect::Kind::sink, input);
  configure(connect::Kind::source, input);
  configure(connect::Kind::function, input);
  (void)runtime::StateValue::decode(input);
  (void)runtime::parse_input_message_id(input);
  const size_t line = input.find('\n');
  if (line == std::string_view::npos) return 0;
  const auto parts = admin::parse_multipart(input.substr(0, line), input.substr(line + 1));
  if (!parts) return 0;
  for (const auto& part : *parts) {
    if (part.body.data() < input.data() || part.body.data() + part.body.size() > input.end())
      __builtin_trap();
    configure(connect::Kind::sink, part.body);
  }
  return 0;
}

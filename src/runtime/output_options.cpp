#include "runtime/output_options.h"

#include "wire/compression.h"

namespace hulse::runtime {

Result<client::ProducerOptions> output_options(const Component& component) {
  client::ProducerOptions options;
  options.topic = component.output;
  const auto codec = wire::parse_compression(component.compression);
  if (!codec) return codec.error();
  options.compression = *codec;
  if (!component.batching) {
    options.batching = client::Batching::off;
  } else if (component.batch_by_key) {
    options.batching = client::Batching::by_key;
  }
  if (component.batch_messages_max)
    options.batch_messages_max = static_cast<size_t>(*component.batch_messages_max);
  if (component.batch_bytes_max)
    options.batch_bytes_max = static_cast<size_t>(*component.batch_bytes_max);
  if (component.batch_delay) options.linger = *component.batch_delay;
  return options;
}

}  // namespace hulse::runtime

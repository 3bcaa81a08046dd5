#include "wire/frame.h"

#include "base/crc32c.h"

namespace hulse::wire {
namespace {

constexpr uint16_t kChecksumMagic = 0x0e01;
constexpr uint16_t kBrokerEntryMagic = 0x0e02;

// In two steps, since protobuf prints a line of its own about a required field that is missing.
template <class Message>
bool parse_message(Message& message, std::string_view bytes) {
  return message.ParsePartialFromArray(bytes.data(), static_cast<int>(bytes.size())) &&
         message.IsInitialized();
}

Error corrupt(std::string what) { return Error(Code::corrupt, std::move(what)); }

// Takes a u32 size and that many bytes off the front.
Result<std::string_view> take_sized(std::string_view& in, const char* what) {
  if (in.size() < 4) return corrupt(fmt::format("{} is cut off", what));
  const size_t size = get_u32(in.data());
  in.remove_prefix(4);
  if (size > in.size()) {
    return corrupt(fmt::format("{} claims {} bytes, {} are left", what, size, in.size()));
  }
  const auto part = in.substr(0, size);
  in.remove_prefix(size);
  return part;
}

Result<void> skip_broker_metadata(std::string_view& entry) {
  if (entry.size() < 6 || get_u16(entry.data()) != kBrokerEntryMagic) return {};
  entry.remove_prefix(2);
  const auto skipped = take_sized(entry, "broker entry metadata");
  if (!skipped) return skipped.error();
  return {};
}

// Checks and removes the checksum.
Result<void> take_checksum(std::string_view& entry) {
  if (entry.size() < 6 || get_u16(entry.data()) != kChecksumMagic) return {};
  const uint32_t expected = get_u32(entry.data() + 2);
  entry.remove_prefix(6);
  const uint32_t found = crc32c(0, entry);
  if (found != expected) {
    return corrupt(fmt::format("checksum is {:08x}, the sender wrote {:08x}", found, expected));
  }
  return {};
}

struct Parts {
  std::string_view metadata;
  std::string_view payload;
};

Result<Parts> split_entry(std::string_view entry) {
  const auto skipped = skip_broker_metadata(entry);
  if (!skipped) return skipped.error();
  const auto checked = take_checksum(entry);
  if (!checked) return checked.error();
  const auto metadata = take_sized(entry, "message metadata");
  if (!metadata) return metadata.error();
  return Parts{*metadata, entry};
}

Result<pb::MessageMetadata> parse(std::string_view bytes) {
  pb::MessageMetadata metadata;
  if (!parse_message(metadata, bytes)) {
    return corrupt("message metadata is not the protobuf message it should be");
  }
  return metadata;
}

}  // namespace

Result<Frame> parse_frame(const Bytes& frame) {
  std::string_view rest = frame.view();
  const auto command = take_sized(rest, "command");
  if (!command) return command.error();
  Frame out;
  if (!parse_message(out.command, *command)) {
    return corrupt("command is not the protobuf message it should be");
  }
  if (!rest.empty()) out.entry = Bytes(frame.owner(), rest);
  return out;
}

void encode_frame(const pb::BaseCommand& command, std::string& out) {
  const size_t size = command.ByteSizeLong();
  const size_t at = out.size();
  out.resize(at + 8 + size);
  put_u32(out.data() + at, static_cast<uint32_t>(size + 4));
  put_u32(out.data() + at + 4, static_cast<uint32_t>(size));
  command.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(out.data() + at + 8));
}

std::string encode_frame(const pb::BaseCommand& command) {
  std::string out;
  encode_frame(command, out);
  return out;
}

std::string encode_frame_head(const pb::BaseCommand& command, size_t entry_size) {
  std::string out = encode_frame(command);
  put_u32(out.data(), static_cast<uint32_t>(out.size() - 4 + entry_size));
  return out;
}

Result<Entry> parse_entry(const Bytes& entry) {
  const auto parts = split_entry(entry.view());
  if (!parts) return parts.error();
  auto metadata = parse(parts->metadata);
  if (!metadata) return metadata.error();
  return Entry{std::move(*metadata), Bytes(entry.owner(), parts->payload)};
}

Result<std::string_view> metadata_bytes(std::string_view entry) {
  const auto skipped = skip_broker_metadata(entry);
  if (!skipped) return skipped.error();
  if (entry.size() >= 6 && get_u16(entry.data()) == kChecksumMagic) entry.remove_prefix(6);
  return take_sized(entry, "message metadata");
}

Result<pb::MessageMetadata> parse_metadata(std::string_view entry) {
  const auto metadata = metadata_bytes(entry);
  if (!metadata) return metadata.error();
  return parse(*metadata);
}

std::optional<pb::BrokerEntryMetadata> broker_metadata(std::string_view entry) {
  if (entry.size() < 6 || get_u16(entry.data()) != kBrokerEntryMagic) return std::nullopt;
  entry.remove_prefix(2);
  const auto bytes = take_sized(entry, "broker entry metadata");
  pb::BrokerEntryMetadata out;
  if (!bytes || !parse_message(out, *bytes)) return std::nullopt;
  return out;
}

Bytes with_broker_metadata(const pb::BrokerEntryMetadata& metadata, const Bytes& entry) {
  const size_t size = metadata.ByteSizeLong();
  std::string out;
  out.reserve(6 + size + entry.size());
  out.resize(6);
  put_u16(out.data(), kBrokerEntryMagic);
  put_u32(out.data() + 2, static_cast<uint32_t>(size));
  metadata.AppendToString(&out);
  out += entry.view();
  return Bytes::from(std::move(out));
}

Bytes without_broker_metadata(const Bytes& entry) {
  std::string_view rest = entry.view();
  const auto skipped = skip_broker_metadata(rest);
  return skipped ? entry.slice(entry.size() - rest.size()) : entry;
}

uint64_t publish_time(std::string_view entry, const pb::MessageMetadata& metadata) {
  const auto noted = broker_metadata(entry);
  return noted && noted->has_broker_timestamp() ? noted->broker_timestamp()
                                                : metadata.publish_time();
}

Result<void> verify_checksum(std::string_view entry) {
  const auto skipped = skip_broker_metadata(entry);
  if (!skipped) return skipped.error();
  return take_checksum(entry);
}

}  // namespace hulse::wire

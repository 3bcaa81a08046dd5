// Frames of the Pulsar binary protocol. Pure functions over bytes; used by client and broker.
//
//   simple frame    u32 total · u32 command size · BaseCommand
//   payload frame   u32 total · u32 command size · BaseCommand · entry         (SEND and MESSAGE)
//   entry           [u16 0x0e02 · u32 size · BrokerEntryMetadata]               (broker to client
//   only)
//                   [u16 0x0e01 · u32 crc32c] · u32 metadata size · MessageMetadata · payload
//
// Sizes are big-endian; `total` counts what follows it; the checksum covers what follows it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "wire/pulsar.pb.h"

namespace hulse::wire {

namespace pb = ::pulsar::proto;

// What a message may weigh unless CONNECTED says otherwise, and what a frame may add to it.
inline constexpr size_t kMessageBytesMax = 5 * 1024 * 1024;
inline constexpr size_t kFrameOverheadMax = 10 * 1024;

inline constexpr int kProtocolVersion = 20;

struct Frame {
  pb::BaseCommand command;
  Bytes entry;  // SEND and MESSAGE: a slice of the frame, from the first magic number on
};

// `frame` is what follows `total`.
Result<Frame> parse_frame(const Bytes& frame);

// A whole simple frame.
std::string encode_frame(const pb::BaseCommand& command);
// Appends one: for answers gathered into one write.
void encode_frame(const pb::BaseCommand& command, std::string& out);

// All of a payload frame but its entry of `entry_size` bytes, which follows on the socket.
std::string encode_frame_head(const pb::BaseCommand& command, size_t entry_size);

struct Entry {
  pb::MessageMetadata metadata;
  Bytes payload;  // as stored: compressed, and a batch if the metadata says so
};

// Where a stored entry's parts lie. Fails with Code::corrupt when they do not fit or the checksum
// is wrong; an entry without a checksum passes.
Result<Entry> parse_entry(const Bytes& entry);
// The same without keeping the payload: for a broker that looks at the metadata only.
Result<pb::MessageMetadata> parse_metadata(std::string_view entry);
// Where an entry's MessageMetadata lies in it.
Result<std::string_view> metadata_bytes(std::string_view entry);
// What the broker has put before an entry (magic 0x0e02); nothing if it has not, or if it is
// damaged.
std::optional<pb::BrokerEntryMetadata> broker_metadata(std::string_view entry);
Bytes with_broker_metadata(const pb::BrokerEntryMetadata& metadata, const Bytes& entry);
// For clients that do not know it.
Bytes without_broker_metadata(const Bytes& entry);
// When it was published, milliseconds since 1970: by the broker's clock if it has noted it.
uint64_t publish_time(std::string_view entry, const pb::MessageMetadata& metadata);
// Fails unless the entry's checksum is right or absent.
Result<void> verify_checksum(std::string_view entry);

}  // namespace hulse::wire

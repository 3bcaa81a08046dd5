// The codecs of MessageMetadata.compression, with Pulsar's framing of each: LZ4 raw block, zlib
// stream, zstd frame, raw snappy block.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "wire/frame.h"

namespace hulse::wire {

// Appends the compressed form of `plain` to `out`.
Result<void> compress(pb::CompressionType codec, std::string_view plain, std::string& out);

// `plain_size` is the metadata's uncompressed_size; it is refused above `size_max` before anything
// is allocated, and the result has exactly that size or the call fails.
Result<std::string> decompress(pb::CompressionType codec, std::string_view packed,
                               size_t plain_size, size_t size_max);

// "LZ4" (any letter case) and back.
Result<pb::CompressionType> parse_compression(std::string_view name);

}  // namespace hulse::wire

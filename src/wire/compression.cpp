#include "wire/compression.h"

#include <lz4.h>
#include <snappy.h>
#include <zlib.h>
#include <zstd.h>

#include "base/text.h"

namespace hulse::wire {
namespace {

Error failed(pb::CompressionType codec, std::string_view what) {
  return Error(Code::corrupt, fmt::format("{}: {}", pb::CompressionType_Name(codec), what));
}

}  // namespace

Result<void> compress(pb::CompressionType codec, std::string_view plain, std::string& out) {
  const size_t at = out.size();
  switch (codec) {
    case pb::NONE: out += plain; return {};
    case pb::LZ4: {
      const int bound = LZ4_compressBound(static_cast<int>(plain.size()));
      out.resize(at + static_cast<size_t>(bound));
      const int size = LZ4_compress_default(plain.data(), out.data() + at,
                                            static_cast<int>(plain.size()), bound);
      if (size <= 0) return failed(codec, "cannot compress");
      out.resize(at + static_cast<size_t>(size));
      return {};
    }
    case pb::ZLIB: {
      uLongf size = compressBound(plain.size());
      out.resize(at + size);
      const int code = ::compress(reinterpret_cast<Bytef*>(out.data() + at), &size,
                                  reinterpret_cast<const Bytef*>(plain.data()), plain.size());
      if (code != Z_OK) return failed(codec, zError(code));
      out.resize(at + size);
      return {};
    }
    case pb::ZSTD: {
      out.resize(at + ZSTD_compressBound(plain.size()));
      const size_t size = ZSTD_compress(out.data() + at, out.size() - at, plain.data(),
                                        plain.size(), ZSTD_CLEVEL_DEFAULT);
      if (ZSTD_isError(size)) return failed(codec, ZSTD_getErrorName(size));
      out.resize(at + size);
      return {};
    }
    case pb::SNAPPY: {
      out.resize(at + snappy::MaxCompressedLength(plain.size()));
      size_t size = 0;
      snappy::RawCompress(plain.data(), plain.size(), out.data() + at, &size);
      out.resize(at + size);
      return {};
    }
  }
  return Error(Code::invalid,
               fmt::format("compression type {} is unknown", static_cast<int>(codec)));
}

Result<std::string> decompress(pb::CompressionType codec, std::string_view packed,
                               size_t plain_size, size_t size_max) {
  if (plain_size > size_max) {
    return Error(Code::too_large, fmt::format("uncompressed size {} is above the limit of {}",
                                              plain_size, size_max));
  }
  std::string plain(plain_size, '\0');
  switch (codec) {
    case pb::NONE: return std::string(packed);
    case pb::LZ4: {
      const int size =
          LZ4_decompress_safe(packed.data(), plain.data(), static_cast<int>(packed.size()),
                              static_cast<int>(plain.size()));
      if (size < 0 || static_cast<size_t>(size) != plain_size)
        return failed(codec, "damaged block");
      return plain;
    }
    case pb::ZLIB: {
      uLongf size = plain.size();
      const int code = ::uncompress(reinterpret_cast<Bytef*>(plain.data()), &size,
                                    reinterpret_cast<const Bytef*>(packed.data()), packed.size());
      if (code != Z_OK) return failed(codec, zError(code));
      if (size != plain_size) return failed(codec, "size differs from the metadata's");
      return plain;
    }
    case pb::ZSTD: {
      const size_t size = ZSTD_decompress(plain.data(), plain.size(), packed.data(), packed.size());
      if (ZSTD_isError(size)) return failed(codec, ZSTD_getErrorName(size));
      if (size != plain_size) return failed(codec, "size differs from the metadata's");
      return plain;
    }
    case pb::SNAPPY: {
      size_t size = 0;
      if (!snappy::GetUncompressedLength(packed.data(), packed.size(), &size) ||
          size != plain_size ||
          !snappy::RawUncompress(packed.data(), packed.size(), plain.data())) {
        return failed(codec, "damaged block");
      }
      return plain;
    }
  }
  return Error(Code::invalid,
               fmt::format("compression type {} is unknown", static_cast<int>(codec)));
}

Result<pb::CompressionType> parse_compression(std::string_view name) {
  std::string upper(name);
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  pb::CompressionType codec = pb::NONE;
  if (pb::CompressionType_Parse(upper, &codec)) return codec;
  return Error(Code::invalid,
               fmt::format("{} is not a compression type; there are NONE, LZ4, ZLIB, "
                           "ZSTD and SNAPPY",
                           name));
}

}  // namespace hulse::wire

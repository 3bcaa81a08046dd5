#include "wire/compaction.h"

#include "wire/compression.h"
#include "wire/frame.h"
#include "wire/messages.h"

namespace hulse::wire {
namespace {

// The sender's limit is for what it sends, compressed; this bound is for hostile batches.
constexpr size_t kPlainBytesMax = size_t{64} << 20;

// A batch taken apart.
struct Batch {
  struct Item {
    pb::SingleMessageMetadata metadata;
    std::string_view value;
  };
  pb::MessageMetadata metadata;
  std::string plain;  // what the values point into
  std::vector<Item> items;
};

bool is_batch(const pb::MessageMetadata& metadata) {
  return metadata.has_num_messages_in_batch() && metadata.encryption_keys_size() == 0;
}

Result<void> take_items(std::string_view rest, Batch& batch) {
  const Error damaged(Code::corrupt, "a batch that is not laid out as its metadata says");
  const int count = batch.metadata.num_messages_in_batch();
  if (count < 0 || static_cast<size_t>(count) > rest.size() / 4) return damaged;
  for (int i = 0; i < count; ++i) {
    if (rest.size() < 4) return damaged;
    const size_t size = get_u32(rest.data());
    rest.remove_prefix(4);
    if (size > rest.size()) return damaged;
    Batch::Item item;
    if (!item.metadata.ParseFromArray(rest.data(), static_cast<int>(size))) return damaged;
    rest.remove_prefix(size);
    const auto value_size = static_cast<size_t>(std::max(0, item.metadata.payload_size()));
    if (value_size > rest.size()) return damaged;
    item.value = rest.substr(0, value_size);
    rest.remove_prefix(value_size);
    batch.items.push_back(std::move(item));
  }
  return {};
}

Result<std::unique_ptr<Batch>> take_apart(const Entry& entry) {
  auto batch = std::make_unique<Batch>();  // where it stays: the values point into it
  batch->metadata = entry.metadata;
  if (entry.metadata.compression() == pb::NONE) {
    batch->plain = entry.payload.view();
  } else {
    auto plain = decompress(entry.metadata.compression(), entry.payload.view(),
                            entry.metadata.uncompressed_size(), kPlainBytesMax);
    if (!plain) return plain.error();
    batch->plain = std::move(*plain);
  }
  const auto taken = take_items(batch->plain, *batch);
  if (!taken) return taken.error();
  return batch;
}

}  // namespace

Result<std::vector<KeyedMessage>> keyed_messages(const Bytes& bytes) {
  const auto entry = parse_entry(bytes);
  if (!entry) return entry.error();
  const auto& metadata = entry->metadata;
  std::vector<KeyedMessage> out;
  if (!is_batch(metadata)) {
    KeyedMessage message;
    if (metadata.has_partition_key()) message.key = metadata.partition_key();
    // Compressed, nothing is something.
    message.is_empty = metadata.null_value() || entry->payload.empty() ||
                       (metadata.compression() != pb::NONE && metadata.uncompressed_size() == 0);
    if (metadata.has_num_chunks_from_msg()) {
      message.chunked = metadata.uuid();
      message.ends = metadata.chunk_id() + 1 == metadata.num_chunks_from_msg();
    }
    out.push_back(std::move(message));
    return out;
  }
  const auto batch = take_apart(*entry);
  if (!batch) return batch.error();
  for (const auto& item : (*batch)->items) {
    KeyedMessage message;
    if (item.metadata.has_partition_key()) message.key = item.metadata.partition_key();
    message.is_empty = item.metadata.null_value() || item.value.empty();
    message.is_gone = item.metadata.compacted_out();
    out.push_back(std::move(message));
  }
  return out;
}

Result<std::string> without_messages(const Bytes& bytes, const std::vector<bool>& keep) {
  const auto entry = parse_entry(bytes);
  if (!entry) return entry.error();
  const auto batch = take_apart(*entry);
  if (!batch) return batch.error();
  std::string payload;
  for (size_t i = 0; i < (*batch)->items.size(); ++i) {
    auto& item = (*batch)->items[i];
    if (i >= keep.size() || !keep[i]) {
      item.metadata.Clear();
      item.metadata.set_compacted_out(true);
      item.metadata.set_payload_size(0);
      item.value = {};
    }
    const std::string single = item.metadata.SerializeAsString();
    const size_t at = payload.size();
    payload.resize(at + 4);
    put_u32(payload.data() + at, static_cast<uint32_t>(single.size()));
    payload += single;
    payload += item.value;
  }
  const auto codec = (*batch)->metadata.compression();
  return encode_entry((*batch)->metadata, payload, codec);
}

std::vector<int64_t> present_messages(const Bytes& entry) {
  const auto messages = keyed_messages(entry);
  if (!messages) return {};
  std::vector<int64_t> out((messages->size() + 63) / 64);
  bool all = true;
  for (size_t i = 0; i < messages->size(); ++i) {
    if ((*messages)[i].is_gone) {
      all = false;
    } else {
      out[i / 64] =
          static_cast<int64_t>(static_cast<uint64_t>(out[i / 64]) | uint64_t{1} << i % 64);
    }
  }
  return all ? std::vector<int64_t>() : out;
}

}  // namespace hulse::wire

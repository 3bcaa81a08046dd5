#include <gtest/gtest.h>

#include <random>

#include "base/base64.h"
#include "wire/compression.h"
#include "wire/frame.h"
#include "wire/messages.h"
#include "wire/peek.h"
#include "wire/topic_name.h"

namespace hulse::wire {
namespace {

std::string from_hex(std::string_view hex) {
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    out += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  }
  return out;
}

Bytes without_total(const std::string& frame) { return Bytes::copy(frame).slice(4); }

// The frames below were computed by an independent implementation of the protocol.
TEST(Frame, Ping) {
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::PING);
  command.mutable_ping();
  EXPECT_EQ(encode_frame(command), from_hex("00000009000000050812920100"));
}

TEST(Frame, Connect) {
  pb::BaseCommand command;
  command.set_type(pb::BaseCommand::CONNECT);
  command.mutable_connect()->set_client_version("x");
  command.mutable_connect()->set_protocol_version(19);
  EXPECT_EQ(encode_frame(command), from_hex("0000000d00000009080212050a01782013"));
}

TEST(Frame, SendOfASingleMessage) {
  const auto golden =
      from_hex("000000230000000808063204080110070e011ec5e22a000000080a0170100718e80768656c6c6f");
  const auto frame = parse_frame(without_total(golden));
  ASSERT_TRUE(frame) << frame.error().text();
  EXPECT_EQ(frame->command.send().sequence_id(), 7u);
  const auto entry = parse_entry(frame->entry);
  ASSERT_TRUE(entry) << entry.error().text();
  EXPECT_EQ(entry->metadata.producer_name(), "p");
  EXPECT_EQ(entry->payload.view(), "hello");
  EXPECT_EQ(
      encode_frame_head(frame->command, frame->entry.size()) + std::string(frame->entry.view()),
      golden);
}

TEST(Frame, SendOfABatch) {
  const auto golden = from_hex(
      "000000370000000a080632060801100718020e01f10b3b3e0000000c0a0170100718e80748135802000000041802"
      "40"
      "076162000000041801400863");
  const auto frame = parse_frame(without_total(golden));
  ASSERT_TRUE(frame);
  const auto messages = decode_messages(frame->entry, {5, 6, -1, -1}, {}, 0, kMessageBytesMax);
  ASSERT_TRUE(messages) << messages.error().text();
  const auto& list = (*messages)->list;
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].value, "ab");
  EXPECT_EQ(list[1].value, "c");
  EXPECT_EQ(list[1].sequence_id, 8u);
  EXPECT_EQ(list[1].id.text(), "5:6:-1:1");

  BatchWriter batch;
  batch.append({.value = "ab"}, 7);
  batch.append({.value = "c"}, 8);
  EXPECT_EQ(batch.payload(), from_hex("00000004180240076162000000041801400863"));
}

TEST(Frame, WhatTheBrokerNotesOfAnEntryCanBeTakenOffAgain) {
  const Bytes entry = Bytes::copy(std::string_view("\x0e\x01 and what follows", 20));
  EXPECT_FALSE(broker_metadata(entry.view()));
  EXPECT_EQ(without_broker_metadata(entry).view(), entry.view());
  pb::BrokerEntryMetadata metadata;
  metadata.set_broker_timestamp(1000);
  metadata.set_index(7);
  const Bytes noted = with_broker_metadata(metadata, entry);
  EXPECT_EQ(noted.view().substr(0, 11), std::string_view("\x0e\x02\0\0\0\5\x08\xe8\x07\x10\7", 11));
  EXPECT_EQ(without_broker_metadata(noted).view(), entry.view());
  const auto read = broker_metadata(noted.view());
  ASSERT_TRUE(read);
  EXPECT_EQ(read->index(), 7u);
  pb::MessageMetadata message;
  message.set_publish_time(999);
  EXPECT_EQ(publish_time(noted.view(), message), 1000u);
  EXPECT_EQ(publish_time(entry.view(), message), 999u);
  // Cut off: it is left as it is for whoever reports what is damaged.
  const Bytes cut = noted.slice(0, 9);
  EXPECT_FALSE(broker_metadata(cut.view()));
  EXPECT_EQ(without_broker_metadata(cut).view(), cut.view());
}

TEST(Frame, EveryFlippedBitIsNoticed) {
  pb::MessageMetadata metadata;
  metadata.set_producer_name("p");
  metadata.set_sequence_id(1);
  metadata.set_publish_time(2);
  const auto entry = encode_entry(metadata, "a payload", pb::NONE);
  ASSERT_TRUE(entry);
  ASSERT_TRUE(verify_checksum(*entry));
  for (size_t bit = 16; bit < entry->size() * 8; ++bit) {
    std::string damaged = *entry;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(verify_checksum(damaged)) << bit;
  }
}

class Codecs : public testing::TestWithParam<pb::CompressionType> {};

TEST_P(Codecs, BatchRoundTripWithEveryField) {
  const std::vector<Property> properties{{"a", "1"}, {"b", std::string_view("\0x", 2)}};
  BatchWriter batch;
  batch.append({.value = "one", .key = "k", .properties = properties, .event_time = 42}, 10);
  batch.append({.value = "", .null_value = true}, 11);
  batch.append({.value = std::string(5000, 'z')}, 12);
  pb::MessageMetadata metadata;
  metadata.set_producer_name("p");
  metadata.set_sequence_id(10);
  metadata.set_publish_time(99);
  metadata.set_num_messages_in_batch(3);
  auto entry = encode_entry(metadata, batch.payload(), GetParam());
  ASSERT_TRUE(entry) << entry.error().text();
  const std::vector<int64_t> all;
  auto messages = decode_messages(Bytes::from(*entry), {1, 2, 3, -1}, all, 4, kMessageBytesMax);
  ASSERT_TRUE(messages) << messages.error().text();
  const auto& list = (*messages)->list;
  ASSERT_EQ(list.size(), 3u);
  EXPECT_EQ(list[0].key, "k");
  ASSERT_EQ(list[0].properties.size(), 2u);
  EXPECT_EQ(list[0].properties[1], properties[1]);
  EXPECT_EQ(list[0].event_time, 42);
  EXPECT_EQ(list[0].publish_time, 99);
  EXPECT_EQ(list[0].redelivery_count, 4u);
  EXPECT_TRUE(list[1].null_value);
  EXPECT_EQ(list[2].value.size(), 5000u);
  EXPECT_EQ(list[2].id, (MessageId{1, 2, 3, 2}));

  const std::vector<int64_t> middle{0b010};
  messages = decode_messages(Bytes::from(*entry), {1, 2, 3, -1}, middle, 0, kMessageBytesMax);
  ASSERT_TRUE(messages);
  ASSERT_EQ((*messages)->list.size(), 1u);
  EXPECT_EQ((*messages)->list[0].id.batch_index, 1);
  EXPECT_EQ((*messages)->batch_size, 3u);

  EXPECT_FALSE(GetParam() != pb::NONE &&
               decode_messages(Bytes::from(*entry), {1, 2, 3, -1}, all, 0, 100));
}
INSTANTIATE_TEST_SUITE_P(All, Codecs,
                         testing::Values(pb::NONE, pb::LZ4, pb::ZLIB, pb::ZSTD, pb::SNAPPY));

TEST(Messages, WhatCannotBeReadSaysWhyAndKeepsItsBytes) {
  pb::MessageMetadata metadata;
  metadata.set_producer_name("p");
  metadata.set_sequence_id(3);
  metadata.set_publish_time(9);
  auto secret = metadata;
  secret.add_encryption_keys()->set_key("k");
  secret.mutable_encryption_keys(0)->set_value("v");
  const auto entry = encode_entry(secret, "a part", pb::NONE);
  const auto messages = decode_messages(Bytes::from(*entry), {1, 2, -1, -1}, {}, 0, 1000);
  ASSERT_FALSE(messages);
  const auto raw = undecodable(Bytes::from(*entry), {1, 2, -1, -1});
  ASSERT_EQ(raw->list.size(), 1u);
  EXPECT_EQ(raw->list[0].value, "a part");
  EXPECT_EQ(raw->list[0].publish_time, 9);
  EXPECT_EQ(undecodable(Bytes::copy("no entry"), {})->list[0].value, "no entry");
}

TEST(Messages, AChunkIsNoMessageAndJoinedChunksAreOne) {
  pb::MessageMetadata metadata;
  metadata.set_producer_name("p");
  metadata.set_sequence_id(3);
  metadata.set_publish_time(9);
  const std::string plain(10'000, 'x');
  std::string packed;
  ASSERT_TRUE(compress(pb::LZ4, plain, packed));
  metadata.set_compression(pb::LZ4);
  metadata.set_uncompressed_size(static_cast<uint32_t>(plain.size()));
  metadata.set_uuid("p-3");
  metadata.set_num_chunks_from_msg(2);
  std::string joined;
  std::string last;
  for (int i = 0; i < 2; ++i) {
    metadata.set_chunk_id(i);
    const size_t half = packed.size() / 2;
    last = assemble_entry(metadata, std::string_view(packed).substr(i == 0 ? 0 : half,
                                                                    i == 0 ? half : packed.size()));
    const auto part = decode_messages(Bytes::copy(last), {1, 2 + i, -1, -1}, {}, 0, 100);
    ASSERT_TRUE(part);
    EXPECT_TRUE((*part)->list.empty());
    ASSERT_TRUE((*part)->chunk);
    joined += (*part)->chunk->view();
  }
  const auto whole = decode_joined(Bytes::copy(last), joined, {1, 3, -1, -1}, 0, 20'000);
  ASSERT_TRUE(whole);
  ASSERT_EQ((*whole)->list.size(), 1u);
  EXPECT_EQ((*whole)->list[0].value, plain);
  EXPECT_EQ((*whole)->list[0].sequence_id, 3u);
}

TEST(Messages, AKeyThatIsNoTextComesBackAsItWas) {
  const std::string key = std::string("\xff\x00k\xfe", 4);
  const Outgoing message{.value = "v", .key = key};
  BatchWriter batch;
  batch.append(message, 1);
  pb::MessageMetadata metadata;
  metadata.set_producer_name("p");
  metadata.set_sequence_id(1);
  metadata.set_publish_time(9);
  auto alone = metadata;
  describe(message, alone);
  metadata.set_num_messages_in_batch(1);
  const auto batched = encode_entry(metadata, batch.payload(), pb::NONE);
  const auto single = encode_entry(alone, "v", pb::NONE);
  for (const auto& entry : {*batched, *single}) {
    const auto messages = decode_messages(Bytes::copy(entry), {1, 2, -1, -1}, {}, 0, 1000);
    ASSERT_TRUE(messages);
    EXPECT_EQ((*messages)->list[0].key, key);
  }
}

TEST(Messages, DamagedBatchesAreRefused) {
  std::mt19937 random(11);
  BatchWriter batch;
  for (int i = 0; i < 20; ++i) batch.append({.value = "value", .key = "key"}, i);
  size_t refused = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string payload = batch.payload();
    for (int i = 0; i < 3; ++i) payload[random() % payload.size()] = static_cast<char>(random());
    if (round % 3 == 0) payload.resize(random() % payload.size());
    pb::MessageMetadata metadata;
    metadata.set_producer_name("p");
    metadata.set_sequence_id(0);
    metadata.set_publish_time(1);
    metadata.set_num_messages_in_batch(static_cast<int>(20 + random() % 1000000 * (round % 2)));
    const auto entry = encode_entry(metadata, payload, pb::NONE);
    const auto messages = decode_messages(Bytes::from(*entry), {}, {}, 0, kMessageBytesMax);
    if (!messages) ++refused;
  }
  EXPECT_GT(refused, 1000u);
}

// Hashes that Pulsar's own implementation gives.
TEST(Peek, Murmur3) {
  EXPECT_EQ(murmur3(""), 0u);
  EXPECT_EQ(murmur3("a"), 1009084850u);
  EXPECT_EQ(murmur3("key-1"), 414258592u);
  EXPECT_EQ(murmur3("hello"), 613153351u);
  EXPECT_EQ(murmur3("pulsar"), 5536699u);
  EXPECT_EQ(murmur3("key-100"), 1814691625u);
}

TEST(Peek, SeesWhatProtobufSees) {
  pb::MessageMetadata metadata;
  metadata.set_producer_name("producer");
  metadata.set_sequence_id(77);
  metadata.set_publish_time(1234567890123);
  metadata.add_properties()->set_key("k");
  metadata.mutable_properties(0)->set_value("v");
  metadata.set_partition_key("aGVsbG8=");
  metadata.set_partition_key_b64_encoded(true);
  metadata.set_num_messages_in_batch(5);
  metadata.set_deliver_at_time(99);
  metadata.set_null_value(true);
  const auto entry = encode_entry(metadata, "payload", pb::LZ4);
  ASSERT_TRUE(entry);
  auto seen = peek(*entry);
  ASSERT_TRUE(seen) << seen.error().text();
  EXPECT_EQ(seen->producer_name, "producer");
  EXPECT_EQ(seen->sequence_id, 77u);
  EXPECT_EQ(seen->publish_time, 1234567890123u);
  EXPECT_EQ(seen->messages, 5u);
  EXPECT_TRUE(seen->is_batch);
  EXPECT_EQ(seen->deliver_at, 99);
  EXPECT_TRUE(seen->null_value);
  EXPECT_FALSE(seen->is_marker);
  EXPECT_EQ(sticky_hash(*seen), murmur3("hello"));
  for (size_t size = 0; size < 40; ++size)
    EXPECT_FALSE(peek(std::string_view(*entry).substr(0, size)));
}

TEST(Base64, RoundTripAndRefusal) {
  for (const std::string text : {"", "a", "ab", "abc", "abcd", "\xff\xfe"}) {
    EXPECT_EQ(base64_decode(base64_encode(text)), text);
  }
  EXPECT_EQ(base64_encode("hello"), "aGVsbG8=");
  EXPECT_EQ(base64_decode("a"), std::nullopt);
  EXPECT_EQ(base64_decode("ab*d"), std::nullopt);
}

TEST(TopicName, HashOfAListIsPulsars) {
  EXPECT_EQ(topics_hash({}), "00000000");
  const std::string a = "persistent://public/default/a";
  const std::string b = "persistent://public/default/b";
  EXPECT_EQ(topics_hash({a, b}), "c7559e98");
  EXPECT_EQ(topics_hash({b, a}), "c7559e98");
}

TEST(TopicName, FormsAndRefusals) {
  EXPECT_EQ(TopicName::parse("x")->text(), "persistent://public/default/x");
  EXPECT_EQ(TopicName::parse("t/n/x")->text(), "persistent://t/n/x");
  const auto partition = TopicName::parse("persistent://t/n/x-partition-12");
  EXPECT_EQ(partition->partition, 12);
  EXPECT_EQ(partition->base().text(), "persistent://t/n/x");
  EXPECT_EQ(partition->base().partition_of(3).text(), "persistent://t/n/x-partition-3");
  EXPECT_EQ(TopicName::parse("x-partition-01")->partition, -1);
  for (const char* bad :
       {"", "a/b", "persistent://a/b", "http://a/b/c", "t/n/", "t/../x\1/y", "/n/x"}) {
    EXPECT_FALSE(TopicName::parse(bad)) << bad;
  }
}

}  // namespace
}  // namespace hulse::wire

// Consumers, readers and schemas on a bus: what every broker must do for them.
#include "bus/client_fixture.h"

namespace hulse {
namespace {

using Consumers = ClientTest;

TEST_F(Consumers, ANegativeAcknowledgementBringsAnEntryAgain) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    for (const auto type :
         {wire::pb::CommandSubscribe::Shared, wire::pb::CommandSubscribe::Exclusive}) {
      client::ConsumerOptions subscribe;
      subscribe.topic = topic(fmt::format("t{}", static_cast<int>(type)));
      subscribe.subscription = "s";
      subscribe.type = type;
      const auto consumer = co_await client.subscribe(subscribe);
      client::ProducerOptions produce;
      produce.topic = subscribe.topic;
      produce.batching = client::Batching::off;
      const auto producer = co_await client.create_producer(produce);
      for (int i = 0; i < 5; ++i) {
        const auto id = co_await send(**producer, std::to_string(i));
        EXPECT_TRUE(id);
      }
      std::vector<MessageId> ids;
      for (int i = 0; i < 5; ++i) {
        const auto messages = co_await (*consumer)->receive();
        EXPECT_TRUE(messages);
        ids.push_back((*messages)->id);
        if (i < 2) (*consumer)->ack((*messages)->id);
      }
      const auto acked = co_await (*consumer)->flush_acks();
      EXPECT_TRUE(acked);
      const auto backlog = co_await (*consumer)->backlog();
      EXPECT_TRUE(backlog);
      EXPECT_EQ(*backlog, 3u);
      (*consumer)->redeliver(ids[2], std::chrono::milliseconds(50));
      const auto messages = co_await (*consumer)->receive();
      EXPECT_TRUE(messages);
      EXPECT_EQ((*messages)->list.front().value, "2");
      (*consumer)->ack((*messages)->id);
      if (type == wire::pb::CommandSubscribe::Shared) {
        EXPECT_EQ((*messages)->list.front().redelivery_count, 1u);
      } else {
        const auto rest = co_await take(**consumer, 2, true);
        EXPECT_EQ(rest, (std::vector<std::string>{"3", "4"}));
      }
      co_await (*producer)->close();
      co_await (*consumer)->close();
    }
  });
}

TEST_F(Consumers, SeekMovesToAMessageAndToATime) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    const auto consumer = co_await client.subscribe(consumer_options());
    auto produce = producer_options();
    produce.batching = client::Batching::off;
    const auto producer = co_await client.create_producer(produce);
    std::vector<MessageId> ids;
    int64_t middle = 0;
    for (int i = 0; i < 10; ++i) {
      if (i == 5) {
        co_await aio::sleep(std::chrono::milliseconds(20));
        middle = aio::wall_ms();
        co_await aio::sleep(std::chrono::milliseconds(20));
      }
      const auto id = co_await send(**producer, std::to_string(i));
      EXPECT_TRUE(id);
      ids.push_back(*id);
    }
    auto got = co_await take(**consumer, 10, true);
    const auto acked = co_await (*consumer)->flush_acks();
    EXPECT_TRUE(acked);
    auto moved = co_await (*consumer)->seek(ids[3]);
    EXPECT_TRUE(moved) << moved.error().text();
    got = co_await take(**consumer, 7, true);
    EXPECT_EQ(got.front(), "3");
    EXPECT_EQ(got.back(), "9");
    moved = co_await (*consumer)->seek(middle);
    EXPECT_TRUE(moved) << moved.error().text();
    got = co_await take(**consumer, 5, true);
    EXPECT_EQ(got.front(), "5");
    moved = co_await (*consumer)->seek(kEarliest);
    EXPECT_TRUE(moved) << moved.error().text();
    got = co_await take(**consumer, 10, true);
    EXPECT_EQ(got.front(), "0");
    co_await (*producer)->close();
    co_await (*consumer)->close();
  });
}

TEST_F(Consumers, AReaderBeginsWhereItIsTold) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    auto produce = producer_options();
    produce.initial_subscription = "keep";
    const auto producer = co_await client.create_producer(produce);
    // One batch: a start may lie within it.
    std::vector<std::string> texts;
    std::vector<wire::Outgoing> messages;
    for (int i = 0; i < 6; ++i) texts.push_back(std::to_string(i));
    for (const auto& text : texts) messages.push_back({.value = text});
    (*producer)->send(messages, nullptr);
    const auto flushed = co_await (*producer)->flush();
    EXPECT_TRUE(flushed);
    const auto alone = co_await send(**producer, "6");
    EXPECT_TRUE(alone);
    const auto last = co_await send(**producer, "7");
    EXPECT_TRUE(last);
    const auto read = [&](std::optional<MessageId> start,
                          bool inclusive) -> aio::Task<std::vector<std::string>> {
      client::ConsumerOptions options;
      options.topic = topic();
      options.subscription = "reader-" + random_hex(5);
      options.type = wire::pb::CommandSubscribe::Exclusive;
      options.durable = false;
      options.start = start;
      options.start_inclusive = inclusive;
      const auto reader = co_await client.subscribe(options);
      EXPECT_TRUE(reader);
      std::vector<std::string> got;
      while (got.empty() || got.back() != "7") {
        const auto more = co_await (*reader)->receive();
        EXPECT_TRUE(more);
        if (!more) break;
        for (const auto& message : (*more)->list) got.emplace_back(message.value);
      }
      co_await (*reader)->close();
      co_return got;
    };
    using Texts = std::vector<std::string>;
    auto got = co_await read(kEarliest, false);
    EXPECT_EQ(got, (Texts{"0", "1", "2", "3", "4", "5", "6", "7"}));
    got = co_await read(*alone, false);
    EXPECT_EQ(got, (Texts{"7"}));
    got = co_await read(*alone, true);
    EXPECT_EQ(got, (Texts{"6", "7"}));
    MessageId within = *alone;
    within.entry -= 1;
    within.batch_index = 3;
    got = co_await read(within, false);
    EXPECT_EQ(got, (Texts{"4", "5", "6", "7"}));
    got = co_await read(within, true);
    EXPECT_EQ(got, (Texts{"3", "4", "5", "6", "7"}));
    co_await (*producer)->close();
  });
}

TEST_F(Consumers, SchemasAreRegisteredFoundAndCarried) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    wire::pb::Schema schema;
    schema.set_name("s");
    schema.set_type(wire::pb::Schema::Json);
    schema.set_schema_data(R"({"type":"record","name":"R","fields":[{"name":"a","type":"int"}]})");
    const auto none = co_await client.schema(topic(), "");
    EXPECT_FALSE(none);
    if (!none) EXPECT_EQ(none.error().code(), Code::not_found) << none.error().text();
    auto produce = producer_options();
    produce.schema = schema;
    const auto producer = co_await client.create_producer(produce);
    EXPECT_TRUE(producer) << producer.error().text();
    EXPECT_FALSE((*producer)->schema_version().empty());
    auto subscribe = consumer_options();
    subscribe.schema = schema;
    const auto consumer = co_await client.subscribe(subscribe);
    EXPECT_TRUE(consumer) << consumer.error().text();
    const auto id = co_await send(**producer, R"({"a":1})");
    EXPECT_TRUE(id);
    const auto messages = co_await (*consumer)->receive();
    EXPECT_TRUE(messages);
    EXPECT_EQ((*messages)->metadata.schema_version(), (*producer)->schema_version());
    const auto found = co_await client.schema(topic(), (*producer)->schema_version());
    EXPECT_TRUE(found) << found.error().text();
    EXPECT_EQ(found->schema.schema_data(), schema.schema_data());
    const auto version = co_await client.register_schema(topic(), schema);
    EXPECT_TRUE(version) << version.error().text();
    EXPECT_EQ(*version, (*producer)->schema_version());
    schema.set_type(wire::pb::Schema::String);
    schema.set_schema_data("");
    const auto other = co_await client.register_schema(topic(), schema);
    EXPECT_FALSE(other);
    if (!other) EXPECT_EQ(other.error().code(), Code::invalid) << other.error().text();
    co_await (*producer)->close();
    co_await (*consumer)->close();
  });
}

}  // namespace
}  // namespace hulse

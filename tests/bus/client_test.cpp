// The client on a bus: what every broker must do for it, and it for its user.
#include <algorithm>
#include <map>
#include <set>

#include "bus/client_fixture.h"
#include "client/multi_consumer.h"

namespace hulse {
namespace {

using Bus = ClientTest;

TEST_F(Bus, ManyMessagesKeepTheirOrder) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    const auto consumer = co_await client.subscribe(consumer_options());
    EXPECT_TRUE(consumer) << consumer.error().text();
    const auto producer = co_await client.create_producer(producer_options());
    EXPECT_TRUE(producer) << producer.error().text();
    constexpr size_t kCount = 100'000;
    size_t stored = 0;
    for (size_t i = 0; i < kCount; ++i) {
      const std::string text = "message " + std::to_string(i);
      const wire::Outgoing message{.value = text};
      const bool room = co_await (*producer)->wait_for_room();
      EXPECT_TRUE(room);
      (*producer)->send({&message, 1}, [&](const Result<MessageId>& id) { stored += id ? 1 : 0; });
    }
    const auto flushed = co_await (*producer)->flush();
    EXPECT_TRUE(flushed);
    EXPECT_EQ(stored, kCount);
    const auto got = co_await take(**consumer, kCount, true);
    EXPECT_EQ(got.size(), kCount);
    for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], "message " + std::to_string(i));
    const auto acked = co_await (*consumer)->flush_acks();
    EXPECT_TRUE(acked);
    co_await (*producer)->close();
    co_await (*consumer)->close();
  });
}

TEST_F(Bus, ABrokerRestartLosesAndRepeatsNothing) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    const auto consumer = co_await client.subscribe(consumer_options());
    const auto producer = co_await client.create_producer(producer_options());
    std::vector<std::string> got;
    std::vector<std::string> sent;
    for (int round = 0; round < (external() ? 1 : 4); ++round) {
      for (int i = 0; i < 50; ++i) {
        sent.push_back(std::to_string(sent.size()));
        const auto id = co_await send(**producer, sent.back());
        EXPECT_TRUE(id) << id.error().text();
      }
      // Half of them, some acknowledged; one stays in our hands over the restart.
      const auto first = co_await take(**consumer, 25, true);
      got.insert(got.end(), first.begin(), first.end());
      auto held = co_await (*consumer)->receive();
      EXPECT_TRUE(held);
      got.emplace_back((*held)->list.front().value);
      co_await restart_bus();
      (*consumer)->ack((*held)->list.front().id);
      const auto rest = co_await take(**consumer, 24, true);
      got.insert(got.end(), rest.begin(), rest.end());
    }
    EXPECT_EQ(got, sent);
    const auto acked = co_await (*consumer)->flush_acks();
    EXPECT_TRUE(acked);
    co_await (*producer)->close();
    co_await (*consumer)->close();
  });
}

TEST_F(Bus, MemoryIsBoundedWhenNobodyTakesMessages) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    auto subscribe = consumer_options();
    subscribe.bytes_max = 1 << 20;
    const auto consumer = co_await client.subscribe(subscribe);
    auto produce = producer_options();
    produce.compression = wire::pb::NONE;
    const auto producer = co_await client.create_producer(produce);
    const std::string large(256 << 10, 'x');
    for (int i = 0; i < 200; ++i) {
      const auto id = co_await send(**producer, large + std::to_string(i));
      EXPECT_TRUE(id) << id.error().text();
    }
    EXPECT_LT((*consumer)->queued_bytes(), 3u << 20) << "permits follow the size of what comes";
    const auto got = co_await take(**consumer, 200, true);
    EXPECT_LT((*consumer)->queued_bytes(), 3u << 20);
    EXPECT_EQ(got.size(), 200u);
    for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], large + std::to_string(i));
    co_await (*producer)->close();
    co_await (*consumer)->close();
  });
}

TEST_F(Bus, ASecondExclusiveConsumerIsRefusedWithTheBrokersWords) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    auto subscribe = consumer_options();
    subscribe.type = wire::pb::CommandSubscribe::Exclusive;
    const auto first = co_await client.subscribe(subscribe);
    EXPECT_TRUE(first);
    const auto second = co_await client.subscribe(subscribe);
    EXPECT_FALSE(second);
    if (!second) {
      EXPECT_EQ(second.error().code(), Code::busy);
      EXPECT_NE(second.error().text().find("Exclusive consumer is already connected"),
                std::string::npos);
    }
    co_await (*first)->close();
  });
}

TEST_F(Bus, FailoverHandsOverWithoutLoss) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    auto subscribe = consumer_options();
    subscribe.type = wire::pb::CommandSubscribe::Failover;
    subscribe.name = "a";
    auto first = co_await client.subscribe(subscribe);
    subscribe.name = "b";
    auto second = co_await client.subscribe(subscribe);
    // Whose turn it is, is the broker's choice.
    while ((*first)->active() == (*second)->active()) {
      co_await aio::sleep(std::chrono::milliseconds(10));
    }
    if ((*second)->active()) std::swap(first, second);
    const auto producer = co_await client.create_producer(producer_options());
    for (int i = 0; i < 10; ++i) {
      const auto id = co_await send(**producer, std::to_string(i));
      EXPECT_TRUE(id);
    }
    auto got = co_await take(**first, 4, false);
    EXPECT_EQ(got.back(), "3");
    EXPECT_FALSE((*second)->active());
    (*first)->ack_until({0, 0, -1, -1});  // an unknown position moves nothing
    const auto told = co_await (*first)->flush_acks();
    EXPECT_TRUE(told);
    co_await (*first)->close();
    got = co_await take(**second, 10, false);
    EXPECT_EQ(got.front(), "0");
    EXPECT_EQ(got.back(), "9");
    // It may be told later than it is served.
    while (!(*second)->active()) co_await aio::sleep(std::chrono::milliseconds(10));
    co_await (*producer)->close();
    co_await (*second)->close();
  });
}

TEST_F(Bus, AMessageAboveTheLimitIsRefusedAndTheNextGoesThrough) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    auto produce = producer_options();
    produce.compression = wire::pb::NONE;
    const auto producer = co_await client.create_producer(produce);
    const auto large = co_await send(**producer, std::string((5 << 20) + 1, 'x'));
    EXPECT_FALSE(large);
    if (!large) EXPECT_EQ(large.error().code(), Code::too_large);
    const auto small = co_await send(**producer, "x");
    EXPECT_TRUE(small);
    co_await (*producer)->close();
  });
}

TEST_F(Bus, AnUnloadedTopicLosesAndRepeatsNothing) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    const auto consumer = co_await client.subscribe(consumer_options());
    const auto producer = co_await client.create_producer(producer_options());
    std::vector<std::string> got;
    std::vector<std::string> sent;
    size_t stored = 0;
    for (int round = 0; round < 3; ++round) {
      // What is on its way when the topic goes is sent again, and stored once.
      for (int i = 0; i < 200; ++i) {
        sent.push_back(std::to_string(sent.size()));
        const wire::Outgoing message{.value = sent.back()};
        (*producer)->send({&message, 1},
                          [&](const Result<MessageId>& id) { stored += id ? 1 : 0; });
      }
      co_await unload(topic());
      const auto some = co_await take(**consumer, 150, true);
      got.insert(got.end(), some.begin(), some.end());
    }
    const auto flushed = co_await (*producer)->flush();
    EXPECT_TRUE(flushed);
    EXPECT_EQ(stored, sent.size());
    const std::set<std::string> wanted(sent.begin(), sent.end());
    std::set<std::string> seen(got.begin(), got.end());
    while (seen.size() < wanted.size()) {
      const auto more = co_await take(**consumer, 1, true);
      if (more.empty()) break;
      seen.insert(more.begin(), more.end());
    }
    EXPECT_EQ(seen, wanted);
    const auto acked = co_await (*consumer)->flush_acks();
    EXPECT_TRUE(acked);
    co_await (*producer)->close();
    co_await (*consumer)->close();
  });
}

TEST_F(Bus, ATerminatedTopicTakesNothingAndIsReadToItsEnd) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    auto subscribe = consumer_options();
    subscribe.type = wire::pb::CommandSubscribe::Exclusive;
    const auto consumer = co_await client.subscribe(subscribe);
    const auto producer = co_await client.create_producer(producer_options());
    for (int i = 0; i < 10; ++i) {
      const auto id = co_await send(**producer, std::to_string(i));
      EXPECT_TRUE(id);
    }
    co_await terminate(topic());
    const auto late = co_await send(**producer, "late");
    EXPECT_FALSE(late);
    if (!late) EXPECT_EQ(late.error().code(), Code::closed) << late.error().text();
    const auto got = co_await take(**consumer, 10, true);
    EXPECT_EQ(got.back(), "9");
    const auto acked = co_await (*consumer)->flush_acks();
    EXPECT_TRUE(acked);
    const auto end = co_await (*consumer)->receive();
    EXPECT_FALSE(end);
    if (!end) EXPECT_EQ(end.error().code(), Code::closed) << end.error().text();
    co_await (*producer)->close();
    co_await (*consumer)->close();
  });
}

// ---- producer

TEST_F(Bus, EveryCompressionAndBatchingComesBackWhole) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    using client::Batching;
    for (const auto codec :
         {wire::pb::NONE, wire::pb::LZ4, wire::pb::ZLIB, wire::pb::ZSTD, wire::pb::SNAPPY}) {
      for (const auto batching :
           {Batching::off, Batching::together, Batching::by_key, Batching::cut_at_key}) {
        const std::string name =
            topic(fmt::format("c{}-b{}", static_cast<int>(codec), static_cast<int>(batching)));
        client::ConsumerOptions subscribe;
        subscribe.topic = name;
        subscribe.subscription = "s";
        const auto consumer = co_await client.subscribe(subscribe);
        EXPECT_TRUE(consumer) << consumer.error().text();
        client::ProducerOptions produce;
        produce.topic = name;
        produce.compression = codec;
        produce.batching = batching;
        const auto producer = co_await client.create_producer(produce);
        EXPECT_TRUE(producer) << producer.error().text();
        std::map<std::string, std::vector<std::string>> sent;
        size_t stored = 0;
        for (int i = 0; i < 60; ++i) {
          const std::string key = "k" + std::to_string(i / 2 % 3);
          const std::string text = fmt::format("{} {}", i, std::string(200, 'x'));
          const wire::Outgoing message{.value = text, .key = key};
          (*producer)->send({&message, 1},
                            [&](const Result<MessageId>& id) { stored += id ? 1 : 0; });
          sent[key].push_back(text);
        }
        const auto flushed = co_await (*producer)->flush();
        EXPECT_TRUE(flushed);
        EXPECT_EQ(stored, 60u);
        std::map<std::string, std::vector<std::string>> got;
        std::vector<uint64_t> sequence_ids;
        size_t entries = 0;
        for (size_t count = 0; count < 60;) {
          const auto messages = co_await (*consumer)->receive();
          EXPECT_TRUE(messages);
          std::set<std::string> keys;
          for (const auto& message : (*messages)->list) {
            keys.emplace(*message.key);
            got[std::string(*message.key)].emplace_back(message.value);
            sequence_ids.push_back(message.sequence_id);
          }
          if (batching != Batching::together) EXPECT_EQ(keys.size(), 1u);
          count += (*messages)->list.size();
          ++entries;
          (*consumer)->ack((*messages)->id);
        }
        EXPECT_EQ(got, sent);
        EXPECT_TRUE(std::is_sorted(sequence_ids.begin(), sequence_ids.end()));
        if (batching == Batching::off) EXPECT_EQ(entries, 60u);
        co_await (*producer)->close();
        co_await (*consumer)->close();
      }
    }
  });
}

TEST_F(Bus, ALargeMessageComesInChunksAndIsAcknowledgedWhole) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    auto subscribe = consumer_options();
    auto consumer = co_await client.subscribe(subscribe);
    auto produce = producer_options();
    produce.compression = wire::pb::NONE;
    produce.chunking = true;
    produce.pending_bytes_max = 64 << 20;
    const auto producer = co_await client.create_producer(produce);
    std::string large(12 << 20, 'x');
    for (size_t i = 0; i < large.size(); i += 1000) large[i] = static_cast<char>('a' + i % 26);
    for (const std::string& text : {std::string("before"), large, std::string("after")}) {
      const auto id = co_await send(**producer, text);
      EXPECT_TRUE(id) << id.error().text();
    }
    auto got = co_await take(**consumer, 3, false);
    EXPECT_EQ(got[0], "before");
    EXPECT_TRUE(got[1] == large);
    EXPECT_EQ(got[2], "after");
    // Not acknowledged: all of it comes again.
    co_await (*consumer)->close();
    consumer = co_await client.subscribe(subscribe);
    got = co_await take(**consumer, 3, true);
    EXPECT_TRUE(got[1] == large);
    const auto acked = co_await (*consumer)->flush_acks();
    EXPECT_TRUE(acked);
    co_await (*consumer)->close();
    // Acknowledged: none of its chunks does.
    consumer = co_await client.subscribe(subscribe);
    const auto id = co_await send(**producer, "last");
    EXPECT_TRUE(id);
    got = co_await take(**consumer, 1, true);
    EXPECT_EQ(got[0], "last");
    co_await (*producer)->close();
    co_await (*consumer)->close();
  });
}

TEST_F(Bus, TheMemoryOfAllProducersIsBounded) {
  client_options_.memory_bytes_max = 1 << 20;
  with_client([this](client::Client& client) -> aio::Task<void> {
    auto produce = producer_options();
    produce.compression = wire::pb::NONE;
    produce.batching = client::Batching::off;
    const auto first = co_await client.create_producer(produce);
    produce.topic = topic("other");
    const auto second = co_await client.create_producer(produce);
    const std::string text(700 << 10, 'x');
    const wire::Outgoing message{.value = text};
    (*first)->send({&message, 1}, nullptr);
    (*first)->send({&message, 1}, nullptr);
    EXPECT_FALSE((*second)->has_room()) << "what one holds counts for the other";
    const bool room = co_await (*second)->wait_for_room();
    EXPECT_TRUE(room);
    const auto flushed = co_await (*first)->flush();
    EXPECT_TRUE(flushed);
    co_await (*first)->close();
    co_await (*second)->close();
  });
}

TEST_F(Bus, SequenceIdsGoOnWhereANameLeftOff) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    const std::string name_space = "public/dedup-" + random_hex(4);
    co_await admin("PUT", "namespaces/" + name_space, "{}");
    co_await admin("POST", "namespaces/" + name_space + "/deduplication", "true");
    client::ProducerOptions produce;
    produce.topic = "persistent://" + name_space + "/t";
    produce.name = "p";
    auto producer = co_await client.create_producer(produce);
    EXPECT_TRUE(producer) << producer.error().text();
    for (int i = 0; i < 5; ++i) {
      const auto id = co_await send(**producer, std::to_string(i));
      EXPECT_TRUE(id);
    }
    co_await (*producer)->close();
    producer = co_await client.create_producer(produce);
    EXPECT_EQ((*producer)->last_sequence_id(), 4);
    co_await (*producer)->close();
    produce.first_sequence_id = 3;
    producer = co_await client.create_producer(produce);
    const auto again = co_await send(**producer, "3 again");
    EXPECT_TRUE(again);
    if (again) EXPECT_EQ(again->entry, -1) << "the broker knew it";
    co_await (*producer)->close();
  });
}

// ---- finding brokers

TEST_F(Bus, TheNextAddressServesWhenTheFirstIsDeadAndHttpFindsBrokersToo) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    const std::string address = service_url().substr(service_url().find("://") + 3);
    for (const std::string& url : {"pulsar://127.0.0.1:1," + address, admin_url()}) {
      auto other = client::Client::make(client.executor(), {.service_url = url});
      EXPECT_TRUE(other);
      client::ProducerOptions produce;
      produce.topic = topic();
      const auto producer = co_await (*other)->create_topic_producer(produce);
      EXPECT_TRUE(producer) << url << ": " << producer.error().text();
      if (producer) {
        const std::string text = "x";
        const wire::Outgoing message{.value = text};
        (*producer)->send({&message, 1}, nullptr);
        const auto flushed = co_await (*producer)->flush();
        EXPECT_TRUE(flushed);
        co_await (*producer)->close();
      }
      const auto list = co_await (*other)->topics("public/default", "");
      EXPECT_TRUE(list) << list.error().text();
      EXPECT_NE(std::find(list->names.begin(), list->names.end(), topic()), list->names.end());
      co_await (*other)->stop();
    }
  });
}

TEST_F(Bus, NewPartitionsAreUsedByAProducer) {
  client_options_.discovery_period = std::chrono::milliseconds(100);
  with_client([this](client::Client& client) -> aio::Task<void> {
    co_await make_partitions(topic(), 2);
    auto produce = producer_options();
    const auto producer = co_await client.create_topic_producer(produce);
    EXPECT_TRUE(producer) << producer.error().text();
    EXPECT_EQ((*producer)->partitions(), 2u);
    co_await grow_partitions(topic(), 4);
    while ((*producer)->partitions() < 4) co_await aio::sleep(std::chrono::milliseconds(10));
    size_t stored = 0;
    for (int i = 0; i < 4; ++i) {
      const std::string text = std::to_string(i);
      const wire::Outgoing message{.value = text};
      (*producer)->send({&message, 1}, [&](const Result<MessageId>& id) { stored += id ? 1 : 0; });
    }
    const auto flushed = co_await (*producer)->flush();
    EXPECT_TRUE(flushed);
    EXPECT_EQ(stored, 4u);
    co_await (*producer)->close();
  });
}

TEST_F(Bus, APatternNoticesNewTopicsAndNewPartitions) {
  client_options_.discovery_period = std::chrono::milliseconds(100);
  with_client([this](client::Client& client) -> aio::Task<void> {
    const auto say = [&](std::string to, std::string text) -> aio::Task<void> {
      client::ProducerOptions produce;
      produce.topic = std::move(to);
      const auto producer = co_await client.create_producer(produce);
      EXPECT_TRUE(producer) << producer.error().text();
      const auto id = co_await send(**producer, std::move(text));
      EXPECT_TRUE(id) << id.error().text();
      co_await (*producer)->close();
    };
    co_await make_partitions(topic("match-p"), 2);
    co_await say(topic("match-a"), "before");
    co_await say(topic("other"), "never");
    client::ConsumerOptions options;
    options.subscription = "s";
    options.initial_position = wire::pb::CommandSubscribe::Earliest;
    client::TopicSelection selection;
    const std::string pattern = topic("match-.*");
    selection.pattern = pattern;
    const auto consumer =
        co_await client::MultiConsumer::subscribe(client, std::move(selection), options);
    EXPECT_TRUE(consumer) << consumer.error().text();
    const auto take_one = [&]() -> aio::Task<std::string> {
      const auto delivery = co_await (*consumer)->receive();
      EXPECT_TRUE(delivery) << delivery.error().text();
      delivery->consumer->ack(delivery->messages->id);
      co_return std::string(delivery->messages->list.front().value);
    };
    auto text = co_await take_one();
    EXPECT_EQ(text, "before");
    co_await say(topic("match-b"), "new topic");
    text = co_await take_one();
    EXPECT_EQ(text, "new topic");
    co_await grow_partitions(topic("match-p"), 3);
    co_await say(topic("match-p") + "-partition-2", "new partition");
    text = co_await take_one();
    EXPECT_EQ(text, "new partition");
    const auto topics = (*consumer)->topics();
    EXPECT_EQ(topics.size(), 5u);
    const auto acked = co_await (*consumer)->flush_acks();
    EXPECT_TRUE(acked);
    co_await (*consumer)->close();

    selection.pattern = topic("match-(");
    const auto refused =
        co_await client::MultiConsumer::subscribe(client, std::move(selection), options);
    EXPECT_FALSE(refused);
    if (!refused) EXPECT_EQ(refused.error().code(), Code::invalid) << refused.error().text();
  });
}

}  // namespace
}  // namespace hulse

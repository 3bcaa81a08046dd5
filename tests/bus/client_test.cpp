// The client on a bus: what every broker must do for it, and it for its user.
#include <set>

#include "bus/client_fixture.h"

namespace hulse {
namespace {

using Bus = ClientTest;

TEST_F(Bus, ManyMessagesKeepTheirOrder) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    client::ConsumerOptions subscribe;
    subscribe.topic = topic();
    subscribe.subscription = "s";
    const auto consumer = co_await client.subscribe(subscribe);
    EXPECT_TRUE(consumer) << consumer.error().text();
    client::ProducerOptions produce;
    produce.topic = topic();
    const auto producer = co_await client.create_producer(produce);
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
    client::ConsumerOptions subscribe;
    subscribe.topic = topic();
    subscribe.subscription = "s";
    const auto consumer = co_await client.subscribe(subscribe);
    client::ProducerOptions produce;
    produce.topic = topic();
    const auto producer = co_await client.create_producer(produce);
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
    client::ConsumerOptions subscribe;
    subscribe.topic = topic();
    subscribe.subscription = "s";
    subscribe.bytes_max = 1 << 20;
    const auto consumer = co_await client.subscribe(subscribe);
    client::ProducerOptions produce;
    produce.topic = topic();
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
    client::ConsumerOptions subscribe;
    subscribe.topic = topic();
    subscribe.subscription = "s";
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
    client::ConsumerOptions subscribe;
    subscribe.topic = topic();
    subscribe.subscription = "s";
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
    client::ProducerOptions produce;
    produce.topic = topic();
    const auto producer = co_await client.create_producer(produce);
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
    EXPECT_TRUE((*second)->active());
    co_await (*producer)->close();
    co_await (*second)->close();
  });
}

TEST_F(Bus, AMessageAboveTheLimitIsRefusedAndTheNextGoesThrough) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    client::ProducerOptions produce;
    produce.topic = topic();
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
    client::ConsumerOptions subscribe;
    subscribe.topic = topic();
    subscribe.subscription = "s";
    const auto consumer = co_await client.subscribe(subscribe);
    client::ProducerOptions produce;
    produce.topic = topic();
    const auto producer = co_await client.create_producer(produce);
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
    client::ConsumerOptions subscribe;
    subscribe.topic = topic();
    subscribe.subscription = "s";
    subscribe.type = wire::pb::CommandSubscribe::Exclusive;
    const auto consumer = co_await client.subscribe(subscribe);
    client::ProducerOptions produce;
    produce.topic = topic();
    const auto producer = co_await client.create_producer(produce);
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

}  // namespace
}  // namespace hulse

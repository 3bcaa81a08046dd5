// Our client and our broker over a real socket: what neither folder can test alone.
#include <gtest/gtest.h>

#include <filesystem>

#include "aio/offload.h"
#include "aio/run.h"
#include "aio/threads.h"
#include "broker/broker.h"
#include "client/client.h"

namespace hulse {
namespace {

using namespace std::chrono_literals;

class Bus : public testing::Test {
 protected:
  Bus() {
    char name[] = "/tmp/hulse-bus-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~Bus() override { std::filesystem::remove_all(path_); }

  // Runs `body` beside a client; both on one loop, the broker on its own.
  void with_client(std::function<aio::Task<void>(client::Client&)> body) {
    aio::run(run(std::move(body)));
  }

  aio::Task<void> run(std::function<aio::Task<void>(client::Client&)> body) {
    co_await start_broker();
    const auto executor = co_await aio::asio::this_coro::executor;
    auto client = client::Client::make(executor, {.service_url = broker_->service_url()});
    EXPECT_TRUE(client);
    co_await body(**client);
    co_await (*client)->stop();
    co_await stop_broker();
  }

  aio::Task<void> start_broker() {
    auto store = storage::Store::open({.path = path_, .segment_bytes = 4 << 20});
    EXPECT_TRUE(store) << store.error().text();
    store_ = std::move(*store);
    broker::Options options;
    options.port = port_;
    broker_ = std::make_unique<broker::Broker>(options, *store_, threads_.at(0), threads_.at(1));
    const auto started = co_await aio::on(threads_.at(0), broker_->start());
    EXPECT_TRUE(started) << started.error().text();
    const std::string url = broker_->service_url();
    port_ = static_cast<uint16_t>(std::stoi(url.substr(url.rfind(':') + 1)));
  }
  aio::Task<void> stop_broker() {
    co_await aio::on(threads_.at(0), broker_->stop());
    broker_.reset();
    store_.reset();
  }

  std::string path_;
  uint16_t port_ = 0;
  aio::Threads threads_{"bus", 2};
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<broker::Broker> broker_;
};

// Sends and waits for the receipt.
aio::Task<Result<MessageId>> send(client::Producer& producer, std::string text) {
  const auto executor = co_await aio::asio::this_coro::executor;
  aio::Event done(executor);
  std::optional<Result<MessageId>> result;
  const wire::Outgoing message{.value = text};
  producer.send({&message, 1}, [&](const Result<MessageId>& id) {
    result = id;
    done.notify();
  });
  while (!result) co_await done.wait();
  co_return *result;
}

aio::Task<std::vector<std::string>> take(client::Consumer& consumer, size_t count, bool ack) {
  std::vector<std::string> out;
  while (out.size() < count) {
    auto messages = co_await consumer.receive();
    EXPECT_TRUE(messages) << messages.error().text();
    if (!messages) break;
    for (const auto& message : (*messages)->list) out.emplace_back(message.value);
    if (ack) consumer.ack((*messages)->list.front().id);
  }
  co_return out;
}

TEST_F(Bus, ManyMessagesKeepTheirOrder) {
  with_client([](client::Client& client) -> aio::Task<void> {
    client::ConsumerOptions subscribe;
    subscribe.topic = "t";
    subscribe.subscription = "s";
    const auto consumer = co_await client.subscribe(subscribe);
    EXPECT_TRUE(consumer) << consumer.error().text();
    client::ProducerOptions produce;
    produce.topic = "t";
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
    subscribe.topic = "t";
    subscribe.subscription = "s";
    const auto consumer = co_await client.subscribe(subscribe);
    client::ProducerOptions produce;
    produce.topic = "t";
    const auto producer = co_await client.create_producer(produce);
    std::vector<std::string> got;
    std::vector<std::string> sent;
    for (int round = 0; round < 4; ++round) {
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
      co_await stop_broker();
      co_await start_broker();
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
  with_client([](client::Client& client) -> aio::Task<void> {
    client::ConsumerOptions subscribe;
    subscribe.topic = "t";
    subscribe.subscription = "s";
    subscribe.bytes_max = 1 << 20;
    const auto consumer = co_await client.subscribe(subscribe);
    client::ProducerOptions produce;
    produce.topic = "t";
    produce.compression = wire::pb::NONE;
    const auto producer = co_await client.create_producer(produce);
    const std::string large(256 << 10, 'x');
    for (int i = 0; i < 200; ++i) {
      const auto id = co_await send(**producer, large + std::to_string(i));
      EXPECT_TRUE(id) << id.error().text();
    }
    const auto got = co_await take(**consumer, 200, true);
    EXPECT_EQ(got.size(), 200u);
    for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], large + std::to_string(i));
    co_await (*producer)->close();
    co_await (*consumer)->close();
  });
}

TEST_F(Bus, ASecondExclusiveConsumerIsRefusedWithTheBrokersWords) {
  with_client([](client::Client& client) -> aio::Task<void> {
    client::ConsumerOptions subscribe;
    subscribe.topic = "t";
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
  with_client([](client::Client& client) -> aio::Task<void> {
    client::ConsumerOptions subscribe;
    subscribe.topic = "t";
    subscribe.subscription = "s";
    subscribe.type = wire::pb::CommandSubscribe::Failover;
    subscribe.name = "a";
    const auto first = co_await client.subscribe(subscribe);
    subscribe.name = "b";
    const auto second = co_await client.subscribe(subscribe);
    client::ProducerOptions produce;
    produce.topic = "t";
    const auto producer = co_await client.create_producer(produce);
    for (int i = 0; i < 10; ++i) {
      const auto id = co_await send(**producer, std::to_string(i));
      EXPECT_TRUE(id);
    }
    auto got = co_await take(**first, 4, false);
    EXPECT_EQ(got.back(), "3");
    EXPECT_FALSE((*second)->active());
    (*first)->ack_until({0, 0, -1, -1});  // an unknown position moves nothing
    co_await (*first)->close();
    got = co_await take(**second, 10, false);
    EXPECT_EQ(got.front(), "0");
    EXPECT_EQ(got.back(), "9");
    co_await (*producer)->close();
    co_await (*second)->close();
  });
}

TEST_F(Bus, AMessageAboveTheLimitIsRefusedAndTheNextGoesThrough) {
  with_client([](client::Client& client) -> aio::Task<void> {
    client::ProducerOptions produce;
    produce.topic = "t";
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

}  // namespace
}  // namespace hulse

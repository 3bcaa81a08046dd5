// A producer of ours whose topic has more backlog than its quota allows.
#include <fmt/format.h>

#include <future>

#include "client_fixture.h"

namespace hulse {
namespace {

using Quota = ClientTest;

TEST_F(Quota, WhatIsSentOverABacklogQuotaWaitsAndIsNotLost) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    auto name = topic("quota");
    const auto space = "public/" + name.substr(name.rfind('/') + 1);
    co_await admin("PUT", "namespaces/" + space, "{}");
    name = "persistent://" + space + "/t";
    auto subscribe = consumer_options();
    subscribe.topic = name;
    auto options = producer_options();
    options.topic = name;
    options.compression = wire::pb::NONE;
    const auto consumer = co_await client.subscribe(subscribe);
    const auto producer = co_await client.create_producer(options);
    EXPECT_TRUE(producer);
    for (int i = 0; i < 20; ++i) {
      const auto id = co_await send(**producer, std::string(10'000, 'x'));
      EXPECT_TRUE(id);
    }
    co_await admin("POST", "namespaces/" + space + "/backlogQuota",
                   R"({"limitSize":100000,"limitTime":-1,"policy":"producer_exception"})");
    co_await unload(name);  // its producers come again, and are refused

    bool stored = false;
    const wire::Outgoing message{.value = "over"};
    (*producer)->send({&message, 1}, [&](const Result<MessageId>& id) {
      EXPECT_TRUE(id) << id.error().text();
      stored = true;
    });
    co_await aio::sleep(std::chrono::milliseconds(500));
    EXPECT_FALSE(stored) << "the quota holds";
    const auto got = co_await take(**consumer, 20, true);
    EXPECT_EQ(got.size(), 20u);
    const auto acked = co_await (*consumer)->flush_acks();
    EXPECT_TRUE(acked);
    const auto flushed = co_await (*producer)->flush();
    EXPECT_TRUE(flushed) << flushed.error().text();
    EXPECT_TRUE(stored);
    const auto last = co_await take(**consumer, 1, true);
    EXPECT_EQ(last.front(), "over");
    co_await (*producer)->close();
    co_await (*consumer)->close();
  });
}

}  // namespace
}  // namespace hulse

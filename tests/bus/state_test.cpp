// What the worker builds its memory on: readers, KeyValueTopic and leases, on any bus.
#include "bus/client_fixture.h"
#include "client/key_value_topic.h"
#include "client/lease.h"

namespace hulse {
namespace {

using namespace std::chrono_literals;
using client::KeyValueTopic;

class State : public ClientTest {
 protected:
  aio::Task<std::shared_ptr<KeyValueTopic>> open(client::Client& client) {
    client::KeyValueOptions options;
    options.topic = topic();
    const auto opened = co_await KeyValueTopic::open(client, options);
    EXPECT_TRUE(opened) << opened.error().text();
    co_return opened ? *opened : nullptr;
  }
  static std::map<std::string, std::string> plain(const KeyValueTopic& map) {
    std::map<std::string, std::string> out;
    for (const auto& [key, value] : map.values()) out[key] = value.value;
    return out;
  }
  aio::Task<void> copy_from_last_snapshot(client::Client& client, std::string target) {
    client::ReaderOptions from;
    from.topic = topic();
    const auto reader = co_await client::Reader::open(client, from);
    EXPECT_TRUE(reader);
    std::vector<std::shared_ptr<wire::Messages>> log;
    size_t begin = 0;
    for (;;) {
      const auto more = co_await (*reader)->has_more();
      EXPECT_TRUE(more);
      if (!more || !*more) break;
      log.push_back(*co_await (*reader)->next());
      for (const auto& property : log.back()->list.front().properties)
        if (property == Property("mark", "begin")) begin = log.size() - 1;
    }
    EXPECT_GT(begin, 0u);
    co_await (*reader)->close();
    client::ProducerOptions to;
    to.topic = std::move(target);
    const auto producer = co_await client.create_producer(to);
    EXPECT_TRUE(producer);
    for (size_t i = begin; i < log.size(); ++i) {
      const auto& message = log[i]->list.front();
      const wire::Outgoing same{
          .value = message.value, .key = message.key, .properties = message.properties};
      (*producer)->send({&same, 1}, nullptr);
    }
    const auto flushed = co_await (*producer)->flush();
    EXPECT_TRUE(flushed);
    co_await (*producer)->close();
  }
  client::LeaseOptions lease_options(std::string holder) const {
    client::LeaseOptions options;
    options.topic = topic();
    options.holder = std::move(holder);
    options.beat = 100ms;
    return options;
  }
  client::Options own_client() const {
    client::Options options;
    options.service_url = service_url();
    return options;
  }
};

TEST_F(State, AReaderKnowsWhetherThereIsMore) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    client::ReaderOptions options;
    options.topic = topic();
    auto reader = co_await client::Reader::open(client, options);
    EXPECT_TRUE(reader);
    auto more = co_await (*reader)->has_more();
    EXPECT_TRUE(more && !*more) << "an empty topic";
    auto produce = producer_options();
    produce.initial_subscription = "keep";
    const auto producer = co_await client.create_producer(produce);
    std::vector<MessageId> ids;
    for (int i = 0; i < 3; ++i) {
      const auto id = co_await send(**producer, std::to_string(i));
      EXPECT_TRUE(id);
      ids.push_back(*id);
    }
    for (int i = 0; i < 3; ++i) {
      more = co_await (*reader)->has_more();
      EXPECT_TRUE(more && *more);
      const auto messages = co_await (*reader)->next();
      EXPECT_EQ((*messages)->list.front().value, std::to_string(i));
    }
    more = co_await (*reader)->has_more();
    EXPECT_TRUE(more && !*more);
    const auto moved = co_await (*reader)->seek(ids[1]);
    EXPECT_TRUE(moved) << moved.error().text();
    more = co_await (*reader)->has_more();
    EXPECT_TRUE(more && *more);
    auto messages = co_await (*reader)->next();
    EXPECT_EQ((*messages)->list.front().value, "1");
    co_await (*reader)->close();
    options.start = kLatest;
    reader = co_await client::Reader::open(client, options);
    more = co_await (*reader)->has_more();
    EXPECT_TRUE(more && !*more) << "from the latest";
    const auto id = co_await send(**producer, "new");
    EXPECT_TRUE(id);
    more = co_await (*reader)->has_more();
    EXPECT_TRUE(more && *more);
    messages = co_await (*reader)->next();
    EXPECT_EQ((*messages)->list.front().value, "new");
    co_await (*reader)->close();
    co_await (*producer)->close();
  });
}

TEST_F(State, WhatOneWritesOthersReadAndTheFirstOfTwoWins) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    const auto one = co_await open(client);
    const auto two = co_await open(client);
    auto version = co_await one->put("a", R"({"v":1})", 0);
    EXPECT_TRUE(version) << version.error().text();
    auto refreshed = co_await two->refresh();
    EXPECT_TRUE(refreshed) << refreshed.error().text();
    EXPECT_NE(two->find("a"), nullptr);
    EXPECT_EQ(two->find("a")->version, *version);
    const auto again = co_await two->put("a", "other", 0);
    EXPECT_FALSE(again);
    if (!again) EXPECT_EQ(again.error().code(), Code::busy);
    const auto replaced = co_await two->put("a", "two", *version);
    EXPECT_TRUE(replaced);
    const auto late = co_await one->put("a", "one", *version);
    EXPECT_FALSE(late);
    const auto removed = co_await one->remove("a", *replaced);
    EXPECT_TRUE(removed);
    version = co_await one->put("b", "x");
    EXPECT_TRUE(version);
    refreshed = co_await two->refresh();
    EXPECT_TRUE(refreshed);
    EXPECT_EQ(plain(*two), (std::map<std::string, std::string>{{"b", "x"}}));
    co_await one->close();
    co_await two->close();
    const auto three = co_await open(client);
    EXPECT_EQ(plain(*three), (std::map<std::string, std::string>{{"b", "x"}}));
    co_await three->close();
  });
}

TEST_F(State, TwoWritersAtOnceCountWithoutLosingOne) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    const auto one = co_await open(client);
    const auto two = co_await open(client);
    const auto count = [](KeyValueTopic& map) -> aio::Task<void> {
      for (int i = 0; i < 20;) {
        const auto* known = map.find("n");
        const int n = known == nullptr ? 0 : std::stoi(known->value);
        const uint64_t version = known == nullptr ? 0 : known->version;
        const auto put = co_await map.put("n", std::to_string(n + 1), version);
        if (put) ++i;
        if (!put) EXPECT_EQ(put.error().code(), Code::busy) << put.error().text();
      }
    };
    aio::Gate gate(client.executor());
    gate.spawn("one", count(*one));
    gate.spawn("two", count(*two));
    while (gate.running() > 0) co_await aio::sleep(5ms);
    co_await gate.close();
    const auto refreshed = co_await one->refresh();
    EXPECT_TRUE(refreshed);
    EXPECT_EQ(one->find("n")->value, "40");
    co_await one->close();
    co_await two->close();
  });
}

TEST_F(State, SnapshotsReplaceTheLogWhileOthersWrite) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    const auto one = co_await open(client);
    const auto two = co_await open(client);
    for (int i = 0; i < 50; ++i) {
      const auto put = co_await one->put("k" + std::to_string(i % 10), std::to_string(i));
      EXPECT_TRUE(put);
    }
    bool done = false;
    const auto write = [&done](KeyValueTopic& map) -> aio::Task<void> {
      for (int i = 0;; ++i) {
        if (done) co_return;
        const auto put = co_await map.put("w" + std::to_string(i % 7), std::to_string(i));
        EXPECT_TRUE(put) << put.error().text();
        if (i % 5 == 0) {
          const auto gone = co_await map.remove("w" + std::to_string((i + 3) % 7));
          EXPECT_TRUE(gone);
        }
      }
    };
    aio::Gate gate(client.executor());
    gate.spawn("writer", write(*two));
    for (int i = 0; i < 3; ++i) {
      const auto written = co_await one->snapshot();
      EXPECT_TRUE(written) << written.error().text();
    }
    done = true;
    while (gate.running() > 0) co_await aio::sleep(5ms);
    co_await gate.close();
    const auto refreshed = co_await one->refresh();
    EXPECT_TRUE(refreshed);
    EXPECT_EQ(plain(*one), plain(*two));
    // What comes fresh goes by the first snapshot that is left, and knows the versions, too.
    const auto three = co_await open(client);
    EXPECT_EQ(plain(*three), plain(*two));
    for (const auto& [key, value] : two->values()) {
      EXPECT_EQ(three->find(key)->version, value.version) << key;
    }
    // So does who finds the log trimmed to the last snapshot.
    co_await copy_from_last_snapshot(client, topic("trimmed"));
    client::KeyValueOptions options;
    options.topic = topic("trimmed");
    const auto trimmed = co_await KeyValueTopic::open(client, options);
    EXPECT_TRUE(trimmed);
    EXPECT_EQ(plain(**trimmed), plain(*two));
    co_await (*trimmed)->close();
    const auto put = co_await three->put("k0", "x", two->find("k0")->version);
    EXPECT_TRUE(put) << put.error().text();
    for (const auto& map : {one, two, three}) co_await map->close();
  });
}

TEST_F(State, ASnapshotWhoseWriterDiedCountsForNothing) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    const auto one = co_await open(client);
    for (int i = 0; i < 10; ++i) {
      const auto put = co_await one->put("k" + std::to_string(i), "first");
      EXPECT_TRUE(put);
    }
    // Killed in the middle: a begin and a part of the values, one of them old by now.
    auto produce = producer_options();
    produce.batching = client::Batching::off;
    const auto producer = co_await client.create_producer(produce);
    const std::vector<Property> begin{{"snapshot", "dead"}, {"mark", "begin"}};
    const std::vector<Property> part{{"snapshot", "dead"}, {"v", "1"}};
    const wire::Outgoing begins{.value = "", .properties = begin};
    const wire::Outgoing value{.value = "first", .key = "k0", .properties = part};
    (*producer)->send({&begins, 1}, nullptr);
    (*producer)->send({&value, 1}, nullptr);
    const auto flushed = co_await (*producer)->flush();
    EXPECT_TRUE(flushed);
    co_await (*producer)->close();
    const auto put = co_await one->put("k0", "second");
    EXPECT_TRUE(put);
    auto two = co_await open(client);
    EXPECT_EQ(plain(*two), plain(*one));
    EXPECT_EQ(two->find("k0")->value, "second");
    co_await two->close();
    const auto written = co_await one->snapshot();
    EXPECT_TRUE(written) << written.error().text();
    two = co_await open(client);
    EXPECT_EQ(plain(*two), plain(*one));
    co_await two->close();
    co_await one->close();
  });
}

TEST_F(State, ABrokerRestartLeavesTheStateAndItsFollowers) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    const auto one = co_await open(client);
    for (int i = 0; i < 20; ++i) {
      const auto put = co_await one->put("k" + std::to_string(i % 5), std::to_string(i));
      EXPECT_TRUE(put);
    }
    const auto written = co_await one->snapshot();
    EXPECT_TRUE(written) << written.error().text();
    co_await restart_bus();
    const auto put = co_await one->put("k0", "after");
    EXPECT_TRUE(put) << put.error().text();
    const auto two = co_await open(client);
    EXPECT_EQ(plain(*two), plain(*one));
    EXPECT_EQ(two->find("k0")->value, "after");
    co_await one->close();
    co_await two->close();
  });
}

TEST_F(State, APlainMessageCreatesItsKeyAndTheFirstCounts) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    auto produce = producer_options();
    produce.initial_subscription = "hulse";
    const auto producer = co_await client.create_producer(produce);
    for (const std::string& value : {std::string("one"), std::string("two")}) {
      const wire::Outgoing message{.value = value, .key = "k"};
      (*producer)->send({&message, 1}, nullptr);
    }
    const auto flushed = co_await (*producer)->flush();
    EXPECT_TRUE(flushed);
    co_await (*producer)->close();
    const auto map = co_await open(client);
    EXPECT_EQ(plain(*map), (std::map<std::string, std::string>{{"k", "one"}}));
    co_await map->close();
  });
}

// Numbers of writers are remembered for as many as fit; who wrote lately is not the one to forget.
TEST_F(State, ARecordSentAgainCountsOnceAmongManyWriters) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    const auto map = co_await open(client);
    client::ProducerOptions options;
    options.topic = topic();
    options.batching = client::Batching::off;
    const auto producer = co_await client.create_producer(options);
    uint64_t version = 0;
    const auto record = [&](const std::string& writer, int number, const std::string& value) {
      const std::string v = std::to_string(++version);
      const std::string n = std::to_string(number);
      const Property properties[] = {{"v", v}, {"w", writer}, {"n", n}};
      const wire::Outgoing message{.value = value, .key = "k", .properties = properties};
      (*producer)->send({&message, 1}, nullptr);
    };
    record("a", 1, "one");
    for (int i = 0; i < 1200; ++i) record(fmt::format("z{:04}", i), 1, "other");
    record("a", 2, "two");
    record("a", 2, "again");
    const auto flushed = co_await (*producer)->flush();
    EXPECT_TRUE(flushed);
    co_await map->refresh();
    EXPECT_EQ(map->find("k")->value, "two");
    co_await (*producer)->close();
    co_await map->close();
  });
}

TEST_F(State, OfTwoRivalsTheLaterOneHoldsTheLease) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    const auto first =
        co_await client::Lease::take(client.executor(), own_client(), lease_options("first"));
    EXPECT_TRUE(first) << first.error().text();
    co_await aio::sleep(300ms);
    EXPECT_FALSE((*first)->lost());
    const auto second =
        co_await client::Lease::take(client.executor(), own_client(), lease_options("second"));
    EXPECT_TRUE(second) << second.error().text();
    EXPECT_GT((*second)->epoch(), (*first)->epoch());
    // It learns it by its next message and the connection after that.
    const auto why = co_await (*first)->wait_lost();
    EXPECT_EQ(why.code(), Code::fenced) << why.text();
    const auto refused = co_await (*first)->confirm();
    EXPECT_FALSE(refused);
    // Whatever the rival's reconnect did to the holder's connection, the holder stays the holder.
    const auto confirmed = co_await (*second)->confirm();
    EXPECT_TRUE(confirmed) << confirmed.error().text();
    co_await aio::sleep(300ms);
    EXPECT_FALSE((*second)->lost());
    co_await (*first)->release();
    co_await (*second)->release();
  });
}

TEST_F(State, AFencedHolderThatSendsNothingLearnsItAfterAReconnectOnly) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    client::ProducerOptions exclusive;
    exclusive.topic = topic();
    exclusive.access = wire::pb::ExclusiveWithFencing;
    const auto first = co_await client.create_producer(exclusive);
    EXPECT_TRUE(first) << first.error().text();
    auto other = client::Client::make(client.executor(), own_client());
    const auto second = co_await (*other)->create_producer(exclusive);
    EXPECT_TRUE(second) << second.error().text();
    co_await aio::sleep(500ms);
    EXPECT_FALSE((*first)->failed()) << "nobody tells it";
    const auto refused = co_await send(**first, "stale");
    EXPECT_FALSE(refused);
    if (!refused) EXPECT_EQ(refused.error().code(), Code::fenced) << refused.error().text();
    const auto stored = co_await send(**second, "rightful");
    EXPECT_TRUE(stored) << stored.error().text();
    co_await (*first)->close();
    co_await (*second)->close();
    co_await (*other)->stop();
  });
}

TEST_F(State, ALeaseOutlivesARestartOfTheBroker) {
  with_client([this](client::Client& client) -> aio::Task<void> {
    const auto lease =
        co_await client::Lease::take(client.executor(), own_client(), lease_options("only"));
    EXPECT_TRUE(lease) << lease.error().text();
    const uint64_t epoch = (*lease)->epoch();
    co_await restart_bus();
    const auto confirmed = co_await (*lease)->confirm();
    EXPECT_TRUE(confirmed) << confirmed.error().text();
    EXPECT_FALSE((*lease)->lost());
    const auto rival =
        co_await client::Lease::take(client.executor(), own_client(), lease_options("rival"));
    EXPECT_TRUE(rival) << rival.error().text();
    EXPECT_GT((*rival)->epoch(), epoch) << "epochs are durable";
    const auto why = co_await (*lease)->wait_lost();
    EXPECT_EQ(why.code(), Code::fenced);
    co_await (*lease)->release();
    co_await (*rival)->release();
  });
}

}  // namespace
}  // namespace hulse

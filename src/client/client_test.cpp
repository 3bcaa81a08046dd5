// The client against a broker that does what real ones do seldom.
#include <gtest/gtest.h>

#include "aio/http_server.h"
#include "aio/run.h"
#include "aio/timeout.h"
#include "client/client.h"
#include "client/dead_letter.h"
#include "client/fake_broker.h"
#include "client/testing.h"

namespace hulse::client {
namespace {

using namespace std::chrono_literals;
using wire::pb::BaseCommand;

class Clients : public testing::Test {
 protected:
  using Body = std::function<aio::Task<void>(Client&, FakeBroker&)>;

  void with_broker(Body body) { aio::run(run(std::move(body))); }

  aio::Task<void> run(Body body) {
    const auto executor = co_await aio::asio::this_coro::executor;
    FakeBroker broker(executor);
    co_await broker.start();
    options_.service_url = broker.url();
    auto client = Client::make(executor, options_);
    EXPECT_TRUE(client);
    const auto ended = co_await aio::with_timeout(30s, "the test", wrapped(body, **client, broker));
    EXPECT_TRUE(ended) << ended.error().text();
    co_await (*client)->stop();
    co_await broker.stop();
  }
  static aio::Task<Result<void>> wrapped(Body& body, Client& client, FakeBroker& broker) {
    co_await body(client, broker);
    co_return Result<void>();
  }

  static ProducerOptions producing(Batching batching) {
    ProducerOptions options;
    options.topic = "t";
    options.batching = batching;
    options.compression = pb::NONE;
    return options;
  }
  static void answer_lookup(FakeBroker::Peer& peer, const wire::Frame& frame,
                            const std::string& url, pb::CommandLookupTopicResponse::LookupType type,
                            bool proxy) {
    BaseCommand answer;
    answer.set_type(BaseCommand::LOOKUP_RESPONSE);
    auto* response = answer.mutable_lookuptopicresponse();
    response->set_request_id(frame.command.lookuptopic().request_id());
    response->set_response(type);
    response->set_brokerserviceurl(url);
    response->set_authoritative(true);
    response->set_proxy_through_service_url(proxy);
    peer.send(answer);
  }
  static void refuse(FakeBroker::Peer& peer, const pb::CommandSend& send, pb::ServerError error) {
    BaseCommand answer;
    answer.set_type(BaseCommand::SEND_ERROR);
    answer.mutable_send_error()->set_producer_id(send.producer_id());
    answer.mutable_send_error()->set_sequence_id(send.sequence_id());
    answer.mutable_send_error()->set_error(error);
    answer.mutable_send_error()->set_message("as the test wants it");
    peer.send(answer);
  }
  static std::vector<uint64_t> sent(const FakeBroker& broker) {
    std::vector<uint64_t> ids;
    for (const auto& command : broker.heard)
      if (command.type() == BaseCommand::SEND) ids.push_back(command.send().sequence_id());
    return ids;
  }
  static size_t count(const FakeBroker& broker, BaseCommand::Type type) {
    size_t n = 0;
    for (const auto& command : broker.heard) n += command.type() == type ? 1 : 0;
    return n;
  }

  Options options_;
};

// ---- lookups

TEST_F(Clients, RedirectsAreFollowedAuthoritativelyAndEndAfterTwenty) {
  with_broker([](Client& client, FakeBroker& broker) -> aio::Task<void> {
    FakeBroker other(client.executor());
    co_await other.start();
    broker.handler = [&](FakeBroker::Peer& peer, const wire::Frame& frame) {
      if (frame.command.type() != BaseCommand::LOOKUP) return false;
      answer_lookup(peer, frame, other.url(), pb::CommandLookupTopicResponse::Redirect, false);
      return true;
    };
    auto producer = co_await client.create_producer(producing(Batching::off));
    EXPECT_TRUE(producer) << producer.error().text();
    EXPECT_EQ(count(other, BaseCommand::PRODUCER), 1u);
    EXPECT_EQ(count(broker, BaseCommand::PRODUCER), 0u);
    for (const auto& command : other.heard)
      if (command.type() == BaseCommand::LOOKUP) EXPECT_TRUE(command.lookuptopic().authoritative());
    co_await (*producer)->close();

    other.handler = broker.handler;  // from now on it redirects to itself
    const size_t before = count(other, BaseCommand::LOOKUP);
    const auto connection = co_await client.connection_for("persistent://public/default/t");
    EXPECT_FALSE(connection);
    if (!connection) EXPECT_NE(connection.error().text().find("20 redirects"), std::string::npos);
    EXPECT_EQ(count(other, BaseCommand::LOOKUP) - before, 20u);
    co_await other.stop();
  });
}

TEST_F(Clients, ThroughAProxyTheBrokerIsNamed) {
  with_broker([](Client& client, FakeBroker& broker) -> aio::Task<void> {
    broker.handler = [&](FakeBroker::Peer& peer, const wire::Frame& frame) {
      if (frame.command.type() != BaseCommand::LOOKUP) return false;
      answer_lookup(peer, frame, "pulsar://inside:6650", pb::CommandLookupTopicResponse::Connect,
                    true);
      return true;
    };
    auto producer = co_await client.create_producer(producing(Batching::off));
    EXPECT_TRUE(producer) << producer.error().text();
    std::vector<std::string> targets;
    for (const auto& command : broker.heard)
      if (command.type() == BaseCommand::CONNECT)
        targets.push_back(command.connect().proxy_to_broker_url());
    EXPECT_EQ(targets, (std::vector<std::string>{"", "inside:6650"}));
    co_await (*producer)->close();
  });
}

TEST_F(Clients, AnHttpLookupFollowsRedirectsWithItsCredentials) {
  with_broker([](Client& client, FakeBroker& broker) -> aio::Task<void> {
    std::string base;
    std::vector<std::string> seen;
    const auto answer = [&](aio::HttpRequest request) -> aio::Task<aio::HttpResponse> {
      seen.push_back(request.target);
      EXPECT_EQ(aio::find_header(request.headers, "Authorization"), "Bearer secret");
      aio::HttpResponse response;
      if (request.target.starts_with("/lookup/")) {
        response.status = 307;
        response.headers = {{"Location", base + "/there" + request.target}};
      } else if (request.target.starts_with("/there/")) {
        response.body = R"({"brokerUrl":")" + broker.url() + R"("})";
      } else if (request.target.starts_with("/admin/")) {
        response.body = R"({"partitions":0})";
      } else {
        response.status = 307;
        response.headers = {{"Location", base + request.target}};
      }
      co_return response;
    };
    auto web = co_await aio::HttpServer::start({}, answer);
    EXPECT_TRUE(web);
    base = fmt::format("http://127.0.0.1:{}", (*web)->endpoint().port());
    Options options;
    options.service_url = base;
    const auto plugin = options.security.set_plugin("token", "token:secret");
    EXPECT_TRUE(plugin);
    auto other = Client::make(client.executor(), options);
    ProducerOptions produce = producing(Batching::off);
    produce.topic = "a/b/c d";
    auto producer = co_await (*other)->create_topic_producer(std::move(produce));
    EXPECT_TRUE(producer) << producer.error().text();
    EXPECT_EQ(count(broker, BaseCommand::PRODUCER), 1u);
    EXPECT_EQ(seen.back(), "/there/lookup/v2/topic/persistent/a/b/c%20d");
    if (producer) co_await (*producer)->close();
    co_await (*other)->stop();
    co_await (*web)->stop(0s);
  });
}

// ---- producer

TEST_F(Clients, AChecksumErrorOnTheWayIsSentAgainInOrder) {
  with_broker([](Client& client, FakeBroker& broker) -> aio::Task<void> {
    bool refused = false;
    broker.handler = [&](FakeBroker::Peer& peer, const wire::Frame& frame) {
      if (frame.command.type() != BaseCommand::SEND || refused) return false;
      if (frame.command.send().sequence_id() != 1) return false;
      refused = true;
      refuse(peer, frame.command.send(), pb::ChecksumError);
      return true;
    };
    auto producer = co_await client.create_producer(producing(Batching::off));
    std::vector<int> stored;
    for (int i = 0; i < 4; ++i) {
      const std::string text = std::to_string(i);
      const wire::Outgoing message{.value = text};
      (*producer)->send({&message, 1}, [&stored, i](const Result<MessageId>& id) {
        EXPECT_TRUE(id);
        stored.push_back(i);
      });
    }
    const auto flushed = co_await (*producer)->flush();
    EXPECT_TRUE(flushed);
    EXPECT_EQ(stored, (std::vector<int>{0, 1, 2, 3}));
    const auto ids = sent(broker);
    EXPECT_EQ(std::vector<uint64_t>(ids.end() - 3, ids.end()), (std::vector<uint64_t>{1, 2, 3}));
    co_await (*producer)->close();
  });
}

TEST_F(Clients, AMissingReceiptStartsAnewAndALateOneIsIgnored) {
  with_broker([](Client& client, FakeBroker& broker) -> aio::Task<void> {
    bool skipped = false;
    broker.handler = [&](FakeBroker::Peer&, const wire::Frame& frame) {
      const bool skip = frame.command.type() == BaseCommand::SEND && !skipped;
      skipped = skipped || skip;
      return skip;  // the first entry gets no receipt
    };
    auto producer = co_await client.create_producer(producing(Batching::off));
    const wire::Outgoing message{.value = "x"};
    size_t stored = 0;
    for (int i = 0; i < 2; ++i)
      (*producer)->send({&message, 1}, [&](const Result<MessageId>& id) { stored += id ? 1 : 0; });
    const auto flushed = co_await (*producer)->flush();
    EXPECT_TRUE(flushed);
    EXPECT_EQ(stored, 2u);
    EXPECT_EQ(sent(broker), (std::vector<uint64_t>{0, 1, 0, 1}));
    EXPECT_EQ(count(broker, BaseCommand::PRODUCER), 2u);
    co_await (*producer)->close();
  });
}

TEST_F(Clients, AMessageWithoutAReceiptFailsAfterTheSendTimeoutAndTheNextGoesThrough) {
  with_broker([](Client& client, FakeBroker& broker) -> aio::Task<void> {
    bool silent = true;
    broker.handler = [&](FakeBroker::Peer&, const wire::Frame& frame) {
      return silent && frame.command.type() == BaseCommand::SEND;
    };
    auto options = producing(Batching::off);
    options.send_timeout = 50ms;
    auto producer = co_await client.create_producer(std::move(options));
    auto id = co_await send(**producer, "lost");
    EXPECT_FALSE(id);
    if (!id) EXPECT_EQ(id.error().code(), Code::timeout);
    silent = false;
    id = co_await send(**producer, "stored");
    EXPECT_TRUE(id) << id.error().text();
    co_await (*producer)->close();
  });
}

TEST_F(Clients, OneRefusedMessageFailsAloneATerminatedTopicFailsAll) {
  with_broker([](Client& client, FakeBroker& broker) -> aio::Task<void> {
    broker.handler = [&](FakeBroker::Peer& peer, const wire::Frame& frame) {
      if (frame.command.type() != BaseCommand::SEND) return false;
      const uint64_t id = frame.command.send().sequence_id();
      if (id == 1) refuse(peer, frame.command.send(), pb::NotAllowedError);
      if (id == 3) refuse(peer, frame.command.send(), pb::TopicTerminatedError);
      return id == 1 || id == 3;
    };
    auto producer = co_await client.create_producer(producing(Batching::off));
    const wire::Outgoing message{.value = "x"};
    std::vector<std::optional<Code>> codes;
    for (int i = 0; i < 5; ++i) {
      (*producer)->send({&message, 1}, [&](const Result<MessageId>& id) {
        codes.push_back(id ? std::nullopt : std::optional(id.error().code()));
      });
    }
    const auto flushed = co_await (*producer)->flush();
    EXPECT_FALSE(flushed);
    using Codes = std::vector<std::optional<Code>>;
    EXPECT_EQ(codes,
              (Codes{std::nullopt, Code::invalid, std::nullopt, Code::closed, Code::closed}));
    co_await (*producer)->close();
  });
}

TEST_F(Clients, ALostConnectionInTheMiddleOfALargeMessageSendsTheRestOnly) {
  with_broker([](Client& client, FakeBroker& broker) -> aio::Task<void> {
    std::vector<int> chunks;
    broker.handler = [&](FakeBroker::Peer& peer, const wire::Frame& frame) {
      if (frame.command.type() != BaseCommand::SEND) return false;
      const auto metadata = wire::parse_metadata(frame.entry.view());
      EXPECT_TRUE(frame.command.send().is_chunk());
      chunks.push_back(metadata->chunk_id());
      peer.cut = chunks.size() == 2;  // the second is not answered
      return peer.cut;
    };
    auto options = producing(Batching::together);
    options.chunking = true;
    auto producer = co_await client.create_producer(std::move(options));
    const auto id = co_await send(**producer, std::string(14 << 20, 'x'));
    EXPECT_TRUE(id) << id.error().text();
    // What the lost connection still carried is not seen by the broker.
    EXPECT_EQ(chunks, (std::vector<int>{0, 1, 1, 2}));
    co_await (*producer)->close();
  });
}

TEST_F(Clients, EachEntryCanCarryAMarkThatTheBatchHides) {
  with_broker([](Client& client, FakeBroker& broker) -> aio::Task<void> {
    std::vector<std::string> marks;
    std::vector<int> sizes;
    broker.handler = [&](FakeBroker::Peer&, const wire::Frame& frame) {
      if (frame.command.type() != BaseCommand::SEND) return false;
      const auto metadata = wire::parse_metadata(frame.entry.view());
      EXPECT_TRUE(metadata->has_num_messages_in_batch());
      EXPECT_EQ(metadata->properties_size(), 1);
      marks.push_back(metadata->properties(0).value());
      sizes.push_back(metadata->num_messages_in_batch());
      return false;
    };
    auto options = producing(Batching::cut_at_key);
    options.always_batch = true;
    options.mark_entry = [](std::span<const uint64_t> tokens, pb::MessageMetadata& metadata) {
      auto* property = metadata.add_properties();
      property->set_key("__hulse_pos");
      property->set_value(std::to_string(tokens.back()));
    };
    auto producer = co_await client.create_producer(std::move(options));
    std::vector<wire::Outgoing> messages;
    const char* keys[] = {"a", "a", "b", "a"};
    for (uint64_t i = 0; i < 4; ++i) messages.push_back({.value = "x", .key = keys[i], .token = i});
    (*producer)->send(messages, nullptr);
    const auto flushed = co_await (*producer)->flush();
    EXPECT_TRUE(flushed);
    EXPECT_EQ(marks, (std::vector<std::string>{"1", "2", "3"}));
    EXPECT_EQ(sizes, (std::vector<int>{2, 1, 1}));
    co_await (*producer)->close();
  });
}

// ---- consumer

struct Stored {
  uint64_t entry = 0;
  std::string bytes;
  uint64_t epoch = 0;
};

// An entry of one message, or a chunk of one.
std::string entry_of(std::string value, int chunk, int chunks, const std::string& uuid,
                     uint64_t published = 1) {
  pb::MessageMetadata metadata;
  metadata.set_producer_name("p");
  metadata.set_sequence_id(0);
  metadata.set_publish_time(published);
  metadata.set_uncompressed_size(static_cast<uint32_t>(value.size()));
  if (chunks > 1) {
    metadata.set_uuid(uuid);
    metadata.set_num_chunks_from_msg(chunks);
    metadata.set_chunk_id(chunk);
    metadata.set_total_chunk_msg_size(static_cast<int>(value.size()) * chunks);
  }
  return wire::assemble_entry(metadata, value);
}

void deliver(FakeBroker::Peer& peer, uint64_t consumer, const Stored& stored) {
  BaseCommand command;
  command.set_type(BaseCommand::MESSAGE);
  command.mutable_message()->set_consumer_id(consumer);
  command.mutable_message()->mutable_message_id()->set_ledgerid(1);
  command.mutable_message()->mutable_message_id()->set_entryid(stored.entry);
  if (stored.epoch > 0) command.mutable_message()->set_consumer_epoch(stored.epoch);
  peer.send(command, stored.bytes);
}

// Delivers `log` at the first FLOW.
FakeBroker::Handler delivering(std::vector<Stored> log) {
  return [log = std::move(log), done = false](FakeBroker::Peer& peer,
                                              const wire::Frame& frame) mutable {
    if (frame.command.type() != BaseCommand::FLOW || std::exchange(done, true)) return false;
    for (const auto& stored : log) deliver(peer, frame.command.flow().consumer_id(), stored);
    return true;
  };
}

std::vector<std::pair<pb::CommandAck::AckType, std::vector<uint64_t>>> acks(
    const FakeBroker& broker) {
  std::vector<std::pair<pb::CommandAck::AckType, std::vector<uint64_t>>> out;
  for (const auto& command : broker.heard) {
    if (command.type() != BaseCommand::ACK) continue;
    auto& ack = out.emplace_back(command.ack().ack_type(), std::vector<uint64_t>());
    for (const auto& id : command.ack().message_id()) ack.second.push_back(id.entryid());
  }
  return out;
}

TEST_F(Clients, InterleavedChunksMakeTheirMessagesAndCumulativeAcksSpareOpenOnes) {
  with_broker([](Client& client, FakeBroker& broker) -> aio::Task<void> {
    broker.handler = delivering({{0, entry_of("a0", 0, 2, "a"), 0},
                                 {1, entry_of("b0", 0, 2, "b"), 0},
                                 {2, entry_of("a1", 1, 2, "a"), 0},
                                 {3, entry_of("plain", 0, 1, ""), 0},
                                 {4, entry_of("b1", 1, 2, "b"), 0}});
    ConsumerOptions options;
    options.topic = "t";
    options.subscription = "s";
    options.type = pb::CommandSubscribe::Failover;
    const auto consumer = co_await client.subscribe(options);
    EXPECT_TRUE(consumer);
    const auto next = [&]() -> aio::Task<std::shared_ptr<wire::Messages>> {
      auto messages = co_await (*consumer)->receive();
      EXPECT_TRUE(messages);
      co_return *messages;
    };
    const auto a = co_await next();
    EXPECT_EQ(a->list.front().value, "a0a1");
    EXPECT_EQ(a->id.entry, 2);
    const auto plain = co_await next();
    // b began before both and is not complete: its first chunk must come again after a crash.
    (*consumer)->ack_until(plain->id);
    auto flushed = co_await (*consumer)->flush_acks();
    EXPECT_TRUE(flushed);
    using Acks = std::vector<std::pair<pb::CommandAck::AckType, std::vector<uint64_t>>>;
    EXPECT_EQ(acks(broker), (Acks{{pb::CommandAck::Individual, {0, 2, 3}}}));
    const auto b = co_await next();
    EXPECT_EQ(b->list.front().value, "b0b1");
    (*consumer)->ack_until(b->id);
    flushed = co_await (*consumer)->flush_acks();
    EXPECT_TRUE(flushed);
    EXPECT_EQ(acks(broker).back(), (Acks::value_type{pb::CommandAck::Cumulative, {4}}));
    co_await (*consumer)->close();
  });
}

TEST_F(Clients, WhatWillNeverBeCompleteIsHandedOutAsDamaged) {
  with_broker([](Client& client, FakeBroker& broker) -> aio::Task<void> {
    broker.handler = delivering({{0, entry_of("0", 0, 3, "gap"), 0},
                                 {1, entry_of("2", 2, 3, "gap"), 0},
                                 {2, entry_of("1", 1, 2, "headless"), 0},
                                 {3, entry_of("0", 0, 2, "abandoned"), 0}});
    ConsumerOptions options;
    options.topic = "t";
    options.subscription = "s";
    options.chunks.age_max = 100ms;
    const auto consumer = co_await client.subscribe(options);
    for (const char* uuid : {"gap", "headless", "abandoned"}) {
      const auto messages = co_await (*consumer)->receive();
      EXPECT_TRUE(messages && (*messages)->damage);
      if (!messages || !(*messages)->damage) co_return;
      EXPECT_NE((*messages)->damage->text().find(uuid), std::string::npos);
      EXPECT_EQ((*messages)->list.size(), 1u);
      (*consumer)->ack((*messages)->id);
    }
    const auto flushed = co_await (*consumer)->flush_acks();
    EXPECT_TRUE(flushed);
    std::set<uint64_t> acked;
    for (const auto& [type, entries] : acks(broker)) acked.insert(entries.begin(), entries.end());
    EXPECT_EQ(acked, (std::set<uint64_t>{0, 1, 2, 3}));
    co_await (*consumer)->close();
  });
}

TEST_F(Clients, ChunksThatWereSentTwiceCountOnce) {
  with_broker([](Client& client, FakeBroker& broker) -> aio::Task<void> {
    broker.handler = delivering({{0, entry_of("0", 0, 2, "u"), 0},
                                 {1, entry_of("0", 0, 2, "u"), 0},
                                 {2, entry_of("1", 1, 2, "u"), 0},
                                 {3, entry_of("1", 1, 2, "u"), 0},
                                 {4, entry_of("plain", 0, 1, ""), 0}});
    ConsumerOptions options;
    options.topic = "t";
    options.subscription = "s";
    const auto consumer = co_await client.subscribe(options);
    for (const char* value : {"01", "plain"}) {
      const auto messages = co_await (*consumer)->receive();
      EXPECT_TRUE(messages && !(*messages)->damage);
      EXPECT_EQ((*messages)->list.front().value, value);
      (*consumer)->ack((*messages)->id);
    }
    const auto flushed = co_await (*consumer)->flush_acks();
    EXPECT_TRUE(flushed);
    std::set<uint64_t> acked;
    for (const auto& [type, entries] : acks(broker)) acked.insert(entries.begin(), entries.end());
    EXPECT_EQ(acked, (std::set<uint64_t>{0, 1, 2, 3, 4}));
    co_await (*consumer)->close();
  });
}

// Without deduplication a named producer counts from 0 again in its next life, and so do the uuids
// of its large messages.
TEST_F(Clients, AUuidThatIsGivenAgainIsAnotherMessage) {
  with_broker([](Client& client, FakeBroker& broker) -> aio::Task<void> {
    broker.handler = delivering({{0, entry_of("a", 0, 2, "p-0", 1), 0},
                                 {1, entry_of("b", 1, 2, "p-0", 1), 0},
                                 {2, entry_of("c", 0, 2, "p-0", 2), 0},
                                 {3, entry_of("d", 1, 2, "p-0", 2), 0},
                                 {4, entry_of("d", 1, 2, "p-0", 2), 0},
                                 // A life that ended in the middle of one.
                                 {5, entry_of("e", 0, 2, "p-0", 3), 0},
                                 {6, entry_of("f", 0, 2, "p-0", 4), 0},
                                 {7, entry_of("g", 1, 2, "p-0", 4), 0}});
    ConsumerOptions options;
    options.topic = "t";
    options.subscription = "s";
    const auto consumer = co_await client.subscribe(options);
    for (const char* value : {"ab", "cd", "e", "fg"}) {
      const auto messages = co_await aio::with_timeout(5s, "a message", (*consumer)->receive());
      EXPECT_TRUE(messages) << value;
      if (!messages) break;
      EXPECT_EQ((*messages)->list.front().value, value);
      EXPECT_EQ((*messages)->damage.has_value(), (*messages)->id.entry == 5);
    }
    co_await (*consumer)->close();
  });
}

TEST_F(Clients, WhatWasOnItsWayBeforeARedeliveryIsDropped) {
  with_broker([](Client& client, FakeBroker& broker) -> aio::Task<void> {
    broker.handler = [done = false](FakeBroker::Peer& peer, const wire::Frame& frame) mutable {
      const auto& command = frame.command;
      if (command.type() == BaseCommand::FLOW && !std::exchange(done, true)) {
        deliver(peer, command.flow().consumer_id(), {0, entry_of("first", 0, 1, ""), 0});
        return true;
      }
      if (command.type() != BaseCommand::REDELIVER_UNACKNOWLEDGED_MESSAGES) return false;
      const auto& redeliver = command.redeliverunacknowledgedmessages();
      EXPECT_EQ(redeliver.message_ids_size(), 0);
      const uint64_t epoch = redeliver.consumer_epoch();
      EXPECT_EQ(epoch, 1u);
      // Sent by the broker before it knew, then what it sends again.
      BaseCommand old;
      Stored stale{1, entry_of("stale", 0, 1, ""), 0};
      old.set_type(BaseCommand::MESSAGE);
      old.mutable_message()->set_consumer_id(redeliver.consumer_id());
      old.mutable_message()->mutable_message_id()->set_ledgerid(1);
      old.mutable_message()->mutable_message_id()->set_entryid(1);
      old.mutable_message()->set_consumer_epoch(0);
      peer.send(old, stale.bytes);
      deliver(peer, redeliver.consumer_id(), {0, entry_of("first", 0, 1, ""), epoch});
      deliver(peer, redeliver.consumer_id(), {1, entry_of("second", 0, 1, ""), epoch});
      return true;
    };
    ConsumerOptions options;
    options.topic = "t";
    options.subscription = "s";
    options.type = pb::CommandSubscribe::Exclusive;
    const auto consumer = co_await client.subscribe(options);
    auto messages = co_await (*consumer)->receive();
    (*consumer)->redeliver((*messages)->id, 0ms);
    for (const char* value : {"first", "second"}) {
      messages = co_await (*consumer)->receive();
      EXPECT_TRUE(messages);
      EXPECT_EQ((*messages)->list.front().value, value);
    }
    co_await (*consumer)->close();
  });
}

TEST_F(Clients, MembersOfABatchAreAcknowledgedOneByOne) {
  with_broker([](Client& client, FakeBroker& broker) -> aio::Task<void> {
    wire::BatchWriter batch;
    for (uint64_t i = 0; i < 70; ++i) batch.append({.value = "x"}, i);
    pb::MessageMetadata metadata;
    metadata.set_producer_name("p");
    metadata.set_sequence_id(0);
    metadata.set_publish_time(1);
    metadata.set_num_messages_in_batch(70);
    metadata.set_uncompressed_size(static_cast<uint32_t>(batch.payload().size()));
    broker.handler = delivering({{0, wire::assemble_entry(metadata, batch.payload()), 0}});
    ConsumerOptions options;
    options.topic = "t";
    options.subscription = "s";
    const auto consumer = co_await client.subscribe(options);
    const auto messages = co_await (*consumer)->receive();
    EXPECT_TRUE(messages);
    const auto& list = (*messages)->list;
    EXPECT_EQ(list.size(), 70u);
    (*consumer)->ack_message(list[1].id);
    (*consumer)->ack_message(list[65].id);
    auto flushed = co_await (*consumer)->flush_acks();
    EXPECT_TRUE(flushed);
    const auto& partial = broker.heard.back().ack().message_id(0);
    EXPECT_EQ(partial.batch_size(), 70);
    EXPECT_EQ(partial.ack_set_size(), 2);
    EXPECT_EQ(static_cast<uint64_t>(partial.ack_set(0)), ~uint64_t{2});
    EXPECT_EQ(partial.ack_set(1), 0b111101);
    for (const auto& message : list) (*consumer)->ack_message(message.id);
    flushed = co_await (*consumer)->flush_acks();
    EXPECT_TRUE(flushed);
    EXPECT_EQ(broker.heard.back().ack().message_id(0).ack_set_size(), 0) << "the whole entry";
    co_await (*consumer)->close();
  });
}

void answer_ack(FakeBroker::Peer& peer, const BaseCommand& ack, bool ok) {
  BaseCommand answer;
  answer.set_type(BaseCommand::ACK_RESPONSE);
  answer.mutable_ackresponse()->set_consumer_id(ack.ack().consumer_id());
  answer.mutable_ackresponse()->set_request_id(ack.ack().request_id());
  if (!ok) {
    answer.mutable_ackresponse()->set_error(pb::PersistenceError);
    answer.mutable_ackresponse()->set_message("as the test wants it");
  }
  peer.send(answer);
}

TEST_F(Clients, ABatchThatIsGivenBackIsNotAcknowledgedByWhatWasSaidOfItBefore) {
  with_broker([](Client& client, FakeBroker& broker) -> aio::Task<void> {
    wire::BatchWriter batch;
    for (uint64_t i = 0; i < 2; ++i) batch.append({.value = "x"}, i);
    pb::MessageMetadata metadata;
    metadata.set_producer_name("p");
    metadata.set_sequence_id(0);
    metadata.set_publish_time(1);
    metadata.set_num_messages_in_batch(2);
    metadata.set_uncompressed_size(static_cast<uint32_t>(batch.payload().size()));
    const auto entry = wire::assemble_entry(metadata, batch.payload());
    auto deliver_first = delivering({{0, entry_of("plain", 0, 1, ""), 0}, {1, entry, 0}});
    std::optional<BaseCommand> first_ack;
    broker.handler = [&](FakeBroker::Peer& peer, const wire::Frame& frame) {
      const auto& command = frame.command;
      if (command.type() == BaseCommand::ACK && !first_ack) {
        first_ack = command;  // answered after the batch has come again
        return true;
      }
      if (command.type() == BaseCommand::REDELIVER_UNACKNOWLEDGED_MESSAGES) {
        deliver(peer, command.redeliverunacknowledgedmessages().consumer_id(), {1, entry, 0});
        answer_ack(peer, *first_ack, true);
        return true;
      }
      return deliver_first(peer, frame);
    };
    ConsumerOptions options;
    options.topic = "t";
    options.subscription = "s";
    const auto consumer = co_await client.subscribe(options);
    const auto plain = co_await (*consumer)->receive();
    const auto messages = co_await (*consumer)->receive();
    (*consumer)->ack((*plain)->id);
    while (!first_ack) co_await aio::sleep(1ms);
    (*consumer)->ack_message((*messages)->list[0].id);
    (*consumer)->redeliver((*messages)->id, 0ms);
    const auto flushed =
        co_await aio::with_timeout(5s, "the acknowledgements", (*consumer)->flush_acks());
    EXPECT_TRUE(flushed);
    EXPECT_EQ(acks(broker).size(), 1u) << "an empty set of what is left means the whole entry";
    const auto again = co_await (*consumer)->receive();
    EXPECT_EQ((*again)->list.size(), 2u);
    co_await (*consumer)->close();
  });
}

TEST_F(Clients, AnAcknowledgementOfBeforeASeekIsNotRepeatedAfterIt) {
  with_broker([](Client& client, FakeBroker& broker) -> aio::Task<void> {
    auto deliver_first = delivering({{0, entry_of("a", 0, 1, ""), 0}});
    std::optional<BaseCommand> first_ack;
    broker.handler = [&](FakeBroker::Peer& peer, const wire::Frame& frame) {
      const auto& command = frame.command;
      if (command.type() == BaseCommand::ACK && !first_ack) {
        first_ack = command;
        return true;
      }
      if (command.type() == BaseCommand::SEEK) {
        BaseCommand answer;
        answer.set_type(BaseCommand::SUCCESS);
        answer.mutable_success()->set_request_id(command.seek().request_id());
        peer.send(answer);
        return true;
      }
      if (command.type() == BaseCommand::CLOSE_CONSUMER) answer_ack(peer, *first_ack, false);
      return deliver_first(peer, frame);
    };
    ConsumerOptions options;
    options.topic = "t";
    options.subscription = "s";
    options.type = pb::CommandSubscribe::Failover;
    const auto consumer = co_await client.subscribe(options);
    const auto messages = co_await (*consumer)->receive();
    (*consumer)->ack_until((*messages)->id);
    while (!first_ack) co_await aio::sleep(1ms);
    const auto moved = co_await (*consumer)->seek(kEarliest);
    EXPECT_TRUE(moved);
    const auto flushed =
        co_await aio::with_timeout(5s, "the acknowledgements", (*consumer)->flush_acks());
    EXPECT_TRUE(flushed);
    EXPECT_EQ(acks(broker).size(), 1u);
    co_await (*consumer)->close();
  });
}

// ---- connections

aio::Task<void> subscribe(Client& client, bool& subscribed) {
  ConsumerOptions options;
  options.topic = "t";
  options.subscription = "s";
  const auto consumer = co_await client.subscribe(options);
  subscribed = consumer.has_value();
}

TEST_F(Clients, WhoGivesUpSubscribingTakesLeaveOfTheBroker) {
  with_broker([](Client& client, FakeBroker& broker) -> aio::Task<void> {
    broker.handler = [](FakeBroker::Peer&, const wire::Frame& frame) {
      return frame.command.type() == BaseCommand::SUBSCRIBE;  // takes its time
    };
    bool subscribed = false;
    aio::Gate gate(client.executor());
    gate.spawn("subscribing", subscribe(client, subscribed));
    while (count(broker, BaseCommand::SUBSCRIBE) == 0) co_await aio::sleep(1ms);
    co_await gate.close();
    EXPECT_FALSE(subscribed);
    for (int i = 0; i < 100 && count(broker, BaseCommand::CLOSE_CONSUMER) == 0; ++i)
      co_await aio::sleep(10ms);
    EXPECT_EQ(count(broker, BaseCommand::CLOSE_CONSUMER), 1u);
  });
}

TEST_F(Clients, AMessageSizeThatIsNoneIsNotTaken) {
  for (const int told : {0, -1}) {
    with_broker([told](Client& client, FakeBroker& broker) -> aio::Task<void> {
      broker.handler = [told](FakeBroker::Peer& peer, const wire::Frame& frame) {
        if (frame.command.type() != BaseCommand::CONNECT) return false;
        BaseCommand answer;
        answer.set_type(BaseCommand::CONNECTED);
        answer.mutable_connected()->set_server_version("odd");
        answer.mutable_connected()->set_max_message_size(told);
        peer.send(answer);
        return true;
      };
      ConsumerOptions options;
      options.topic = "t";
      options.subscription = "s";
      const auto consumer = co_await client.subscribe(options);
      EXPECT_TRUE(consumer) << consumer.error().text();
      if (consumer) co_await (*consumer)->close();
    });
  }
}

// ---- addresses and credentials

TEST(ServiceUrls, FormsAndRefusals) {
  const auto url = ServiceUrl::parse("pulsar+ssl://a,[::1]:1,pulsar+ssl://b:2/");
  ASSERT_TRUE(url) << url.error().text();
  EXPECT_TRUE(url->tls);
  EXPECT_FALSE(url->http);
  ASSERT_EQ(url->addresses.size(), 3u);
  EXPECT_EQ(url->addresses[0].text(), "a:6651");
  EXPECT_EQ(url->addresses[1].text(), "[::1]:1");
  EXPECT_EQ(url->addresses[2].text(), "b:2");
  EXPECT_EQ(ServiceUrl::parse("https://a")->addresses[0].text(), "a:8443");
  for (const char* wrong :
       {"", "a:1", "pulsar://", "pulsar://a:x", "ftp://a", "pulsar://a:1,,b", "pulsar://a/b:1"}) {
    const auto refused = ServiceUrl::parse(wrong);
    EXPECT_FALSE(refused) << wrong;
  }
}

TEST(DeadLetters, KeepTheFirstOriginAndTheLastReason) {
  const std::vector<Property> own{{"a", "b"}, {"REAL_TOPIC", "first"}, {"HULSE_REASON", "old"}};
  Message message;
  message.properties = own;
  message.id = {1, 2, -1, 3};
  DeadLetterProperties properties(message, "second", "s");
  properties.set("HULSE_REASON", "new");
  const std::vector<Property> list(properties.list().begin(), properties.list().end());
  EXPECT_EQ(list, (std::vector<Property>{{"a", "b"},
                                         {"REAL_TOPIC", "first"},
                                         {"REAL_SUBSCRIPTION", "s"},
                                         {"ORIGIN_MESSAGE_ID", "1:2:-1:3"},
                                         {"HULSE_REASON", "new"}}));
}

TEST(SecurityWords, EveryFormOfParameters) {
  const auto set = [](const char* plugin, const char* params) {
    Security security;
    const auto result = security.set_plugin(plugin, params);
    EXPECT_TRUE(result) << plugin << " " << params << ": " << result.error().text();
    return security;
  };
  EXPECT_EQ(set("token", "token:x.y").data.reveal(), "x.y");
  EXPECT_EQ(set("token", "x.y").data.reveal(), "x.y");
  EXPECT_EQ(set("token", R"({"token":"x.y"})").data.reveal(), "x.y");
  EXPECT_EQ(set("token", "file:///a/b").token_file, "/a/b");
  EXPECT_EQ(set("token", "file:/a/b").token_file, "/a/b");
  const auto basic = set("org.apache.pulsar.client.impl.auth.AuthenticationBasic",
                         R"({"userId":"u","password":"p:q"})");
  EXPECT_EQ(basic.data.reveal(), "u:p:q");
  EXPECT_EQ((*basic.http_headers())[0].second, "Basic dTpwOnE=");
  const auto tls = set("tls", "tlsCertFile:/c,tlsKeyFile:/k");
  EXPECT_EQ(tls.tls.cert_file, "/c");
  EXPECT_EQ(tls.tls.key_file, "/k");
  EXPECT_EQ(set("", "").method, "none");
  for (const auto& [plugin, params] :
       {std::pair("athenz", "x"), {"token", ""}, {"basic", "{}"}, {"tls", ""}}) {
    Security security;
    EXPECT_FALSE(security.set_plugin(plugin, params)) << plugin;
  }
}

}  // namespace
}  // namespace hulse::client

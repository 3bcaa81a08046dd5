// A broker for tests of the client: says yes to everything unless the test says otherwise, and can
// do what a real one does seldom.
#pragma once

#include <functional>
#include <list>
#include <string>
#include <vector>

#include "aio/framed.h"
#include "aio/gate.h"
#include "aio/listen.h"
#include "wire/frame.h"

namespace hulse::client {

// Lives on one executor, the client's.
class FakeBroker {
 public:
  struct Peer {
    explicit Peer(aio::Socket socket, aio::Executor executor)
        : stream(std::move(socket)), reader(stream, 6 << 20), writer(stream, executor) {}
    void send(const wire::pb::BaseCommand& command) { writer.send(wire::encode_frame(command)); }
    void send(const wire::pb::BaseCommand& command, const std::string& entry) {
      writer.send(wire::encode_frame_head(command, entry.size()), Bytes::copy(entry));
    }
    aio::Stream stream;
    aio::FrameReader reader;
    aio::FrameWriter writer;
    bool cut = false;  // set by the test: the connection ends
  };
  // Whether the command was answered; otherwise it is answered with yes.
  using Handler = std::function<bool(Peer&, const wire::Frame&)>;

  explicit FakeBroker(aio::Executor executor) : executor_(executor), gate_(executor) {}

  aio::Task<void> start() {
    auto acceptor = co_await aio::listen("127.0.0.1", 0);
    acceptor_.emplace(std::move(*acceptor));
    gate_.spawn("accept", accept());
  }
  aio::Task<void> stop() { co_await gate_.close(); }

  std::string url() const {
    return fmt::format("pulsar://127.0.0.1:{}", acceptor_->local_endpoint().port());
  }

  Handler handler;
  std::vector<wire::pb::BaseCommand> heard;
  uint64_t entries = 0;  // stored, for receipts

 private:
  aio::Task<void> accept() {
    for (;;) {
      auto [error, socket] = co_await acceptor_->async_accept(aio::as_values);
      if (error) co_return;
      gate_.spawn("peer", serve(std::move(socket)));
    }
  }
  aio::Task<void> serve(aio::Socket socket) {
    const auto peer = std::make_shared<Peer>(std::move(socket), executor_);
    gate_.spawn("writer", write(peer));
    for (;;) {
      const auto bytes = co_await peer->reader.next();
      if (!bytes) break;
      const auto frame = wire::parse_frame(*bytes);
      if (!frame) break;
      heard.push_back(frame->command);
      if (!handler || !handler(*peer, *frame)) say_yes(*peer, *frame);
      if (peer->cut) break;
    }
    peer->stream.close();
  }
  static aio::Task<void> write(std::shared_ptr<Peer> peer) {
    const auto ended = co_await peer->writer.run();
    if (!ended) peer->stream.close();
  }

  void say_yes(Peer& peer, const wire::Frame& frame) {
    using wire::pb::BaseCommand;
    const auto& command = frame.command;
    BaseCommand answer;
    switch (command.type()) {
      case BaseCommand::CONNECT:
        answer.set_type(BaseCommand::CONNECTED);
        answer.mutable_connected()->set_server_version("fake");
        break;
      case BaseCommand::PING:
        answer.set_type(BaseCommand::PONG);
        answer.mutable_pong();
        break;
      case BaseCommand::PARTITIONED_METADATA: {
        answer.set_type(BaseCommand::PARTITIONED_METADATA_RESPONSE);
        auto* response = answer.mutable_partitionmetadataresponse();
        response->set_request_id(command.partitionmetadata().request_id());
        response->set_partitions(0);
        response->set_response(wire::pb::CommandPartitionedTopicMetadataResponse::Success);
        break;
      }
      case BaseCommand::LOOKUP: {
        answer.set_type(BaseCommand::LOOKUP_RESPONSE);
        auto* response = answer.mutable_lookuptopicresponse();
        response->set_request_id(command.lookuptopic().request_id());
        response->set_response(wire::pb::CommandLookupTopicResponse::Connect);
        response->set_brokerserviceurl(url());
        break;
      }
      case BaseCommand::PRODUCER: {
        answer.set_type(BaseCommand::PRODUCER_SUCCESS);
        auto* response = answer.mutable_producer_success();
        response->set_request_id(command.producer().request_id());
        response->set_producer_name("fake-0");
        break;
      }
      case BaseCommand::SEND: {
        answer.set_type(BaseCommand::SEND_RECEIPT);
        auto* receipt = answer.mutable_send_receipt();
        receipt->set_producer_id(command.send().producer_id());
        receipt->set_sequence_id(command.send().sequence_id());
        receipt->mutable_message_id()->set_ledgerid(1);
        receipt->mutable_message_id()->set_entryid(entries++);
        break;
      }
      case BaseCommand::SUBSCRIBE:
        answer.set_type(BaseCommand::SUCCESS);
        answer.mutable_success()->set_request_id(command.subscribe().request_id());
        break;
      case BaseCommand::CLOSE_PRODUCER:
        answer.set_type(BaseCommand::SUCCESS);
        answer.mutable_success()->set_request_id(command.close_producer().request_id());
        break;
      case BaseCommand::CLOSE_CONSUMER:
        answer.set_type(BaseCommand::SUCCESS);
        answer.mutable_success()->set_request_id(command.close_consumer().request_id());
        break;
      case BaseCommand::ACK:
        answer.set_type(BaseCommand::ACK_RESPONSE);
        answer.mutable_ackresponse()->set_consumer_id(command.ack().consumer_id());
        answer.mutable_ackresponse()->set_request_id(command.ack().request_id());
        break;
      default: return;
    }
    peer.send(answer);
  }

  aio::Executor executor_;
  aio::Gate gate_;
  std::optional<aio::Acceptor> acceptor_;
};

}  // namespace hulse::client

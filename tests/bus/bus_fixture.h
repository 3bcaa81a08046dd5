// A broker on a socket of its own and a client of it, for tests that need both.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "aio/offload.h"
#include "aio/run.h"
#include "aio/threads.h"
#include "aio/timeout.h"
#include "broker/broker.h"
#include "client/client.h"
#include "client/testing.h"

namespace hulse {

using client::send;

class BusTest : public testing::Test {
 protected:
  BusTest() {
    char name[] = "/tmp/hulse-bus-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~BusTest() override { std::filesystem::remove_all(path_); }

  // Runs `body` beside a client; both on one loop, the broker on its own.
  void with_client(std::function<aio::Task<void>(client::Client&)> body) {
    aio::run(run(std::move(body)));
  }

  aio::Task<void> run(std::function<aio::Task<void>(client::Client&)> body) {
    co_await start_bus();
    const auto executor = co_await aio::asio::this_coro::executor;
    auto options = client_options_;
    options.service_url = service_url();
    auto client = client::Client::make(executor, options);
    EXPECT_TRUE(client);
    if (client) {
      // A test that waits for ever is named instead of hanging.
      const auto ended = co_await aio::with_timeout(std::chrono::seconds(90), "the test",
                                                    ended_by(body, **client));
      EXPECT_TRUE(ended) << ended.error().text();
      co_await (*client)->stop();
    }
    co_await stop_bus();
  }

  static aio::Task<Result<void>> ended_by(std::function<aio::Task<void>(client::Client&)>& body,
                                          client::Client& client) {
    co_await body(client);
    co_return Result<void>();
  }

  virtual aio::Task<void> start_bus() { return start_broker(); }
  virtual aio::Task<void> stop_bus() { return stop_broker(); }
  virtual std::string service_url() const { return broker_->service_url(); }

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

  // The next `count` values, acknowledged if asked for.
  static aio::Task<std::vector<std::string>> take(client::Consumer& consumer, size_t count,
                                                  bool ack) {
    std::vector<std::string> out;
    while (out.size() < count) {
      auto messages = co_await consumer.receive();
      EXPECT_TRUE(messages) << messages.error().text();
      if (!messages) break;
      for (const auto& message : (*messages)->list) out.emplace_back(message.value);
      if (ack) consumer.ack((*messages)->id);
    }
    co_return out;
  }

  client::Options client_options_;  // service_url is filled in
  std::string path_;
  uint16_t port_ = 0;
  aio::Threads threads_{"bus", 2};
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<broker::Broker> broker_;
};

}  // namespace hulse

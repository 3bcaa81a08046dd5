// A bus as its client sees it: our broker in this process or, where the environment names one, any
// other. Tests that use nothing else prove that both do the same.
//
//   HULSE_TEST_SERVICE_URL   pulsar://host:port
//   HULSE_TEST_ADMIN_URL     http://host:port
//   HULSE_TEST_RESTART       a command that restarts it and returns when it answers
#pragma once

#include <cstdlib>

#include "aio/http_client.h"
#include "broker/rest.h"
#include "bus/bus_fixture.h"

namespace hulse {

class ClientTest : public BusTest {
 protected:
  static bool external() { return std::getenv("HULSE_TEST_SERVICE_URL") != nullptr; }

  // A full topic name of this test alone: an external bus has seen other tests.
  std::string topic(std::string_view name = "t") const {
    return fmt::format("persistent://public/default/{}-{}", name, unique_);
  }

  // Subscription "s" of it, and a producer on it.
  client::ConsumerOptions consumer_options() const {
    client::ConsumerOptions options;
    options.topic = topic();
    options.subscription = "s";
    return options;
  }
  client::ProducerOptions producer_options() const {
    client::ProducerOptions options;
    options.topic = topic();
    return options;
  }

  aio::Task<void> start_bus() override {
    if (external()) co_return;
    co_await start_broker();
    co_await aio::on(threads_.at(0), start_web());
  }
  aio::Task<void> stop_bus() override {
    if (external()) co_return;
    co_await aio::on(threads_.at(0), stop_web());
    co_await stop_broker();
  }
  std::string service_url() const override {
    return external() ? std::getenv("HULSE_TEST_SERVICE_URL") : broker_->service_url();
  }
  std::string admin_url() const {
    if (external()) return std::getenv("HULSE_TEST_ADMIN_URL");
    return fmt::format("http://127.0.0.1:{}", web_->endpoint().port());
  }

  // The broker ends and comes back with what it has stored.
  aio::Task<void> restart_bus() {
    if (!external()) {
      co_await stop_bus();
      co_await start_bus();
      co_return;
    }
    const char* command = std::getenv("HULSE_TEST_RESTART");
    EXPECT_NE(command, nullptr) << "this test restarts the bus";
    if (command == nullptr) co_return;
    const std::string line = command;
    const int status =
        co_await aio::offload(threads_.at(1), [line] { return std::system(line.c_str()); });
    EXPECT_EQ(status, 0) << line;
  }

  // One call of the admin REST; anything but 2xx fails the test.
  aio::Task<std::string> admin(std::string method, std::string path, std::string body) {
    const auto executor = co_await aio::asio::this_coro::executor;
    aio::HttpClient http(executor, {});
    aio::HttpCall call;
    call.method = std::move(method);
    call.url = admin_url() + "/admin/v2/" + path;
    call.body = std::move(body);
    call.headers = {{"Content-Type", "application/json"}};
    const std::string what = call.method + " " + call.url;
    const auto answer = co_await http.send(std::move(call));
    http.close();
    EXPECT_TRUE(answer) << answer.error().text();
    if (!answer) co_return "";
    EXPECT_EQ(answer->status / 100, 2u) << what << ": " << answer->status << " " << answer->body;
    co_return answer->body;
  }
  // "persistent/public/default/t", as the REST's paths have it.
  static std::string path_of(const std::string& topic) {
    const size_t colon = topic.find("://");
    return topic.substr(0, colon) + topic.substr(colon + 2);
  }
  aio::Task<void> unload(std::string topic) {
    co_await admin("PUT", path_of(topic) + "/unload", "");
  }
  aio::Task<void> terminate(std::string topic) {
    co_await admin("POST", path_of(topic) + "/terminate", "");
  }
  aio::Task<void> make_partitions(std::string topic, int count) {
    co_await admin("PUT", path_of(topic) + "/partitions", std::to_string(count));
  }
  aio::Task<void> grow_partitions(std::string topic, int count) {
    co_await admin("POST", path_of(topic) + "/partitions", std::to_string(count));
  }

 private:
  aio::Task<void> start_web() {
    aio::HttpServerOptions options;
    options.port = web_port_;
    auto web = co_await aio::HttpServer::start(options, [this](aio::HttpRequest request) {
      return broker::handle(*broker_, std::move(request));
    });
    EXPECT_TRUE(web) << web.error().text();
    web_ = std::move(*web);
    web_port_ = web_->endpoint().port();
  }
  aio::Task<void> stop_web() {
    co_await web_->stop(std::chrono::seconds(1));
    web_.reset();
  }

  const std::string unique_ = random_hex(4);
  uint16_t web_port_ = 0;
  std::unique_ptr<aio::HttpServer> web_;
};

}  // namespace hulse

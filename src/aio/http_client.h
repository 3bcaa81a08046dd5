// HttpClient: outgoing HTTP. libcurl does the protocol, TLS and the pool of connections, driven by
// the Asio loop; it stays inside http_client.cpp.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "aio/clock.h"
#include "aio/http_server.h"
#include "aio/task.h"
#include "aio/tls.h"

namespace hulse::aio {

struct HttpClientOptions {
  size_t connections_max = 8;
  Duration connect_time_max = std::chrono::seconds(5);
  Duration idle_time_max = std::chrono::seconds(30);  // of a kept connection
  size_t answer_bytes_max = 256 * 1024 * 1024;
  TlsOptions tls;
};

struct HttpCall {
  std::string method = "GET";
  std::string url;
  HttpHeaders headers;
  std::string body;                              // sent if not empty
  bool gzip = false;                             // compress the body
  Duration time_max = std::chrono::seconds(60);  // for all of it
};

struct HttpAnswer {
  unsigned status = 0;
  HttpHeaders headers;
  std::string body;
};

// Lives on one executor; all members are called there. Closed before it is destroyed.
class HttpClient {
 public:
  HttpClient(Executor executor, HttpClientOptions options);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Any answer is a success, whatever its status. Errors name the method and the URL without its
  // credentials: Code::unavailable (no connection, or it broke), timeout, permission (the
  // certificate of one side), invalid (the URL), too_large, cancelled.
  Task<Result<HttpAnswer>> send(HttpCall call);

  // Ends what is under way, which gives Code::closed, and all connections.
  void close();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// The URL as it may be shown: without user and password.
std::string without_credentials(std::string_view url);

}  // namespace hulse::aio

// HttpServer: HTTP/1.1 for the REST of broker and worker and for sources that listen. Beast does
// the parsing and stays inside http_server.cpp.
//
// Bounded in every direction: head and body sizes, connections, and the time a client may take for
// each. A request is read whole, then the handler answers it; one request of a connection at a
// time.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aio/clock.h"
#include "aio/task.h"
#include "aio/tls.h"

namespace hulse::aio {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

// The first header of that name, whatever its letter case; empty if there is none.
std::string_view find_header(const HttpHeaders& headers, std::string_view name);

struct HttpRequest {
  std::string method;  // "GET"
  std::string target;  // path and query as sent: "/admin/v3/sinks?x=1"
  HttpHeaders headers;
  std::string body;
  std::string peer;              // "127.0.0.1:50000"
  bool secure = false;           // it came over TLS
  std::string peer_common_name;  // of the client's trusted certificate, if there is one

  std::string_view path() const;   // of the target, without the query
  std::string_view query() const;  // what follows the question mark
};

struct HttpResponse {
  unsigned status = 200;
  std::string body;
  std::string content_type = "text/plain; charset=utf-8";  // not sent without a body
  HttpHeaders headers;
};

// Runs on the executor of the request's connection. An exception that leaves it is answered 500 and
// logged. It is cancelled when the server stops and the grace is over.
using HttpHandler = std::function<Task<HttpResponse>(HttpRequest)>;

struct HttpServerOptions {
  std::string host = "127.0.0.1";  // an address or a name
  uint16_t port = 0;               // 0: any free one
  std::optional<TlsServer> tls;    // HTTPS
  // Where connections live, in turn; empty: the executor that start() was given.
  std::vector<Executor> workers;
  size_t head_bytes_max = 16 * 1024;
  size_t body_bytes_max = 8 * 1024 * 1024;
  // For those of which it is another, from the request's target; empty: for all the same.
  std::function<size_t(std::string_view target)> body_bytes_max_of;
  // Of all requests that are being read or answered; one more is told 503 and to come again.
  size_t bodies_bytes_max = 64 * 1024 * 1024;
  size_t connections_max = 2000;  // further ones wait in the kernel's queue
  Duration idle_time_max = std::chrono::seconds(60);
  Duration head_time_max = std::chrono::seconds(10);  // from a request's first byte
  Duration body_time_max = std::chrono::seconds(60);
  Duration write_time_max = std::chrono::seconds(60);
};

// Lives on the executor it was started on; start and stop are called there. Stopped before it is
// destroyed.
class HttpServer {
 public:
  // Listens, or says why not: "listening on 127.0.0.1:8080: Address already in use".
  static Task<Result<std::unique_ptr<HttpServer>>> start(HttpServerOptions options,
                                                         HttpHandler handler);
  ~HttpServer();

  // Takes no new connection or request, lets running requests end for up to `grace`, then cancels
  // them.
  Task<void> stop(Duration grace);

  Endpoint endpoint() const;  // the one it listens on

 private:
  struct Worker;
  struct State;
  explicit HttpServer(std::shared_ptr<State> state);
  static Task<void> accept(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace hulse::aio

// Answers like an Elasticsearch 7.10 that stores nothing: `GET /` and `HEAD`, index creation,
// single documents and
// `_bulk` with one `created` item an operation. Counts documents; `GET /_counts` tells how many and
// when the first and the last of them came. One thread a connection. Ends with SIGTERM.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "support.h"

namespace {

std::mutex counts_mutex;
uint64_t documents = 0, requests = 0, body_bytes = 0;
double first_at = 0, last_at = 0;

void count(uint64_t added, size_t bytes) {
  const double now = bench::seconds();
  const std::lock_guard lock(counts_mutex);
  ++requests;
  body_bytes += bytes;
  if (added == 0) return;
  if (documents == 0) first_at = now;
  documents += added;
  last_at = now;
}

std::string counts() {
  const std::lock_guard lock(counts_mutex);
  char text[256];
  std::snprintf(
      text, sizeof text,
      "{\"documents\": %llu, \"requests\": %llu, \"bytes\": %llu, \"first\": %.6f, \"last\": %.6f}",
      static_cast<unsigned long long>(documents), static_cast<unsigned long long>(requests),
      static_cast<unsigned long long>(body_bytes), first_at, last_at);
  return text;
}

// How many operations a bulk body holds. A `delete` has no line of its own after it.
size_t operations(std::string_view body) {
  size_t found = 0;
  while (!body.empty()) {
    const size_t end = body.find('\n');
    const std::string_view action = body.substr(0, end);
    body.remove_prefix(end == std::string_view::npos ? body.size() : end + 1);
    if (action.empty()) continue;
    ++found;
    if (action.substr(0, 10).find("\"delete\"") != std::string_view::npos) continue;
    const size_t source = body.find('\n');
    body.remove_prefix(source == std::string_view::npos ? body.size() : source + 1);
  }
  return found;
}

class Connection {
 public:
  explicit Connection(int socket) : socket_(socket) {}

  void serve() {
    while (request()) {
    }
    ::close(socket_);
  }

 private:
  // Reads until the buffer holds at least `bytes`. False when the other side is gone.
  bool have(size_t bytes) {
    while (buffer_.size() < bytes) {
      const size_t old = buffer_.size();
      buffer_.resize(old + std::max<size_t>(64 * 1024, bytes - old));
      const ssize_t got = ::recv(socket_, buffer_.data() + old, buffer_.size() - old, 0);
      buffer_.resize(old + static_cast<size_t>(std::max<ssize_t>(got, 0)));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return false;
    }
    return true;
  }

  static std::string_view header(std::string_view head, std::string_view name) {
    while (!head.empty()) {
      const size_t end = head.find("\r\n");
      const std::string_view line = head.substr(0, end);
      if (line.size() > name.size() && line[name.size()] == ':' &&
          strncasecmp(line.data(), name.data(), name.size()) == 0) {
        std::string_view value = line.substr(name.size() + 1);
        value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
        return value;
      }
      if (end == std::string_view::npos) break;
      head.remove_prefix(end + 2);
    }
    return {};
  }

  bool request() {
    size_t end;
    while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
      if (!have(buffer_.size() + 1)) return false;
    }
    const std::string head = buffer_.substr(0, end);
    size_t at = end + 4;
    if (header(head, "expect").starts_with("100-") && !answer("HTTP/1.1 100 Continue\r\n\r\n"))
      return false;
    std::string chunked;
    std::string_view body;
    if (header(head, "transfer-encoding").starts_with("chunked")) {
      if (!read_chunks(at, chunked)) return false;
      body = chunked;
    } else {
      const std::string_view length = header(head, "content-length");
      size_t size = 0;
      std::from_chars(length.data(), length.data() + length.size(), size);
      if (!have(at + size)) return false;
      body = std::string_view(buffer_).substr(at, size);
      at += size;
    }
    const bool good = respond(head, body);
    buffer_.erase(0, at);
    return good;
  }

  bool read_chunks(size_t& at, std::string& body) {
    for (;;) {
      size_t line;
      while ((line = buffer_.find("\r\n", at)) == std::string::npos) {
        if (!have(buffer_.size() + 1)) return false;
      }
      size_t size = 0;
      std::from_chars(buffer_.data() + at, buffer_.data() + line, size, 16);
      at = line + 2;
      if (!have(at + size + 2)) return false;
      body.append(buffer_, at, size);
      at += size + 2;
      if (size == 0) return true;
    }
  }

  bool respond(std::string_view head, std::string_view body) {
    const std::string_view method = head.substr(0, head.find(' '));
    std::string_view target = head.substr(std::min(method.size() + 1, head.size()));
    target = target.substr(0, target.find(' '));
    target = target.substr(0, target.find('?'));
    int status = 200;
    std::string text;
    if (target.ends_with("/_bulk")) {
      const size_t items = operations(body);
      count(items, body.size());
      text = "{\"took\":1,\"errors\":false,\"items\":[";
      for (size_t i = 0; i < items; ++i) {
        if (i) text += ',';
        text +=
            R"({"index":{"_index":"null","_type":"_doc","_id":"x","_version":1,"result":"created","status":201}})";
      }
      text += "]}";
    } else if (target == "/_counts") {
      text = counts();
    } else if (target == "/") {
      text =
          R"({"name":"null","cluster_name":"bench","cluster_uuid":"bench","version":{"number":"7.10.2",)"
          R"("build_flavor":"oss","build_type":"tar","build_hash":"x","build_date":"2021-01-13T00:42:12Z",)"
          R"("build_snapshot":false,"lucene_version":"8.7.0","minimum_wire_compatibility_version":"6.8.0",)"
          R"("minimum_index_compatibility_version":"6.0.0-beta1"},"tagline":"You Know, for Search"})";
    } else if (target.find("/_doc") != std::string_view::npos && method != "GET") {
      count(1, body.size());
      status = 201;
      text =
          R"({"_index":"null","_type":"_doc","_id":"x","_version":1,"result":"created","_shards":{"total":1,)"
          R"("successful":1,"failed":0},"_seq_no":0,"_primary_term":1})";
    } else {
      text = R"({"acknowledged":true,"shards_acknowledged":true,"index":"null"})";
    }
    std::string whole = "HTTP/1.1 " + std::to_string(status) +
                        (status == 201 ? " Created" : " OK") +
                        "\r\nX-elastic-product: Elasticsearch\r\nContent-Type: "
                        "application/json\r\nContent-Length: " +
                        std::to_string(text.size()) + "\r\n\r\n";
    if (method != "HEAD") whole += text;
    return answer(whole);
  }

  bool answer(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  int socket_;
  std::string buffer_;
};

}  // namespace

int main(int argc, char** argv) {
  bench::Options options(argc, argv, "null_elasticsearch --port P");
  const auto port = static_cast<uint16_t>(options.number("port", 0));
  options.finish();
  const int listener = bench::listen_tcp(port);
  std::printf("http://127.0.0.1:%u\n", static_cast<unsigned>(bench::port_of(listener)));
  std::fflush(stdout);
  for (;;) {
    const int socket = ::accept(listener, nullptr, nullptr);
    if (socket < 0) continue;
    const int on = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    std::thread([socket] { Connection(socket).serve(); }).detach();
  }
}

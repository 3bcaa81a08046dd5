// Stream: one TCP connection, in the clear or under TLS. Used by the framed reader and writer,
// that is by the broker's sessions and the client's connections.
#pragma once

#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <optional>
#include <string>

#include "aio/task.h"
#include "aio/tls.h"

namespace hulse::aio {

// Lives on the socket's executor. One read and one write may be under way at a time.
class Stream {
 public:
  explicit Stream(Socket socket) : socket_(std::move(socket)) {}
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  Socket& socket() { return socket_; }
  bool secure() const { return tls_.has_value(); }

  // The handshakes; nothing was read or written before. The caller bounds them in time. Errors say
  // what OpenSSL says; Code::permission when the other side's certificate is not accepted.
  Task<Result<void>> accept_tls(TlsContext context);
  // `host` is checked against the server's certificate if `verify_host`, and sent as SNI.
  Task<Result<void>> connect_tls(TlsContext context, std::string host, bool verify_host);

  // The common name of the client's certificate; empty when it sent none, or none that is trusted.
  std::string peer_common_name();

  // As async_read_some and async_write with as_values: (error, bytes).
  auto read_some(asio::mutable_buffer buffer) {
    return tls_ ? tls_->async_read_some(buffer, as_values)
                : socket_.async_read_some(buffer, as_values);
  }
  template <class Buffers>
  auto write(const Buffers& buffers) {
    return tls_ ? asio::async_write(*tls_, buffers, as_values)
                : asio::async_write(socket_, buffers, as_values);
  }

  // Closes the socket; what waits ends. Without TLS's farewell: the protocol above has its own.
  void close();

 private:
  Socket socket_;
  TlsContext context_;
  std::optional<asio::ssl::stream<Socket&>> tls_;
};

// The common name in a peer's certificate, if it is trusted; see Stream::peer_common_name().
std::string common_name_of_peer(SSL* ssl);

}  // namespace hulse::aio

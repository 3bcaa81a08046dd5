// TLS settings of both sides, and OpenSSL contexts made of them. Used by streams (stream.h), the
// HTTP server and the HTTP client. TLS 1.2 is the least that is spoken.
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <filesystem>
#include <memory>
#include <string>

#include "aio/clock.h"
#include "aio/task.h"
#include "base/result.h"
#include "base/secret.h"

namespace hulse::aio {

// Of a client.
struct TlsOptions {
  bool verify_certificate = true;
  bool verify_host = true;
  std::string ca_file;    // PEM; empty: the system's
  std::string cert_file;  // of the client: PEM, or (HTTP only) PKCS12 by the names .p12 and .pfx
  std::string key_file;   // PEM; empty: in cert_file
  Secret key_password;
  std::string ciphers;      // as OpenSSL spells them; empty: the library's choice
  std::string version_min;  // "1.2" (default) or "1.3"
};

using TlsContext = std::shared_ptr<boost::asio::ssl::context>;

// Reads the files; an error names the file and OpenSSL's words.
Result<TlsContext> client_context(const TlsOptions& options);

struct TlsServerOptions {
  std::string cert_file;  // PEM, the chain after the server's own
  std::string key_file;   // PEM
  // PEM; clients' certificates are asked for and checked with it. Empty: none is asked for.
  std::string trust_file;
  bool client_certificate_required = false;
  bool accept_any_client_certificate = false;  // unverified: then it is no identity
};

// The context of a listener. A certificate is renewed by replacing its files: connections made
// after that use the new ones. Not thread-safe: belongs to the strand that accepts.
class TlsServer {
 public:
  // Blocking. `disk` is where the files are looked at from then on.
  static Result<TlsServer> load(TlsServerOptions options, Executor disk);

  const TlsServerOptions& options() const { return options_; }
  // The one to accept the next connection with. Files that cannot be used are logged, and the old
  // context stays. Awaited by one at a time.
  Task<TlsContext> context();

 private:
  using Stamps = std::array<std::filesystem::file_time_type, 3>;
  TlsServer(TlsServerOptions options, Executor disk) : options_(std::move(options)), disk_(disk) {}
  static Stamps stamps(const TlsServerOptions& options);

  TlsServerOptions options_;
  Executor disk_;
  TlsContext context_;
  Stamps stamps_{};
  Clock::time_point looked_{};
};

}  // namespace hulse::aio

// Security: how a client shows who it is and checks who answers. One object for the binary
// protocol and for lookups over HTTP.
#pragma once

#include <string>

#include "aio/http_server.h"
#include "aio/tls.h"
#include "base/secret.h"

namespace hulse::client {

struct Security {
  aio::TlsOptions tls;          // certificate files here make the method `tls`, too
  std::string method = "none";  // as CONNECT names it: none, token, basic, tls
  Secret data;                  // the token, or user:password
  std::string token_file;       // instead of `data`: read anew for each connection and challenge

  // Pulsar's words for it: the name of an authentication class or its short form (token, basic,
  // tls), and its parameters: "token:…", "file:///…", "env:NAME"; {"userId": …, "password": …};
  // "tlsCertFile:…,tlsKeyFile:…". Sets the members above.
  Result<void> set_plugin(std::string_view plugin, std::string_view params);

  // What CONNECT carries now.
  Result<Secret> credentials() const;
  // The same for HTTP.
  Result<aio::HttpHeaders> http_headers() const;
};

}  // namespace hulse::client

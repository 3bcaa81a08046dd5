// Service URLs: how to reach a cluster. Several addresses stand for one cluster; the first that
// answers serves.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hulse::client {

struct Address {
  std::string host;  // without the brackets of an IPv6 address
  std::string port;
  bool tls = false;
  // "host:port", as proxies and logs have it.
  std::string text() const;
  auto operator<=>(const Address&) const = default;
};

struct ServiceUrl {
  bool http = false;  // lookups go over HTTP; brokers are reached by their binary address
  bool tls = false;
  std::vector<Address> addresses;

  // pulsar://host[:port][,host[:port]…], pulsar+ssl://, http://, https://. The error names the URL.
  static Result<ServiceUrl> parse(std::string_view text);
};

}  // namespace hulse::client

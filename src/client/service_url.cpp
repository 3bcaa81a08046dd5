#include "client/service_url.h"

#include <fmt/format.h>

#include "base/text.h"

namespace hulse::client {
namespace {

struct Scheme {
  std::string_view prefix;
  bool http;
  bool tls;
  const char* port;
};
constexpr Scheme kSchemes[] = {{"pulsar://", false, false, "6650"},
                               {"pulsar+ssl://", false, true, "6651"},
                               {"http://", true, false, "8080"},
                               {"https://", true, true, "8443"}};

Result<Address> parse_address(std::string_view text, const Scheme& scheme) {
  const size_t colon = text.rfind(':');
  const size_t bracket = text.rfind(']');
  Address address{.tls = scheme.tls};
  if (colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket)) {
    address.host = text.substr(0, colon);
    address.port = text.substr(colon + 1);
  } else {
    address.host = text;
    address.port = scheme.port;
  }
  if (address.host.starts_with('[') && address.host.ends_with(']')) {
    address.host = address.host.substr(1, address.host.size() - 2);
  }
  const bool number = !address.port.empty() && address.port.size() <= 5 &&
                      address.port.find_first_not_of("0123456789") == std::string::npos;
  if (address.host.empty() || !number || address.host.find('/') != std::string::npos) {
    return Error(Code::invalid, fmt::format("\"{}\" is not host:port", text));
  }
  return address;
}

}  // namespace

std::string Address::text() const {
  return host.find(':') == std::string::npos ? host + ":" + port : "[" + host + "]:" + port;
}

Result<ServiceUrl> ServiceUrl::parse(std::string_view text) {
  const auto refuse = [&](std::string_view why) {
    return Error(Code::invalid, fmt::format("broker service URL \"{}\": {}", text, why));
  };
  for (const auto& scheme : kSchemes) {
    if (!text.starts_with(scheme.prefix)) continue;
    std::string_view rest = text.substr(scheme.prefix.size());
    while (!rest.empty() && rest.back() == '/') rest.remove_suffix(1);
    ServiceUrl url{.http = scheme.http, .tls = scheme.tls};
    for (auto part : split(rest, ',')) {
      if (part.starts_with(scheme.prefix)) part.remove_prefix(scheme.prefix.size());
      auto address = parse_address(part, scheme);
      if (!address) return refuse(address.error().text());
      url.addresses.push_back(std::move(*address));
    }
    return url;
  }
  return refuse("it begins with none of pulsar://, pulsar+ssl://, http:// and https://");
}

}  // namespace hulse::client

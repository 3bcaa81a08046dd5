#include "client/security.h"

#include <fmt/format.h>

#include <boost/json/parse.hpp>
#include <cstdlib>

#include "aio/small_file.h"
#include "base/base64.h"
#include "base/text.h"

namespace hulse::client {
namespace {

namespace json = boost::json;

constexpr std::string_view kPackage = "org.apache.pulsar.client.impl.auth.Authentication";

// The value of `key` in parameters written as a JSON object or as "key:value,key:value".
std::string parameter(std::string_view params, std::string_view key) {
  boost::system::error_code error;
  const auto parsed = json::parse(std::string(params), error);
  if (!error && parsed.is_object()) {
    const auto* value = parsed.get_object().if_contains(std::string(key));
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
  }
  for (const auto part : split(params, ',')) {
    const size_t colon = part.find(':');
    if (colon != std::string_view::npos && trim(part.substr(0, colon)) == key) {
      return std::string(trim(part.substr(colon + 1)));
    }
  }
  return "";
}

// "file:/x", "file:///x" and "/x" are one path.
std::string path_of(std::string_view text) {
  if (text.starts_with("file://")) return std::string(text.substr(7));
  if (text.starts_with("file:")) return std::string(text.substr(5));
  return std::string(text);
}

}  // namespace

Result<void> Security::set_plugin(std::string_view plugin, std::string_view params) {
  if (plugin.empty()) return {};
  std::string name(plugin.starts_with(kPackage) ? plugin.substr(kPackage.size()) : plugin);
  name = to_lower(name);
  if (name == "disabled" || name == "none") return {};
  if (name == "token") {
    method = "token";
    std::string token = parameter(params, "token");
    if (params.starts_with("file:")) {
      token_file = path_of(params);
    } else if (params.starts_with("env:")) {
      const std::string variable(params.substr(4));
      const char* value = std::getenv(variable.c_str());
      if (value == nullptr)
        return Error(Code::invalid, fmt::format("authentication: the environment has no {}, which "
                                                "should hold the token",
                                                variable));
      data = Secret(std::string(trim(value)));
    } else {
      if (token.empty()) token = params;
      if (token.empty())
        return Error(Code::invalid,
                     "authentication by token: give token:…, file:///… or env:NAME as parameters");
      data = Secret(std::move(token));
    }
    return {};
  }
  if (name == "basic") {
    method = "basic";
    const std::string user = parameter(params, "userId");
    if (user.empty())
      return Error(Code::invalid,
                   R"(basic authentication: give {"userId": "…", "password": "…"} as parameters)");
    data = Secret(user + ":" + parameter(params, "password"));
    return {};
  }
  if (name == "tls") {
    method = "tls";
    tls.cert_file = path_of(parameter(params, "tlsCertFile"));
    tls.key_file = path_of(parameter(params, "tlsKeyFile"));
    if (tls.cert_file.empty())
      return Error(Code::invalid,
                   "authentication by certificate: give tlsCertFile:…,tlsKeyFile:… as parameters");
    return {};
  }
  return Error(Code::invalid,
               fmt::format("authentication by {} is not known; there are token, basic and tls, and "
                           "Pulsar's class names of these",
                           plugin));
}

Result<Secret> Security::credentials() const {
  if (token_file.empty()) return data;
  const auto text = aio::read_small_file(token_file);
  if (!text) return text.error().with("reading the token");
  return Secret(std::string(trim(*text)));
}

Result<aio::HttpHeaders> Security::http_headers() const {
  const auto secret = credentials();
  if (!secret) return secret.error();
  aio::HttpHeaders headers;
  if (method == "token") headers.emplace_back("Authorization", "Bearer " + secret->reveal());
  if (method == "basic")
    headers.emplace_back("Authorization", "Basic " + base64_encode(secret->reveal()));
  return headers;
}

}  // namespace hulse::client

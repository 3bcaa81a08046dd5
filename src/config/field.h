// Fields: a connector's (or command's) configuration, declared once. From the table come parsing, all
// problems at once, defaults, redaction, help and the REST definition.
//
//   struct NettyConfig {
//     std::string type = "tcp";
//     uint16_t port = 10999;
//     Secret password;
//     Result<void> check() const;  // optional: rules over several fields
//   };
//   inline constexpr config::Field kFields[] = {
//       config::field<&NettyConfig::type>("type", "Protocol to listen with.").choices(kTypes),
//       config::field<&NettyConfig::port>("port", "Port to listen on.").range(1024, 65535),
//   };
//   Result<NettyConfig> parsed = config::parse<NettyConfig>(kFields, given);
#pragma once

// To be written with the first connector; Given is what a user wrote.
#include <boost/json/object.hpp>
namespace hulse::config {
struct Given {
  boost::json::object values;   // the connector's `configs`
  boost::json::object secrets;  // values for secret fields, by field name; win over `values`
};
struct Field;
}  // namespace hulse::config

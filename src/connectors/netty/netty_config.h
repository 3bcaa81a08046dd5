// The configuration of the netty source. Keys and defaults of the first four are Pulsar's.
#pragma once

#include <string>

#include "config/field.h"

namespace hulse::connectors::netty {

enum class Protocol { tcp, udp, http };
enum class Framing { none, line, length };

struct NettyConfig {
  Protocol type = Protocol::tcp;
  std::string host = "127.0.0.1";
  uint16_t port = 10999;
  int number_of_threads = 1;
  Framing framing = Framing::none;
  int length_bytes = 4;

  void check(config::Problems& problems) const {
    if (framing != Framing::none && type != Protocol::tcp) {
      problems.add("framing",
                   "only for type tcp; a datagram or a request is one message by itself");
    }
    if (length_bytes != 1 && length_bytes != 2 && length_bytes != 4) {
      problems.add("lengthBytes", "must be 1, 2 or 4");
    }
    if (length_bytes != 4 && framing != Framing::length) {
      problems.add("lengthBytes", "only with framing length");
    }
  }
};

inline constexpr std::string_view kProtocols[] = {"tcp", "udp", "http"};
inline constexpr std::string_view kFramings[] = {"none", "line", "length"};
inline constexpr config::Field kFields[] = {
    config::field<&NettyConfig::type>("type", "What to listen for: tcp, udp or http.")
        .one_of(kProtocols)
        .ignore_case(),
    config::field<&NettyConfig::host>("host",
                                      "Address or name of this machine to listen on; 0.0.0.0 "
                                      "for every IPv4 address it has.")
        .example("0.0.0.0"),
    config::field<&NettyConfig::port>("port", "Port to listen on.").range(1024, 65535),
    config::field<&NettyConfig::number_of_threads>(
        "numberOfThreads", "Threads that read. 1: the instance's own; more: so many beside it.")
        .range(1, 64),
    config::field<&NettyConfig::framing>(
        "framing",
        "How a TCP stream becomes messages. none: each read is one, as in Pulsar, whatever "
        "the sender meant. line: each line is one, without its end (LF or CR LF). length: a "
        "big-endian length before each.")
        .one_of(kFramings)
        .ignore_case(),
    config::field<&NettyConfig::length_bytes>(
        "lengthBytes", "Width of the length with framing length: 1, 2 or 4."),
};

}  // namespace hulse::connectors::netty

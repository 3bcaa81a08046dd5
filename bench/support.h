// What the programs of bench/ share: options, payloads, sockets on loopback, time.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace bench {

// Ends the program with the reason and the system's own words.
[[noreturn]] void die(std::string_view what);
[[noreturn]] void die_errno(std::string_view what);

// `--name value` pairs. Asking for an option takes it; finish() refuses what nobody asked for.
class Options {
 public:
  Options(int count, char** words, std::string_view usage);
  std::string text(const std::string& name, std::string_view fallback);
  uint64_t number(const std::string& name, uint64_t fallback);
  double real(const std::string& name, double fallback);
  void finish() const;

 private:
  std::map<std::string, std::string> given_;
  std::string usage_;
};

double seconds();  // of a clock that never goes back
void wait_until(double at);

// The same numbers for the same seed on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  uint64_t next();

 private:
  uint64_t state_;
};

// `bytes` of payload: `random` is printable noise of almost 6 bits a byte without line ends, quotes
// and backslashes, `binary` is noise of 8 bits a byte, `words` is text that compresses well.
std::string payload(std::string_view kind, size_t bytes, uint64_t seed);

int connect_tcp(uint16_t port);
int listen_tcp(uint16_t port);  // 0: any; port_of tells which
uint16_t port_of(int socket);
void send_all(int socket, std::string_view bytes);
// Tells the other side that nothing more comes and waits until it has read everything and closed.
void finish_sending(int socket);

}  // namespace bench

// Made-up people, as JSON text.
#pragma once

#include <cstdint>
#include <random>
#include <string>

namespace hulse::connectors::data_generator {

// Deterministic for one seed. Not for more than one thread.
class People {
 public:
  explicit People(uint64_t seed) : random_(seed) {}

  // {"firstName": …, "address": {…}, "company": {…}, …}: the nested shape of Pulsar's generator.
  std::string next();

 private:
  template <size_t N>
  const char* any(const char* const (&words)[N]);
  unsigned number(unsigned low, unsigned high);

  std::mt19937_64 random_;
};

}  // namespace hulse::connectors::data_generator

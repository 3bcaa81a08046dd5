#include "connectors/data_generator/person.h"

#include <fmt/format.h>

#include "base/text.h"

namespace hulse::connectors::data_generator {
namespace {

constexpr const char* kMaleNames[] = {"Aaron", "Brian",  "Carlos", "David",  "Felix",
                                      "Henry", "Joseph", "Marco",  "Oliver", "Viktor"};
constexpr const char* kFemaleNames[] = {"Alice", "Bella",  "Clara",   "Diana", "Grace",
                                        "Helen", "Ingrid", "Jocelyn", "Maria", "Sofia"};
constexpr const char* kLastNames[] = {"Anders",  "Baker",  "Castro", "Dupont", "Evans",
                                      "Fischer", "Garcia", "Hewitt", "Ito",    "Moreau"};
constexpr const char* kStreets[] = {"Arecibo Road",  "Beacon Street", "Cedar Lane", "Dover Avenue",
                                    "Eagle Terrace", "Harbour Way",   "Mill Lane",  "Orbit Square"};
constexpr const char* kCities[] = {"Amherst", "Boston",  "Dublin", "Lisbon",
                                   "Osaka",   "Toronto", "Turin",  "Utrecht"};
constexpr const char* kCompanies[] = {"Binary Star Labs", "Clockwork Foods", "Delta Freight",
                                      "Echo Optics",      "Fathom Software", "Granite Bank"};
constexpr const char* kDomains[] = {"binarystar.example", "clockwork.example", "delta.example",
                                    "echo.example",       "fathom.example",    "granite.example"};

}  // namespace

template <size_t N>
const char* People::any(const char* const (&words)[N]) {
  return words[number(0, N - 1)];
}

unsigned People::number(unsigned low, unsigned high) {
  return std::uniform_int_distribution<unsigned>(low, high)(random_);
}

std::string People::next() {
  const bool female = number(0, 1) == 1;
  const std::string first = female ? any(kFemaleNames) : any(kMaleNames);
  const std::string last = any(kLastNames);
  const std::string user = to_lower(first.substr(0, 1) + last) + std::to_string(number(1, 99));
  const unsigned company = number(0, std::size(kCompanies) - 1);
  const unsigned age = number(18, 90);
  return fmt::format(
      R"({{"firstName":"{}","lastName":"{}","sex":"{}","age":{},"dateOfBirth":"{:04}-{:02}-{:02}",)"
      R"("username":"{}","email":"{}@mail.example","telephoneNumber":"{:03}-{:03}-{:03}",)"
      R"("address":{{"street":"{}","streetNumber":"{}","apartmentNumber":"{}","city":"{}",)"
      R"("postalCode":"{:05}"}},)"
      R"("company":{{"name":"{}","domain":"{}","email":"office@{}"}},"companyEmail":"{}@{}"}})",
      first, last, female ? "FEMALE" : "MALE", age, 2025 - age, number(1, 12), number(1, 28), user,
      user, number(100, 999), number(0, 999), number(0, 999), any(kStreets), number(1, 200),
      number(1, 60), any(kCities), number(10000, 99999), kCompanies[company], kDomains[company],
      kDomains[company], user, kDomains[company]);
}

}  // namespace hulse::connectors::data_generator

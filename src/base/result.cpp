#include "base/result.h"

#include <stdexcept>

namespace hulse {

std::string_view to_string(Code code) {
  switch (code) {
    case Code::internal: return "internal";
    case Code::invalid: return "invalid";
    case Code::not_found: return "not found";
    case Code::already_exists: return "already exists";
    case Code::unavailable: return "unavailable";
    case Code::timeout: return "timeout";
    case Code::cancelled: return "cancelled";
    case Code::corrupt: return "corrupt";
    case Code::io: return "io";
    case Code::full: return "full";
    case Code::busy: return "busy";
    case Code::too_large: return "too large";
    case Code::permission: return "permission";
    case Code::fenced: return "fenced";
    case Code::closed: return "closed";
  }
  return "unknown";
}

std::string Error::text() const {
  std::string out;
  for (auto context = contexts_.rbegin(); context != contexts_.rend(); ++context) {
    out += *context;
    out += ": ";
  }
  out += message_;
  return out;
}

void throw_exception_from_error(const Error& error, const boost::source_location&) {
  throw std::logic_error("value of a failed Result: " + error.text());
}

}  // namespace hulse

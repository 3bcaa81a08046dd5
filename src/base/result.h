// How failures travel: Result<T> is a value or an Error. Used by everything.
//
// Expected failures are values. An Error keeps what failed (message), what it was doing (contexts,
// outermost first when printed) and a code that code can act on. It holds no secrets: whoever makes
// one redacts first.
#pragma once

#include <boost/system/result.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hulse {

// What a caller may decide on. Keep it short: a new code needs somebody who acts on it.
enum class Code {
  internal,        // a broken invariant or a library that failed in a way we do not know
  invalid,         // input, configuration or arguments that cannot work as they are
  not_found,       //
  already_exists,  //
  unavailable,     // the other side is not there now; trying again may help
  timeout,         //
  cancelled,       // the operation was stopped on purpose; pass it on, do not log it
  corrupt,         // stored or received bytes fail their check
  io,              // the disk or a file said no
  full,            // no room on the disk
  busy,            // somebody else holds it (port, lock, subscription, name)
  too_large,       // above a configured limit
  permission,      //
  fenced,          // another holder took over; this one must end
  closed,          // the object was closed
};

std::string_view to_string(Code code);

class [[nodiscard]] Error {
 public:
  // boost::system::result needs one to return from error() of a success; nobody should see it.
  Error() : code_(Code::internal), message_("no error") {}
  Error(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  bool cancelled() const { return code_ == Code::cancelled; }

  // Adds what was being done: error.with("opening segment 7").
  Error with(std::string context) && {
    contexts_.push_back(std::move(context));
    return std::move(*this);
  }
  Error with(std::string context) const& { return Error(*this).with(std::move(context)); }

  // "opening segment 7: no space left on device"
  std::string text() const;

 private:
  Code code_;
  std::string message_;
  std::vector<std::string> contexts_;
};

// Found by boost::system::result when value() is called on an error: a bug of the caller.
[[noreturn]] void throw_exception_from_error(const Error& error, const boost::source_location&);

template <class T>
using Result = boost::system::result<T, Error>;

}  // namespace hulse

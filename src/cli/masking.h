// Records as people may see them: what looks like a secret by its name is covered.
#pragma once

#include <boost/json/value.hpp>
#include <string>
#include <string_view>

namespace hulse::cli {

// "password", "dbPassword", "api_key", "Authorization", "card_number" …; letter case and separators
// do not matter.
bool is_sensitive_name(std::string_view name);

// Every value of a member with such a name, at any depth, covered.
boost::json::value masked(const boost::json::value& value);

// JSON with its sensitive members covered, or text (with what follows `name=` and `name:` covered),
// or, when it is no text, its first bytes in hexadecimal. One line: control characters are
// escaped. At most about `bytes_max` of it.
std::string shown_value(std::string_view bytes, size_t bytes_max);

// Without control characters but line ends, which a terminal would obey.
std::string printable(std::string_view text);

}  // namespace hulse::cli

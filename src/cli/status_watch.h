// What `status --watch` shows: a table of the instances of a sink or source, made of the REST's
// status.
#pragma once

#include <boost/json/value.hpp>
#include <string>

namespace hulse::cli {

// One line an instance under a head line, and the last error of each that has one. `title` stands
// first.
std::string status_table(const std::string& title, const boost::json::value& status);

}  // namespace hulse::cli

// multipart/form-data (RFC 7578): the parts of a form that a client posts.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hulse::admin {

struct Part {
  std::string name;
  std::string file_name;  // empty if there is none
  std::string content_type;
  std::string_view body;  // into the form
};

// `content_type` is the request's header, with the boundary; `form` its body, which the parts point
// into. Code::invalid says what is wrong with the form.
Result<std::vector<Part>> parse_multipart(std::string_view content_type, std::string_view form);

}  // namespace hulse::admin

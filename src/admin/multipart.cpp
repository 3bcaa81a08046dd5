#include "admin/multipart.h"

#include "base/text.h"

namespace hulse::admin {
namespace {

constexpr size_t kPartsMax = 100;

// The value of `; name=value` or `; name="value"` in a header, unquoted; empty if there is none.
std::string parameter(std::string_view header, std::string_view name) {
  size_t at = header.find(';');
  while (at < header.size()) {
    ++at;
    while (at < header.size() && (header[at] == ' ' || header[at] == '\t')) ++at;
    const size_t equals = header.find('=', at);
    if (equals == std::string_view::npos) return {};
    const auto key = trim(header.substr(at, equals - at));
    std::string value;
    at = equals + 1;
    if (at < header.size() && header[at] == '"') {
      for (++at; at < header.size() && header[at] != '"'; ++at) {
        // Browsers escape a quote in a file name so; other backslashes are its own.
        if (header[at] == '\\' && at + 1 < header.size() && header[at + 1] == '"') ++at;
        value += header[at];
      }
      at = std::min(header.size(), header.find(';', at));
    } else {
      const size_t end = std::min(header.size(), header.find(';', at));
      value = trim(header.substr(at, end - at));
      at = end;
    }
    if (to_lower(key) == name) return value;
  }
  return {};
}

Result<Part> parse_part(std::string_view text) {
  Part part;
  const Error no_head(Code::invalid, "a part of the form has no end of its headers");
  for (;;) {
    const size_t end = text.find("\r\n");
    if (end == std::string_view::npos) return no_head;
    const auto line = text.substr(0, end);
    text.remove_prefix(end + 2);
    if (line.empty()) break;
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos)
      return Error(Code::invalid, "a part of the form has a header without a colon");
    const auto key = to_lower(trim(line.substr(0, colon)));
    const auto value = trim(line.substr(colon + 1));
    if (key == "content-disposition") {
      part.name = parameter(value, "name");
      part.file_name = parameter(value, "filename");
    } else if (key == "content-type") {
      part.content_type = value;
    }
  }
  if (part.name.empty()) return Error(Code::invalid, "a part of the form has no name");
  part.body = text;
  return part;
}

}  // namespace

Result<std::vector<Part>> parse_multipart(std::string_view content_type, std::string_view form) {
  if (!to_lower(content_type).starts_with("multipart/form-data")) {
    return Error(Code::invalid,
                 fmt::format("multipart/form-data is expected, not \"{}\"", content_type));
  }
  const std::string boundary = parameter(content_type, "boundary");
  if (boundary.empty() || boundary.size() > 70)
    return Error(Code::invalid, "multipart/form-data without a boundary of 1 to 70 characters");
  const std::string first = "--" + boundary;
  const std::string next = "\r\n--" + boundary;
  if (form.starts_with(first)) {
    form.remove_prefix(first.size());
  } else {
    const size_t at = form.find(next);  // after a preamble
    if (at == std::string_view::npos)
      return Error(Code::invalid, "the form does not hold its boundary");
    form.remove_prefix(at + next.size());
  }
  std::vector<Part> parts;
  while (!form.starts_with("--")) {
    if (parts.size() == kPartsMax)
      return Error(Code::invalid, fmt::format("the form has more than {} parts", kPartsMax));
    const size_t line = form.find("\r\n");
    const size_t end = form.find(next, line);
    if (line == std::string_view::npos || end == std::string_view::npos)
      return Error(Code::invalid, "the form ends in the middle of a part");
    // A part may be empty: then its end follows at once.
    if (end < line + 2) return Error(Code::invalid, "a part of the form has no headers");
    auto part = parse_part(form.substr(line + 2, end - line - 2));
    if (!part) return part.error();
    parts.push_back(std::move(*part));
    form.remove_prefix(end + next.size());
  }
  return parts;
}

}  // namespace hulse::admin

#include "aio/rest.h"

#include <algorithm>
#include <boost/json.hpp>
#include <boost/url/parse.hpp>
#include <boost/url/url_view.hpp>

namespace hulse::aio {

namespace json = boost::json;

RestCall::RestCall(const HttpRequest& from) : request(from) {
  const auto parsed = boost::urls::parse_origin_form(request.target);
  if (!parsed) return;
  for (const auto& segment : parsed->segments()) parts.push_back(segment);
  for (const auto& parameter : parsed->params()) query[parameter.key] = parameter.value;
}

bool RestCall::flag(const std::string& name) const {
  const auto known = query.find(name);
  return known != query.end() && known->second == "true";
}

bool RestCall::is(size_t at, std::initializer_list<std::string_view> words) const {
  if (parts.size() != at + words.size()) return false;
  return std::equal(
      words.begin(), words.end(), parts.begin() + static_cast<ptrdiff_t>(at),
      [](std::string_view word, const std::string& part) { return word == "*" || word == part; });
}

Result<json::value> RestCall::body() const {
  if (request.body.empty()) return json::value(nullptr);
  boost::system::error_code error;
  auto value = json::parse(request.body, error);
  if (error) return Error(Code::invalid, "the body is not JSON: " + error.message());
  return value;
}

HttpResponse answer(const json::value& value) {
  return {.status = 200, .body = json::serialize(value), .content_type = "application/json"};
}

HttpResponse refuse(unsigned status, std::string reason) {
  return {.status = status,
          .body = json::serialize(json::object{{"reason", std::move(reason)}}),
          .content_type = "application/json"};
}

HttpResponse no_content() { return {.status = 204}; }

}  // namespace hulse::aio

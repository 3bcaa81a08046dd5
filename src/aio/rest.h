// What every REST over HttpServer needs: a request's path and query taken apart, and answers in
// JSON with Apache Pulsar's shape of an error.
#pragma once

#include <boost/json/value.hpp>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "aio/http_server.h"
#include "base/result.h"

namespace hulse::aio {

// Lives while the request is answered, which outlives it.
struct RestCall {
  explicit RestCall(const HttpRequest& from);

  const HttpRequest& request;
  std::vector<std::string> parts;  // of the path, decoded; none when it cannot be one
  std::map<std::string, std::string> query;

  bool get() const { return request.method == "GET"; }
  bool put() const { return request.method == "PUT"; }
  bool post() const { return request.method == "POST"; }
  bool del() const { return request.method == "DELETE"; }
  bool flag(const std::string& name) const;
  // Whether the path from part `at` on is `words`; "*" stands for any one part.
  bool is(size_t at, std::initializer_list<std::string_view> words) const;
  // The body as JSON; null when it is empty.
  Result<boost::json::value> body() const;
};

HttpResponse answer(const boost::json::value& value);
HttpResponse refuse(unsigned status, std::string reason);  // {"reason": …}
HttpResponse no_content();

}  // namespace hulse::aio

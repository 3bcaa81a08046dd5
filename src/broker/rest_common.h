// What the files of the broker's REST share.
#pragma once

#include <boost/json.hpp>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aio/http_server.h"
#include "broker/broker.h"

namespace hulse::broker {

namespace json = boost::json;

// A request taken apart. Lives while it is answered.
struct Call {
  Broker& broker;
  const aio::HttpRequest& request;
  std::vector<std::string> parts;  // of the path, decoded
  std::map<std::string, std::string> query;
  Result<auth::Identity> identity;  // or why it is not known who asks

  // Whether the path from `offset` on is `words`; "*" stands for any one part.
  bool is(size_t offset, std::initializer_list<std::string_view> words) const;
  bool get() const { return request.method == "GET"; }
  bool put() const { return request.method == "PUT"; }
  bool post() const { return request.method == "POST"; }
  bool del() const { return request.method == "DELETE"; }
  bool flag(const std::string& name) const;
  // The body as JSON; null when it is empty.
  Result<json::value> body() const;
};

using Answer = aio::Task<aio::HttpResponse>;

aio::HttpResponse answer(const json::value& value);
aio::HttpResponse refuse(unsigned status, std::string reason);  // {"reason": …}
aio::HttpResponse no_content();
// 204, or 500 with the words of what failed.
aio::HttpResponse done(const Result<void>& result);

// The refusal of a call that its role may not make; rest_authorization.cpp.
std::optional<aio::HttpResponse> forbid(const Call& call);

// Each answers nothing when the path is not its own.
aio::Task<std::optional<aio::HttpResponse>> handle_namespaces(Call& call);
aio::Task<std::optional<aio::HttpResponse>> handle_topics(Call& call);
aio::Task<std::optional<aio::HttpResponse>> handle_schemas(Call& call);
aio::Task<std::optional<aio::HttpResponse>> handle_storage(Call& call);

}  // namespace hulse::broker

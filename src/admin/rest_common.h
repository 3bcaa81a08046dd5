// What the files of this folder share.
#pragma once

#include <boost/json.hpp>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "admin/rest.h"

namespace hulse::admin {

namespace json = boost::json;

// A request taken apart. Lives while it is answered.
struct Call {
  runtime::Worker& worker;
  const Address& address;
  const aio::HttpRequest& request;
  std::vector<std::string> parts;  // of the path, decoded
  std::map<std::string, std::string> query;

  bool get() const { return request.method == "GET"; }
  bool put() const { return request.method == "PUT"; }
  bool post() const { return request.method == "POST"; }
  bool del() const { return request.method == "DELETE"; }
  bool flag(const std::string& name) const;
  // Whether the path from part `at` on is `words`; "*" stands for any one part.
  bool is(size_t at, std::initializer_list<std::string_view> words) const;
};

using Answer = aio::Task<std::optional<aio::HttpResponse>>;

aio::HttpResponse answer(const json::value& value);
aio::HttpResponse refuse(unsigned status, std::string reason);  // {"reason": …}
aio::HttpResponse refuse(const Error& error);                   // with the status its code means
aio::HttpResponse no_content();

// ConnectorDefinitions of one kind, or of all.
json::array connector_definitions(std::optional<connect::Kind> kind);

// Each answers nothing when the path is not its own.
Answer handle_components(Call& call);  // sources and sinks
Answer handle_functions(Call& call);
Answer handle_worker(Call& call);

}  // namespace hulse::admin

// What the files of this folder share.
#pragma once

#include <boost/json.hpp>
#include <optional>

#include "admin/rest.h"
#include "aio/rest.h"

namespace hulse::admin {

namespace json = boost::json;

using aio::answer;
using aio::no_content;
using aio::refuse;

// A request taken apart, and what it is about. Lives while it is answered.
struct Call : aio::RestCall {
  Call(runtime::Worker& of, const aio::HttpRequest& from) : RestCall(from), worker(of) {}

  runtime::Worker& worker;
};

using Answer = aio::Task<std::optional<aio::HttpResponse>>;

aio::HttpResponse refuse(const Error& error);  // with the status its code means

// ConnectorDefinitions of one kind, or of all.
json::array connector_definitions(std::optional<connect::Kind> kind);

// Each answers nothing when the path is not its own.
Answer handle_components(Call& call);
Answer handle_functions(Call& call);  // what only functions have
Answer handle_worker(Call& call);

}  // namespace hulse::admin

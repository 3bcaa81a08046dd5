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
  Call(runtime::Worker& of, const aio::HttpRequest& from, const Caller& by)
      : RestCall(from), worker(of), caller(by) {}

  runtime::Worker& worker;
  const Caller& caller;
  std::string noted;  // for the audit line: what was changed; nothing secret
};

using Answer = aio::Task<std::optional<aio::HttpResponse>>;

aio::HttpResponse refuse(const Error& error);  // with the status its code means

// ConnectorDefinitions of one kind, or of all.
json::array connector_definitions(std::optional<connect::Kind> kind);

// Refuses a configuration whose topics the caller may not use by themselves.
aio::Task<std::optional<aio::HttpResponse>> forbid_topics(const Call& call, json::object config);

// Each answers nothing when the path is not its own.
Answer handle_components(Call& call);
Answer handle_functions(Call& call);  // what only functions have
Answer handle_worker(Call& call);

}  // namespace hulse::admin

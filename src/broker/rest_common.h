// What the files of the broker's REST share.
#pragma once

#include <boost/json.hpp>
#include <optional>
#include <utility>

#include "aio/rest.h"
#include "broker/broker.h"

namespace hulse::broker {

namespace json = boost::json;

using aio::answer;
using aio::no_content;
using aio::refuse;

// A request taken apart, and who makes it.
struct Call : aio::RestCall {
  Call(Broker& of, const aio::HttpRequest& from, Result<auth::Identity> who)
      : RestCall(from), broker(of), identity(std::move(who)) {}

  Broker& broker;
  Result<auth::Identity> identity;  // or why it is not known who asks
};

using Answer = aio::Task<aio::HttpResponse>;

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

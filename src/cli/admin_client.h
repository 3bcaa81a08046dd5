// How the commands reach the web interface of a server: Pulsar's REST, with the words of
// pulsar-admin for where it is and who asks.
#pragma once

#include <boost/json/value.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "aio/http_client.h"
#include "base/result.h"

namespace CLI {
class App;
}

namespace hulse::cli {

// Flags as given; nothing where there was none.
struct AdminWords {
  std::optional<std::string> url;
  std::optional<std::string> auth_plugin;
  std::optional<std::string> auth_params;
  std::optional<std::string> trust_certs;
  std::optional<bool> allow_insecure;
  std::optional<bool> verify_host;
  std::string conf;
  int request_seconds = 300;
};

// pulsar-admin's flags. They stand before a command or among its own: several apps may share the
// words.
void add_admin_flags(CLI::App& app, AdminWords& words);

// multipart/form-data that is being put together.
class Form {
 public:
  void add_json(std::string_view name, std::string_view text);
  std::string body() const;
  std::string content_type() const;

 private:
  std::string parts_;
};

// One request. An answer that is no success is an error with the server's own reason: Code::invalid
// for a 400, not_found, permission, busy, unavailable for what these mean.
Result<aio::HttpAnswer> call(const AdminWords& words, std::string_view method,
                             const std::string& path, const std::optional<Form>& form = {});

std::string url_encode(std::string_view text);  // of one segment of a path

// With two spaces an indent, as tools of people print JSON.
std::string pretty(const boost::json::value& value);

}  // namespace hulse::cli

// How the commands reach the web interface of a server: Pulsar's REST, with the words of
// pulsar-admin for where it is and who asks.
#pragma once

#include <boost/json/value.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "aio/http_client.h"
#include "base/result.h"
#include "cli/client_settings.h"

namespace hulse::cli {

// multipart/form-data that is being put together.
class Form {
 public:
  void add_json(std::string_view name, std::string_view text);
  void add_text(std::string_view name, std::string_view text);
  void add_file(std::string_view name, std::string_view file_name, std::string_view bytes);
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

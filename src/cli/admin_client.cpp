#include "cli/admin_client.h"

#include <boost/json.hpp>
#include <boost/url/encode.hpp>
#include <boost/url/rfc/pchars.hpp>

#include "aio/run.h"
#include "base/ids.h"

namespace hulse::cli {
namespace {

namespace json = boost::json;

constexpr std::string_view kBoundary = "----hulse-form-7d1c9a5e2b";

std::string reason_of(const aio::HttpAnswer& answer) {
  boost::system::error_code error;
  const auto body = json::parse(answer.body, error);
  if (!error && body.is_object()) {
    const auto* reason = body.get_object().if_contains("reason");
    if (reason != nullptr && reason->is_string()) return std::string(reason->get_string());
  }
  const std::string text = answer.body.substr(0, 300);
  return fmt::format("HTTP {}{}{}", answer.status, text.empty() ? "" : ": ", text);
}

Code code_of(unsigned status) {
  switch (status) {
    case 400: return Code::invalid;
    case 401:
    case 403: return Code::permission;
    case 404: return Code::not_found;
    case 409: return Code::busy;
    case 503: return Code::unavailable;
    default: return Code::internal;
  }
}

aio::Task<Result<aio::HttpAnswer>> send(AdminTarget target, aio::HttpCall request) {
  const auto executor = co_await aio::asio::this_coro::executor;
  aio::HttpClient http(executor, {.tls = target.security.tls});
  auto answer = co_await http.send(std::move(request));
  http.close();
  co_return answer;
}

void print(const json::value& value, size_t depth, std::string& out) {
  const std::string indent(2 * depth + 2, ' ');
  const std::string end(2 * depth, ' ');
  if (value.is_object() && !value.get_object().empty()) {
    out += "{";
    const char* comma = "\n";
    for (const auto& [key, item] : value.get_object()) {
      out += comma + indent + json::serialize(json::value(key)) + ": ";
      print(item, depth + 1, out);
      comma = ",\n";
    }
    out += "\n" + end + "}";
  } else if (value.is_array() && !value.get_array().empty()) {
    out += "[";
    const char* comma = "\n";
    for (const auto& item : value.get_array()) {
      out += comma + indent;
      print(item, depth + 1, out);
      comma = ",\n";
    }
    out += "\n" + end + "]";
  } else if (value.is_double()) {
    out += fmt::format("{}", value.get_double());  // 1.5, not 1.5E0
  } else {
    out += json::serialize(value);
  }
}

}  // namespace

void Form::add_json(std::string_view name, std::string_view text) {
  parts_ += fmt::format(
      "--{}\r\nContent-Disposition: form-data; name=\"{}\"\r\nContent-Type: application/json; "
      "charset=UTF-8\r\n\r\n{}\r\n",
      kBoundary, name, text);
}
void Form::add_text(std::string_view name, std::string_view text) {
  parts_ += fmt::format(
      "--{}\r\nContent-Disposition: form-data; name=\"{}\"\r\nContent-Type: text/plain\r\n\r\n{}"
      "\r\n",
      kBoundary, name, text);
}
void Form::add_file(std::string_view name, std::string_view file_name, std::string_view bytes) {
  parts_ += fmt::format(
      "--{}\r\nContent-Disposition: form-data; name=\"{}\"; filename=\"{}\"\r\nContent-Type: "
      "application/octet-stream\r\n\r\n",
      kBoundary, name, file_name);
  parts_ += bytes;
  parts_ += "\r\n";
}
std::string Form::body() const { return fmt::format("{}--{}--\r\n", parts_, kBoundary); }
std::string Form::content_type() const {
  return fmt::format("multipart/form-data; boundary={}", kBoundary);
}

Result<aio::HttpAnswer> call(const AdminWords& words, std::string_view method,
                             const std::string& path, const std::optional<Form>& form) {
  const auto target = admin_target(words);
  if (!target) return target.error();
  auto headers = target->security.http_headers();
  if (!headers) return headers.error();
  aio::HttpCall request;
  request.method = method;
  request.url = target->url + path;
  request.headers = std::move(*headers);
  request.headers.emplace_back("Accept", "application/json");
  if (form) {
    request.headers.emplace_back("Content-Type", form->content_type());
    request.body = form->body();
  } else if (method != "GET") {
    request.headers.emplace_back("Content-Type", "application/json");
  }
  request.time_max = std::chrono::seconds(words.request_seconds);
  auto answer = aio::run(send(*target, std::move(request)));
  if (!answer) {
    return answer.error().with(fmt::format(
        "no web interface answers at {} (start one with `hulse standalone`, or name another with "
        "--admin-url)",
        target->url));
  }
  if (answer->status / 100 == 2) return answer;
  return Error(code_of(answer->status), reason_of(*answer));
}

std::string url_encode(std::string_view text) {
  return boost::urls::encode(text, boost::urls::pchars);
}

std::string pretty(const json::value& value) {
  std::string out;
  print(value, 0, out);
  return out;
}

}  // namespace hulse::cli

#include <boost/json/parse.hpp>
#include <boost/url/encode.hpp>
#include <boost/url/rfc/unreserved_chars.hpp>

#include "aio/http_client.h"
#include "client/client.h"
#include "client/lookup.h"
#include "wire/topic_name.h"

namespace hulse::client {
namespace {

namespace json = boost::json;

constexpr unsigned kRedirectsMax = 20;

std::string encoded(std::string_view text) {
  return boost::urls::encode(text, boost::urls::unreserved_chars);
}

// "persistent/public/default/t", with the local name encoded.
Result<std::string> path_of(const std::string& topic) {
  const auto name = wire::TopicName::parse(topic);
  if (!name) return name.error();
  return fmt::format("{}/{}/{}", name->domain, name->namespace_text(), encoded(name->local));
}

class HttpLookup : public Lookup {
 public:
  explicit HttpLookup(Client& client)
      : client_(client), http_(client.executor(), http_options(client)) {}

  aio::Task<Result<Place>> find(std::string topic) override {
    const auto path = path_of(topic);
    if (!path) co_return path.error();
    std::string target = "/lookup/v2/topic/" + *path;
    if (!client_.options().listener_name.empty())
      target += "?listenerName=" + encoded(client_.options().listener_name);
    const auto answer = co_await get(std::move(target));
    if (!answer) co_return answer.error();
    const bool tls = client_.service_url().tls;
    const auto* text = answer->is_object()
                           ? answer->get_object().if_contains(tls ? "brokerUrlTls" : "brokerUrl")
                           : nullptr;
    if (text == nullptr || !text->is_string() || text->get_string().empty())
      co_return Error(Code::unavailable, fmt::format("the broker of {} has no address {} TLS",
                                                     topic, tls ? "under" : "without"));
    const auto url = ServiceUrl::parse(std::string(text->get_string()));
    if (!url) co_return url.error();
    co_return Place{url->addresses.front(), ""};
  }

  aio::Task<Result<unsigned>> partitions(std::string topic) override {
    const auto path = path_of(topic);
    if (!path) co_return path.error();
    const auto answer =
        co_await get("/admin/v2/" + *path + "/partitions?checkAllowAutoCreation=true");
    if (!answer) co_return answer.error();
    const auto* count =
        answer->is_object() ? answer->get_object().if_contains("partitions") : nullptr;
    if (count == nullptr || !count->is_int64())
      co_return Error(Code::unavailable, "the answer does not say how many partitions there are");
    co_return static_cast<unsigned>(count->get_int64());
  }

  aio::Task<Result<TopicList>> topics(std::string name_space, std::string) override {
    const auto answer =
        co_await get("/admin/v2/namespaces/" + name_space + "/topics?mode=PERSISTENT");
    if (!answer) co_return answer.error();
    if (!answer->is_array()) co_return Error(Code::unavailable, "the answer is no list of topics");
    TopicList list;
    for (const auto& name : answer->get_array())
      if (name.is_string()) list.names.emplace_back(name.get_string());
    co_return list;
  }

  void close() override { http_.close(); }

 private:
  static aio::HttpClientOptions http_options(Client& client) {
    aio::HttpClientOptions options;
    options.connect_time_max = client.options().connect_timeout;
    options.tls = client.options().security.tls;
    return options;
  }

  // Each address in turn, the last good one first. Redirects are followed here and not by the HTTP
  // client: credentials go along.
  aio::Task<Result<json::value>> get(std::string target) {
    const auto& url = client_.service_url();
    std::optional<Error> last;
    for (size_t tries = 0; tries < url.addresses.size(); ++tries) {
      const auto& address = url.addresses[next_ % url.addresses.size()];
      auto answer =
          co_await get_from((address.tls ? "https://" : "http://") + address.text() + target);
      if (answer || answer.error().cancelled() || !can_pass(answer.error())) co_return answer;
      last = answer.error();
      ++next_;
    }
    co_return *last;
  }

  aio::Task<Result<json::value>> get_from(std::string url) {
    for (unsigned redirects = 0; redirects <= kRedirectsMax; ++redirects) {
      auto headers = client_.options().security.http_headers();
      if (!headers) co_return headers.error();
      aio::HttpCall call;
      call.url = url;
      call.headers = std::move(*headers);
      call.headers.emplace_back("Accept", "application/json");
      call.time_max = client_.options().operation_timeout;
      const auto answer = co_await http_.send(std::move(call));
      if (!answer) co_return answer.error();
      const auto refused = [&](Code code) {
        return Error(code, fmt::format("{} answered {}: {}", aio::without_credentials(url),
                                       answer->status, answer->body.substr(0, 200)));
      };
      if (answer->status / 100 == 3) {
        const std::string_view location = aio::find_header(answer->headers, "Location");
        if (location.empty()) co_return refused(Code::unavailable);
        url = location;
        continue;
      }
      if (answer->status == 401 || answer->status == 403) co_return refused(Code::permission);
      if (answer->status == 404) co_return refused(Code::not_found);
      if (answer->status / 100 == 4) co_return refused(Code::invalid);
      if (answer->status != 200) co_return refused(Code::unavailable);
      boost::system::error_code error;
      auto parsed = json::parse(answer->body, error);
      if (error) co_return refused(Code::unavailable);
      co_return parsed;
    }
    co_return Error(Code::unavailable, fmt::format("more than {} redirects", kRedirectsMax));
  }

  Client& client_;
  aio::HttpClient http_;
  size_t next_ = 0;
};

}  // namespace

std::unique_ptr<Lookup> make_http_lookup(Client& client) {
  return std::make_unique<HttpLookup>(client);
}

}  // namespace hulse::client

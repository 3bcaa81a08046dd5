#include "connectors/elastic_search/target.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <boost/json/parse.hpp>
#include <charconv>

#include "base/log.h"

namespace hulse::connectors::elastic_search {

using aio::Task;

namespace {

// Of an answer only what is read: it is a small part of it.
constexpr std::string_view kBulkPath = "/_bulk?filter_path=errors,items.*.status,items.*.error";
constexpr aio::Duration kPauseMax = std::chrono::seconds(60);

std::string base64(std::string_view text) {
  std::string out((text.size() + 2) / 3 * 4 + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()),
                                   static_cast<int>(text.size()));
  out.resize(static_cast<size_t>(size));
  return out;
}

std::string percent_encoded(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    if (plain) {
      out += c;
    } else {
      fmt::format_to(std::back_inserter(out), "%{:02X}", static_cast<uint8_t>(c));
    }
  }
  return out;
}

aio::HttpClientOptions client_options(const ElasticConfig& config, size_t requests_max) {
  aio::HttpClientOptions options;
  options.connections_max = requests_max + 1;
  options.connect_time_max = config.connect_time;
  options.idle_time_max = config.idle_time;
  options.tls.verify_certificate = !config.tls_trust_all;
  options.tls.verify_host = config.tls_verify_host && !config.tls_trust_all;
  options.tls.ca_file = config.tls_truststore;
  options.tls.cert_file = config.tls_keystore;
  options.tls.key_password = config.tls_keystore_password;
  options.tls.ciphers = fmt::format("{}", fmt::join(config.tls_ciphers, ":"));
  const auto& protocols = config.tls_protocols;
  const bool older = std::find(protocols.begin(), protocols.end(), "TLSv1.2") != protocols.end();
  options.tls.version_min = older || protocols.empty() ? "1.2" : "1.3";
  return options;
}

}  // namespace

Target::Target(aio::Executor executor, const ElasticConfig& config, size_t requests_max)
    : urls_(config.urls),
      time_max_(config.socket_time),
      gzip_(config.compression),
      index_settings_(
          fmt::format(R"({{"settings":{{"number_of_shards":{},"number_of_replicas":{}}}}})",
                      config.shards, config.replicas)),
      client_(executor, client_options(config, requests_max)) {
  for (auto& url : urls_) {
    while (url.ends_with('/')) url.pop_back();
  }
  if (!config.username.empty()) {
    const auto pair = config.username + ":" + config.password.reveal();
    headers_.emplace_back("Authorization", "Basic " + base64(pair));
  } else if (!config.token.empty()) {
    headers_.emplace_back("Authorization", "Bearer " + config.token.reveal());
  } else if (!config.api_key.empty()) {
    headers_.emplace_back("Authorization", "ApiKey " + config.api_key.reveal());
  }
}

std::string Target::shown_url() const { return aio::without_credentials(url()); }

Task<Result<void>> Target::reach() {
  Error last(Code::unavailable, "no URL");
  for (size_t i = 0; i < urls_.size(); ++i) {
    auto answer = co_await call("GET", "/", {});
    if (!answer) {
      if (answer.error().cancelled()) co_return std::move(answer).error();
      last = std::move(answer).error();
      continue;  // call() went on to the next URL
    }
    if (answer->status == 401) {
      co_return Error(Code::permission,
                      fmt::format("{} answers 401: {}", shown_url(), words_of(answer->body)));
    }
    if (answer->status >= 500 || answer->status == 429) {
      last = Error(Code::unavailable, fmt::format("{} answers {}: {}", shown_url(), answer->status,
                                                  words_of(answer->body)));
      next_url();
      continue;
    }
    greet(*answer);
    co_return Result<void>();
  }
  co_return last;
}

void Target::greet(const aio::HttpAnswer& answer) const {
  boost::system::error_code error;
  const auto parsed = boost::json::parse(answer.body, error);
  const auto* object = error ? nullptr : parsed.if_object();
  const auto* version = object == nullptr ? nullptr : object->if_contains("version");
  const auto* fields = version == nullptr ? nullptr : version->if_object();
  const auto* number = fields == nullptr ? nullptr : fields->if_contains("number");
  if (answer.status == 200 && number != nullptr && number->is_string()) {
    log::info("elastic_search", "{} is there, version {}", shown_url(),
              std::string_view(number->get_string()));
  } else {
    // A user who may write need not be allowed to ask for the version.
    log::info("elastic_search", "{} answers {} to the question for its version", shown_url(),
              answer.status);
  }
}

Task<Result<aio::HttpAnswer>> Target::bulk(std::string body) {
  const bool waited = co_await aio::sleep_until(pause_until_);
  if (!waited) co_return Error(Code::cancelled, "stopped");
  auto answer = co_await call("POST", std::string(kBulkPath), std::move(body));
  if (answer && (answer->status == 429 || answer->status >= 500)) hold_back(*answer);
  co_return answer;
}

Task<Judgement> Target::make_index(std::string name) {
  const std::string path = "/" + percent_encoded(name);
  auto answer = co_await call("HEAD", path, {});
  if (answer && answer->status == 404) answer = co_await call("PUT", path, index_settings_);
  Judgement judgement;
  if (!answer) {
    judgement = {Meaning::retry, answer.error().text()};
  } else if (answer->status >= 300 &&
             answer->body.find("resource_already_exists_exception") == std::string::npos) {
    judgement = judge_request(answer->status, answer->body);
    // Nothing about the documents: the index cannot be made as it is wanted.
    if (judgement.meaning == Meaning::malformed) judgement.meaning = Meaning::fatal;
  }
  if (judgement.meaning != Meaning::ok) {
    judgement.words = "making the index " + name + ": " + judgement.words;
  }
  co_return judgement;
}

Task<Result<aio::HttpAnswer>> Target::call(std::string method, std::string path, std::string body) {
  aio::HttpCall request;
  request.method = std::move(method);
  const size_t asked = active_;
  request.url = url() + path;
  request.headers = headers_;
  request.time_max = time_max_;
  request.gzip = gzip_;
  if (!body.empty()) request.headers.emplace_back("Content-Type", "application/json");
  request.body = std::move(body);
  auto answer = co_await client_.send(std::move(request));
  if (!answer) {
    const auto code = answer.error().code();
    const bool away = code == Code::unavailable || code == Code::timeout;
    // Two requests may fail at the same URL; one of them moves on.
    if (away && asked == active_) next_url();
  }
  co_return answer;
}

// The target's own wish, where it has one.
void Target::hold_back(const aio::HttpAnswer& answer) {
  const auto text = aio::find_header(answer.headers, "Retry-After");
  int seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || seconds <= 0) return;
  pause_until_ =
      aio::Clock::now() + std::min<aio::Duration>(std::chrono::seconds(seconds), kPauseMax);
}

}  // namespace hulse::connectors::elastic_search

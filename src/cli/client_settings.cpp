#include "cli/client_settings.h"

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <map>

#include "aio/small_file.h"
#include "base/text.h"
#include "cli/command_line.h"

namespace hulse::cli {
namespace {

using Settings = std::map<std::string, std::string>;

// A properties file: key=value lines; # and ! begin comments.
Result<Settings> read_conf(const std::string& path) {
  const auto text = aio::read_small_file(path);
  if (!text) return text.error().with("client.conf");
  Settings settings;
  for (const auto part : split(*text, '\n')) {
    const auto line = trim(part);
    if (line.empty() || line.front() == '#' || line.front() == '!') continue;
    const size_t at = line.find_first_of("=:");
    if (at == std::string_view::npos) continue;
    settings[std::string(trim(line.substr(0, at)))] = trim(line.substr(at + 1));
  }
  return settings;
}

Result<bool> parse_bool(const std::string& name, const std::string& text) {
  const std::string lower = to_lower(text);
  if (lower == "true") return true;
  if (lower == "false") return false;
  return Error(Code::invalid, fmt::format("{}: \"{}\" is neither true nor false", name, text));
}

void add_login_flags(CLI::App& app, LoginWords& words) {
  app.add_option("--auth-plugin", words.auth_plugin,
                 "How to log in: token, basic, tls, or Pulsar's class name of these");
  app.add_option("--auth-params", words.auth_params,
                 "With what: token:…, file:///…, env:NAME; JSON; tlsCertFile:…,tlsKeyFile:…");
  app.add_option("--tls-trust-cert-path,--tlsTrustCertsFilePath", words.trust_certs,
                 "Certificates to trust (PEM); without it the system's");
  app.add_flag("--tls-allow-insecure", words.allow_insecure, "Trust any certificate");
  app.add_option("--tls-enable-hostname-verification", words.verify_host,
                 "Whether the certificate must be of the host that was called; on by default")
      ->expected(0, 1)
      ->default_str("true");
  app.add_option("--client-conf", words.conf,
                 "Pulsar's client.conf; without it the one PULSAR_CLIENT_CONF names");
}

// Flags over the file they name, or the one the environment names.
class Chooser {
 public:
  static Result<Chooser> make(std::string path) {
    const char* from_environment = std::getenv("PULSAR_CLIENT_CONF");
    if (path.empty() && from_environment != nullptr) path = from_environment;
    Chooser out;
    if (path.empty()) return out;
    auto read = read_conf(path);
    if (!read) return read.error();
    out.settings_ = std::move(*read);
    return out;
  }

  std::string text(const std::optional<std::string>& flag, const char* key) const {
    if (flag) return *flag;
    const auto known = settings_.find(key);
    return known == settings_.end() ? std::string() : known->second;
  }
  Result<bool> boolean(const std::optional<bool>& flag, const char* key, bool otherwise) const {
    if (flag) return *flag;
    const auto given = text(std::nullopt, key);
    return given.empty() ? Result<bool>(otherwise) : parse_bool(key, given);
  }

  Result<client::Security> security(const LoginWords& words) const {
    client::Security out;
    out.tls.ca_file = text(words.trust_certs, "tlsTrustCertsFilePath");
    out.tls.cert_file = text(std::nullopt, "tlsCertificateFilePath");
    out.tls.key_file = text(std::nullopt, "tlsKeyFilePath");
    const auto insecure = boolean(words.allow_insecure, "tlsAllowInsecureConnection", false);
    if (!insecure) return insecure.error();
    const auto verify = boolean(words.verify_host, "tlsEnableHostnameVerification", true);
    if (!verify) return verify.error();
    out.tls.verify_certificate = !*insecure;
    out.tls.verify_host = *verify && !*insecure;
    const auto set = out.set_plugin(text(words.auth_plugin, "authPlugin"),
                                    text(words.auth_params, "authParams"));
    if (!set) return set.error();
    return out;
  }

 private:
  Settings settings_;
};

}  // namespace

void add_client_flags(CLI::App& app, ClientWords& words) {
  app.add_option("--url", words.url,
                 "Where the broker is: pulsar://, pulsar+ssl://, http:// or https://");
  add_login_flags(app, words);
  app.add_option("--listener-name", words.listener, "Which advertised listener to use");
}

void add_admin_flags(CLI::App& app, AdminWords& words) {
  app.add_option("--admin-url", words.url,
                 "Where the web interface is (default http://localhost:8080)");
  add_login_flags(app, words);
  app.add_option("--request-timeout", words.request_seconds, "Seconds an answer may take")
      ->check(CLI::Range(1, 86400));
}

std::shared_ptr<AdminWords> add_admin_words(CLI::App& app) {
  auto words = std::make_shared<AdminWords>();
  add_admin_flags(app, *words);
  return words;
}

void add_local_run_flags(CLI::App& app, ClientWords& words) {
  app.add_option("--broker-service-url,--brokerServiceUrl", words.url, "Where the broker is");
  app.add_option("--client-auth-plugin,--clientAuthPlugin", words.auth_plugin,
                 "How to log in: token, basic, tls, or Pulsar's class name of these");
  app.add_option("--client-auth-params,--clientAuthParams", words.auth_params, "With what");
  app.add_flag("--use-tls,--use_tls", words.use_tls, "pulsar:// means pulsar+ssl://");
  app.add_flag("--tls-allow-insecure,--tls_allow_insecure", words.allow_insecure,
               "Trust any certificate");
  app.add_option("--hostname-verification-enabled,--hostname_verification_enabled",
                 words.verify_host,
                 "Whether the certificate must be of the host that was called; on by default")
      ->expected(0, 1)
      ->default_str("true");
  app.add_option("--tls-trust-cert-path,--tls_trust_cert_path", words.trust_certs,
                 "Certificates to trust (PEM); without it the system's");
}

Result<client::Options> client_options(const ClientWords& words) {
  const auto chooser = Chooser::make(words.conf);
  if (!chooser) return chooser.error();
  client::Options options;
  const std::string url = chooser->text(words.url, "brokerServiceUrl");
  if (!url.empty()) options.service_url = url;
  if (words.use_tls && options.service_url.starts_with("pulsar://"))
    options.service_url.replace(0, std::string_view("pulsar").size(), "pulsar+ssl");
  options.listener_name = words.listener.value_or("");
  auto security = chooser->security(words);
  if (!security) return security.error();
  options.security = std::move(*security);
  return options;
}

Result<AdminTarget> admin_target(const AdminWords& words) {
  const auto chooser = Chooser::make(words.conf);
  if (!chooser) return chooser.error();
  AdminTarget target;
  target.url = chooser->text(words.url, "webServiceUrl");
  if (target.url.empty()) target.url = "http://localhost:8080";
  if (!target.url.starts_with("http://") && !target.url.starts_with("https://")) {
    return Error(Code::invalid,
                 fmt::format("--admin-url {}: http:// or https:// is expected", target.url));
  }
  while (target.url.ends_with('/')) target.url.pop_back();
  auto security = chooser->security(words);
  if (!security) return security.error();
  target.security = std::move(*security);
  return target;
}

}  // namespace hulse::cli

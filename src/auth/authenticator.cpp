#include "auth/authenticator.h"

#include <openssl/crypto.h>

#include "base/base64.h"
#include "base/text.h"

namespace hulse::auth {
namespace {

// "org.apache.pulsar.broker.authentication.AuthenticationProviderToken" is "token".
std::string short_name(std::string_view provider) {
  constexpr std::string_view kClass = "AuthenticationProvider";
  const size_t at = provider.rfind(kClass);
  if (at != std::string_view::npos) provider.remove_prefix(at + kClass.size());
  return to_lower(provider);
}

}  // namespace

bool Authenticator::has(std::string_view provider) const {
  return std::find(options_.providers.begin(), options_.providers.end(), provider) !=
         options_.providers.end();
}

Result<Authenticator> Authenticator::load(Options options) {
  Authenticator out;
  out.options_ = std::move(options);
  auto& given = out.options_;
  if (!given.enabled) return out;
  std::vector<std::string> problems;
  for (auto& provider : given.providers) {
    const std::string name = short_name(provider);
    if (name != "token" && name != "tls" && name != "basic") {
      problems.push_back(fmt::format(
          "authenticationProviders: \"{}\" is not known; there are token, tls and basic",
          provider));
    }
    provider = name;
  }
  if (given.providers.empty()) {
    given.providers.push_back("tls");
    if (!given.token.secret_key.empty() || !given.token.public_key.empty())
      given.providers.push_back("token");
    if (!given.password_file.empty()) given.providers.push_back("basic");
  }
  if (out.has("token")) {
    auto tokens = TokenVerifier::load(given.token);
    if (tokens) {
      out.tokens_ = std::move(*tokens);
    } else {
      problems.push_back(tokens.error().text());
    }
  }
  if (out.has("basic")) {
    auto passwords = given.password_file.empty()
                         ? Error(Code::invalid, "basic authentication needs a password file")
                         : PasswordFile::load(given.password_file);
    if (passwords) {
      out.passwords_ = std::move(*passwords);
    } else {
      problems.push_back("basicAuthConf: " + passwords.error().text());
    }
  }
  if (!problems.empty()) return Error(Code::invalid, fmt::format("{}", fmt::join(problems, "; ")));
  return out;
}

Result<Identity> Authenticator::check(const Credentials& credentials, int64_t now_ms) const {
  if (!options_.enabled) return Identity{};
  if (credentials.method == kOwnMethod) {
    const auto& shown = credentials.data.reveal();
    const auto& own = options_.own_secret.reveal();
    if (!own.empty() && shown.size() == own.size() &&
        CRYPTO_memcmp(shown.data(), own.data(), own.size()) == 0) {
      return Identity{options_.own_role, 0};
    }
    return Error(Code::permission, "that is not a part of this process");
  }
  if (credentials.method == "token" && tokens_) {
    auto verified = tokens_->verify(credentials.data.reveal(), now_ms);
    if (!verified) return verified.error();
    return Identity{std::move(verified->role), verified->expires_ms};
  }
  if (credentials.method == "basic" && passwords_) {
    const std::string& text = credentials.data.reveal();
    const size_t colon = text.find(':');
    const std::string user = text.substr(0, colon);
    if (colon == std::string::npos || !passwords_->matches(user, Secret(text.substr(colon + 1)))) {
      return Error(Code::permission, "unknown user or wrong password");
    }
    return Identity{user, 0};
  }
  if (!credentials.certificate_name.empty() && has("tls")) {
    return Identity{credentials.certificate_name, 0};
  }
  if (credentials.method == "tls" && has("tls")) {
    return Error(Code::permission, "no trusted client certificate came over TLS");
  }
  if (!options_.anonymous_role.empty()) return Identity{options_.anonymous_role, 0};
  if (credentials.method.empty() || credentials.method == "none") {
    return Error(Code::permission,
                 fmt::format("this broker wants to know who you are: authenticate by {}",
                             fmt::join(options_.providers, ", ")));
  }
  return Error(Code::permission,
               fmt::format("authentication method {} is not accepted here; {} are",
                           json_quote(credentials.method), fmt::join(options_.providers, ", ")));
}

Result<Credentials> Authenticator::from_http(std::string_view authorization,
                                             std::string certificate_name) {
  Credentials out;
  out.certificate_name = std::move(certificate_name);
  if (authorization.empty()) return out;
  const size_t space = authorization.find(' ');
  const std::string scheme = short_name(authorization.substr(0, space));
  const std::string_view rest =
      space == std::string_view::npos ? std::string_view() : authorization.substr(space + 1);
  if (scheme == "bearer") {
    out.method = "token";
    out.data = Secret(std::string(rest));
  } else if (scheme == "basic") {
    const auto decoded = base64_decode(rest);
    if (!decoded) return Error(Code::permission, "the Authorization header is not Base64");
    out.method = "basic";
    out.data = Secret(*decoded);
  } else {
    return Error(Code::permission, "the Authorization header is neither Bearer nor Basic");
  }
  return out;
}

}  // namespace hulse::auth

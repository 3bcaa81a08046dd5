// hulse tokens …: keys and JSON Web Tokens of token authentication, as Pulsar's `pulsar tokens`.
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>

#include "aio/clock.h"
#include "auth/token.h"
#include "base/base64.h"
#include "cli/command_line.h"

namespace hulse::cli {
namespace {

struct Words {
  std::string output;
  bool base64 = false;
  std::string private_output;
  std::string public_output;
  std::string algorithm;
  std::string secret_key;
  std::string private_key;
  std::string public_key;
  std::string subject;
  std::string expiry;
  std::string token;
};

// "30s", "5m", "3h", "1d", "2w", "1y" as Pulsar's tool takes them; a bare number is seconds.
Result<int64_t> to_ms(const std::string& text) {
  int64_t number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string unit(end, text.data() + text.size());
  const std::map<std::string, int64_t> seconds{
      {"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86'400}, {"w", 604'800}, {"y", 31'536'000}};
  const auto known = seconds.find(unit);
  if (failed != std::errc() || known == seconds.end() || number <= 0) {
    return Error(
        Code::invalid,
        fmt::format("--expiry-time \"{}\" is no duration; 30s, 5m, 3h, 1d, 2w and 1y are", text));
  }
  return number * known->second * 1000;
}

// A key is for its owner alone.
Result<void> write_key(const std::string& path, const std::string& bytes) {
  if (std::filesystem::exists(path)) {
    return Error(Code::busy,
                 path +
                     " is there already; with another key every token that was made with it is "
                     "refused. Move it away if that is what you want");
  }
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  if (file.is_open()) ::chmod(path.c_str(), S_IRUSR | S_IWUSR);
  file << bytes;
  file.close();
  if (!file) return Error(Code::io, "cannot write " + path);
  return {};
}

Result<void> create_secret(const Words& words) {
  const Secret key = auth::create_secret_key();
  const std::string text = words.base64 ? base64_encode(key.reveal()) : key.reveal();
  if (words.output.empty()) {
    std::cout << base64_encode(key.reveal()) << '\n';
    return {};
  }
  return write_key(words.output, text);
}

Result<void> create_pair(const Words& words) {
  // The words are shared by the commands, so this one's default is no default value of the option.
  const bool elliptic = words.algorithm.starts_with("ES");
  if (!elliptic && !words.algorithm.empty() && !words.algorithm.starts_with("RS")) {
    return Error(Code::invalid, "--signature-algorithm: RS256 and ES256 have key pairs");
  }
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      elliptic ? EVP_EC_gen("P-256") : EVP_RSA_gen(2048), EVP_PKEY_free);
  if (!key) return Error(Code::internal, "OpenSSL cannot make a key");
  const auto der = [&](auto encode) {
    unsigned char* bytes = nullptr;
    const int size = encode(key.get(), &bytes);
    std::string out(reinterpret_cast<char*>(bytes), static_cast<size_t>(std::max(0, size)));
    OPENSSL_free(bytes);
    return out;
  };
  const auto written = write_key(words.private_output, der(i2d_PrivateKey));
  if (!written) return written;
  return write_key(words.public_output, der(i2d_PUBKEY));
}

Result<void> create(const Words& words) {
  if (words.secret_key.empty() == words.private_key.empty())
    return Error(Code::invalid, "one of --secret-key and --private-key is needed");
  const bool shared = !words.secret_key.empty();
  const auto key = auth::read_key(shared ? words.secret_key : words.private_key);
  if (!key) return key.error();
  int64_t expires = 0;
  if (!words.expiry.empty()) {
    const auto ms = to_ms(words.expiry);
    if (!ms) return ms.error();
    expires = aio::wall_ms() + *ms;
  }
  const std::string algorithm = !words.algorithm.empty() ? words.algorithm
                                : shared                 ? "HS256"
                                                         : "RS256";
  const auto token = auth::create_token(words.subject, algorithm, *key, expires);
  if (!token) return token.error();
  std::cout << *token << '\n';
  return {};
}

Result<void> validate(const Words& words) {
  auth::TokenOptions options;
  options.secret_key = words.secret_key;
  options.public_key = words.public_key;
  if (!words.algorithm.empty()) options.public_algorithm = words.algorithm;
  const auto tokens = auth::TokenVerifier::load(options);
  if (!tokens) return tokens.error();
  const auto identity = tokens->verify(words.token, aio::wall_ms());
  if (!identity) return identity.error();
  std::cout << fmt::format(
      "valid: role {}{}\n", identity->role,
      identity->expires_ms == 0
          ? ", never expires"
          : fmt::format(", expires in {} s", (identity->expires_ms - aio::wall_ms()) / 1000));
  return {};
}

}  // namespace

void add_token_commands(CLI::App& app, Action& action) {
  auto* tokens = app.add_subcommand("tokens", "Keys and tokens of token authentication");
  tokens->require_subcommand(1);
  const auto words = std::make_shared<Words>();
  const auto on = [&action, words](CLI::App* command, Result<void> (*run)(const Words&)) {
    command->callback([&action, words, run] { action = [words, run] { return run(*words); }; });
  };

  auto* secret = tokens->add_subcommand("create-secret-key", "Make a shared key for HS256");
  secret->add_option("-o,--output", words->output,
                     "File to write; standard output (Base64) if not");
  secret->add_flag("-b,--base64", words->base64, "Write the file in Base64");
  on(secret, create_secret);

  auto* pair = tokens->add_subcommand("create-key-pair", "Make a private and a public key");
  pair->add_option("--output-private-key", words->private_output, "File")->required();
  pair->add_option("--output-public-key", words->public_output, "File")->required();
  pair->add_option("-a,--signature-algorithm", words->algorithm, "RS256 (default) or ES256");
  on(pair, create_pair);

  auto* make = tokens->add_subcommand("create", "Sign a token for a role");
  make->add_option("-s,--subject", words->subject, "The role")->required();
  make->add_option("--sk,--secret-key", words->secret_key, "Shared key: file:///path, or Base64");
  make->add_option("--pk,--private-key", words->private_key, "Private key: file:///path");
  make->add_option("-e,--expiry-time", words->expiry, "How long it is valid: 30s, 5m, 3h, 1d, 1y");
  make->add_option("-a,--signature-algorithm", words->algorithm, "HS256, RS256, ES256, …");
  on(make, create);

  auto* check = tokens->add_subcommand("validate", "Check a token against a key");
  check->add_option("token", words->token, "The token")->required();
  check->add_option("--sk,--secret-key", words->secret_key, "Shared key: file:///path, or Base64");
  check->add_option("--pk,--public-key", words->public_key, "Public key: file:///path");
  check->add_option("-a,--signature-algorithm", words->algorithm, "Of the public key");
  on(check, validate);
}

}  // namespace hulse::cli

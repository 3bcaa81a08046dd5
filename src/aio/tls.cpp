#include "aio/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <boost/asio/ssl/context.hpp>

#include "aio/offload.h"
#include "base/log.h"

namespace hulse::aio {
namespace {

namespace ssl = boost::asio::ssl;
using ErrorCode = boost::system::error_code;

constexpr Duration kLookAgain = std::chrono::seconds(1);

Error failed(std::string_view what, const std::string& file, const ErrorCode& error) {
  return Error(Code::invalid, fmt::format("{} {}: {}", what, file, error.message()));
}

TlsContext bare(ssl::context::method method) {
  auto context = std::make_shared<ssl::context>(method);
  context->set_options(ssl::context::default_workarounds | ssl::context::no_sslv2 |
                       ssl::context::no_sslv3 | ssl::context::no_tlsv1 | ssl::context::no_tlsv1_1 |
                       ssl::context::single_dh_use);
  return context;
}

Result<void> use_pair(ssl::context& context, const std::string& cert_file,
                      const std::string& key_file) {
  ErrorCode error;
  context.use_certificate_chain_file(cert_file, error);
  if (error) return failed("the certificate", cert_file, error);
  const std::string& key = key_file.empty() ? cert_file : key_file;
  context.use_private_key_file(key, ssl::context::pem, error);
  if (error) return failed("the private key", key, error);
  if (SSL_CTX_check_private_key(context.native_handle()) != 1) {
    return Error(Code::invalid, fmt::format("the private key {} does not belong to the "
                                            "certificate {}",
                                            key, cert_file));
  }
  return {};
}

Result<TlsContext> server_context(const TlsServerOptions& options) {
  auto context = bare(ssl::context::tls_server);
  const auto pair = use_pair(*context, options.cert_file, options.key_file);
  if (!pair) return pair.error();
  // Without an id of its own OpenSSL refuses to resume sessions of clients with certificates.
  SSL_CTX_set_session_id_context(context->native_handle(),
                                 reinterpret_cast<const unsigned char*>("hulse"), 5);
  if (options.trust_file.empty() && !options.accept_any_client_certificate) return context;
  ErrorCode error;
  if (!options.trust_file.empty()) context->load_verify_file(options.trust_file, error);
  if (error) return failed("the trusted certificates", options.trust_file, error);
  auto mode = ssl::verify_peer;
  if (options.client_certificate_required) mode |= ssl::verify_fail_if_no_peer_cert;
  context->set_verify_mode(mode, error);
  if (!error && options.accept_any_client_certificate) {
    context->set_verify_callback([](bool, ssl::verify_context&) { return true; }, error);
  }
  if (error) return Error(Code::internal, error.message());
  return context;
}

}  // namespace

Result<TlsContext> client_context(const TlsOptions& options) {
  auto context = bare(ssl::context::tls_client);
  ErrorCode error;
  if (options.version_min == "1.3") {
    SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_3_VERSION);
  }
  if (!options.ciphers.empty() &&
      SSL_CTX_set_cipher_list(context->native_handle(), options.ciphers.c_str()) != 1) {
    return Error(Code::invalid, "OpenSSL knows none of the ciphers " + options.ciphers);
  }
  if (options.ca_file.empty()) {
    context->set_default_verify_paths(error);
  } else {
    context->load_verify_file(options.ca_file, error);
  }
  if (error) return failed("the trusted certificates", options.ca_file, error);
  context->set_verify_mode(options.verify_certificate ? ssl::verify_peer : ssl::verify_none, error);
  if (error) return Error(Code::internal, error.message());
  if (!options.cert_file.empty()) {
    const std::string password = options.key_password.reveal();
    context->set_password_callback(
        [password](size_t, ssl::context::password_purpose) { return password; }, error);
    const auto pair = use_pair(*context, options.cert_file, options.key_file);
    if (!pair) return pair.error();
  }
  return context;
}

Result<TlsServer> TlsServer::load(TlsServerOptions options, Executor disk) {
  TlsServer server(std::move(options), std::move(disk));
  server.stamps_ = stamps(server.options_);
  auto context = server_context(server.options_);
  if (!context) return context.error();
  server.context_ = std::move(*context);
  server.looked_ = Clock::now();
  return server;
}

TlsServer::Stamps TlsServer::stamps(const TlsServerOptions& options) {
  Stamps out{};
  size_t at = 0;
  for (const auto* file : {&options.cert_file, &options.key_file, &options.trust_file}) {
    std::error_code ignored;  // a missing file keeps what it was loaded as
    if (!file->empty()) out[at] = std::filesystem::last_write_time(*file, ignored);
    ++at;
  }
  return out;
}

Task<TlsContext> TlsServer::context() {
  const auto now = Clock::now();
  if (now - looked_ < kLookAgain) co_return context_;
  looked_ = now;
  struct Found {
    Stamps stamps;
    std::optional<Result<TlsContext>> fresh;  // nothing: the files are the same
  };
  const auto found = co_await offload(disk_, [options = options_, known = stamps_] {
    Found out{stamps(options), std::nullopt};
    if (out.stamps != known) out.fresh = server_context(options);
    return out;
  });
  if (!found.fresh) co_return context_;
  if (*found.fresh) {
    stamps_ = found.stamps;
    context_ = **found.fresh;
    log::info("tls", "{} was read again", options_.cert_file);
  } else {
    log::error("tls", "the new certificate is not used: {}", found.fresh->error().text());
  }
  co_return context_;
}

}  // namespace hulse::aio

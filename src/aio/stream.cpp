#include "aio/stream.h"

#include <openssl/x509.h>

#include <boost/asio/ip/address.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>

namespace hulse::aio {
namespace {

Error handshake_error(const boost::system::error_code& error, SSL* ssl) {
  if (error == asio::error::operation_aborted) return to_error(error);
  const long verified = SSL_get_verify_result(ssl);
  if (verified != X509_V_OK) {
    return Error(Code::permission,
                 fmt::format("TLS handshake: the other side's certificate is not accepted: {}",
                             X509_verify_cert_error_string(verified)));
  }
  const bool refused = error.category() == asio::error::get_ssl_category();
  return Error(refused ? Code::permission : Code::unavailable, "TLS handshake: " + error.message());
}

}  // namespace

Task<Result<void>> Stream::accept_tls(TlsContext context) {
  context_ = std::move(context);
  tls_.emplace(socket_, *context_);
  const auto [error] = co_await tls_->async_handshake(asio::ssl::stream_base::server, as_values);
  if (error) co_return handshake_error(error, tls_->native_handle());
  co_return Result<void>();
}

Task<Result<void>> Stream::connect_tls(TlsContext context, std::string host, bool verify_host) {
  context_ = std::move(context);
  tls_.emplace(socket_, *context_);
  boost::system::error_code is_name;
  asio::ip::make_address(host, is_name);
  // SNI carries names only (RFC 6066, section 3).
  if (is_name) SSL_set_tlsext_host_name(tls_->native_handle(), host.c_str());
  if (verify_host && SSL_get_verify_mode(tls_->native_handle()) != SSL_VERIFY_NONE) {
    boost::system::error_code error;
    tls_->set_verify_callback(asio::ssl::host_name_verification(host), error);
    if (error) co_return to_error(error);
  }
  const auto [error] = co_await tls_->async_handshake(asio::ssl::stream_base::client, as_values);
  if (error) co_return handshake_error(error, tls_->native_handle()).with("connecting to " + host);
  co_return Result<void>();
}

std::string Stream::peer_common_name() {
  return tls_ ? common_name_of_peer(tls_->native_handle()) : std::string();
}

void Stream::close() {
  boost::system::error_code ignored;
  socket_.close(ignored);
}

std::string common_name_of_peer(SSL* ssl) {
  if (SSL_get_verify_result(ssl) != X509_V_OK) return {};
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(SSL_get1_peer_certificate(ssl),
                                                                X509_free);
  if (!certificate) return {};
  X509_NAME* subject = X509_get_subject_name(certificate.get());
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at < 0) return {};
  unsigned char* text = nullptr;
  const int size =
      ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
  if (size < 0) return {};
  std::string name(reinterpret_cast<const char*>(text), static_cast<size_t>(size));
  OPENSSL_free(text);
  // A name with a zero byte in it is an attempt to look like another one.
  return name.find('\0') == std::string::npos ? name : std::string();
}

}  // namespace hulse::aio

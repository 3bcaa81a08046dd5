#include "aio/http_client.h"

#include <curl/curl.h>
#include <fmt/format.h>
#include <zlib.h>

#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <list>
#include <map>
#include <mutex>

#include "aio/event.h"
#include "base/assert.h"
#include "base/text.h"

namespace hulse::aio {
namespace {

// A large answer comes in few pieces, a large body goes out in few.
constexpr long kReceiveBytes = 256 * 1024;
constexpr long kUploadBytes = 512 * 1024;

void start_curl_once() {
  static std::once_flag once;
  std::call_once(once, [] { HULSE_ASSERT(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK); });
}

long milliseconds(Duration duration) {
  return static_cast<long>(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

Code code_of(CURLcode result) {
  switch (result) {
    case CURLE_OPERATION_TIMEDOUT: return Code::timeout;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE: return Code::invalid;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_ISSUER_ERROR: return Code::permission;
    case CURLE_WRITE_ERROR: return Code::too_large;
    default: return Code::unavailable;
  }
}

Result<std::string> gzipped(const std::string& text) {
  z_stream stream{};
  constexpr int kGzip = 15 + 16;  // the largest window, with gzip's head and tail
  // Speed counts more than the last percent on the way to a server nearby.
  if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, kGzip, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    return Error(Code::internal, "zlib could not be started");
  }
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int done = deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  if (done != Z_STREAM_END) return Error(Code::internal, "zlib could not compress the body");
  return out;
}

bool is_pkcs12(std::string_view file) { return file.ends_with(".p12") || file.ends_with(".pfx"); }

}  // namespace

std::string without_credentials(std::string_view url) {
  const size_t scheme = url.find("://");
  const size_t host = scheme == std::string_view::npos ? 0 : scheme + 3;
  const size_t path = url.find_first_of("/?#", host);
  const size_t at = url.substr(0, path).rfind('@');
  if (at == std::string_view::npos || at < host) return std::string(url);
  return std::string(url.substr(0, host)) + std::string(url.substr(at + 1));
}

namespace {

// One request on its way. Lives in the frame of send().
struct Transfer {
  Transfer(Executor executor, HttpCall what, size_t limit)
      : call(std::move(what)), answer_bytes_max(limit), done(executor) {}
  ~Transfer() {
    if (easy != nullptr) curl_easy_cleanup(easy);
    curl_slist_free_all(headers);
  }
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  void add_header(const std::string& line) {
    auto* longer = curl_slist_append(headers, line.c_str());
    HULSE_ASSERT(longer != nullptr);
    headers = longer;
  }

  static size_t on_body(char* data, size_t, size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    if (transfer.answer.body.size() + count > transfer.answer_bytes_max) return 0;
    transfer.answer.body.append(data, count);
    return count;
  }
  static size_t on_header(char* data, size_t, size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    const auto line = trim(std::string_view(data, count));
    const size_t colon = line.find(':');
    if (line.starts_with("HTTP/")) transfer.answer.headers.clear();  // after "100 Continue"
    if (colon != std::string_view::npos && !line.starts_with("HTTP/")) {
      transfer.answer.headers.emplace_back(std::string(line.substr(0, colon)),
                                           std::string(trim(line.substr(colon + 1))));
    }
    return count;
  }

  HttpCall call;
  size_t answer_bytes_max;
  HttpAnswer answer;
  CURL* easy = nullptr;
  curl_slist* headers = nullptr;
  char words[CURL_ERROR_SIZE] = {};
  std::optional<CURLcode> result;
  bool closed = false;
  Event done;
};

}  // namespace

// Shared with handlers that wait in the loop; `multi` is null once it is closed.
struct HttpClient::State : std::enable_shared_from_this<State> {
  using Descriptor = asio::posix::basic_stream_descriptor<Executor>;

  // A socket of libcurl's that it wants to hear about. The descriptor is released, never closed.
  struct Watch {
    Watch(Executor executor, curl_socket_t fd) : descriptor(executor, fd) {}
    Descriptor descriptor;
    int wanted = CURL_POLL_NONE;
    bool reading = false;
    bool writing = false;
  };

  State(Executor where, HttpClientOptions given)
      : executor(where), options(std::move(given)), timer(where) {}

  void start() {
    start_curl_once();
    multi = curl_multi_init();
    HULSE_ASSERT(multi != nullptr);
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, this);
    const long connections = static_cast<long>(options.connections_max);
    curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, connections);
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, connections);
  }

  static int on_socket(CURL*, curl_socket_t fd, int what, void* self, void*) {
    static_cast<State*>(self)->watch(fd, what);
    return 0;
  }
  static int on_timer(CURLM*, long wait_ms, void* self) {
    static_cast<State*>(self)->set_timer(wait_ms);
    return 0;
  }

  void watch(curl_socket_t fd, int what) {
    const auto found = watches.find(fd);
    if (what == CURL_POLL_REMOVE) {
      if (found == watches.end()) return;
      found->second->wanted = CURL_POLL_NONE;
      found->second->descriptor.release();
      watches.erase(found);
      return;
    }
    auto& watch = watches[fd];
    if (!watch) watch = std::make_shared<Watch>(executor, fd);
    watch->wanted = what;
    arm(fd, watch);
  }

  void arm(curl_socket_t fd, const std::shared_ptr<Watch>& watch) {
    const auto wait = [&](bool Watch::* busy, int poll, int select, Descriptor::wait_type type) {
      if ((watch->wanted & poll) == 0 || watch.get()->*busy) return;
      watch.get()->*busy = true;
      watch->descriptor.async_wait(type, [self = shared_from_this(), fd, watch, busy,
                                          select](boost::system::error_code error) {
        watch.get()->*busy = false;
        const auto now = self->watches.find(fd);
        if (now == self->watches.end() || now->second != watch) return;  // it is another's by now
        self->act(fd, error ? CURL_CSELECT_ERR : select);
        const auto after = self->watches.find(fd);
        if (after != self->watches.end() && after->second == watch) self->arm(fd, watch);
      });
    };
    wait(&Watch::reading, CURL_POLL_IN, CURL_CSELECT_IN, Descriptor::wait_read);
    wait(&Watch::writing, CURL_POLL_OUT, CURL_CSELECT_OUT, Descriptor::wait_write);
  }

  // libcurl may not be called from within its own callback, so even no wait at all goes by the
  // timer.
  void set_timer(long wait_ms) {
    timer.cancel();
    if (wait_ms < 0) return;
    timer.expires_after(std::chrono::milliseconds(wait_ms));
    timer.async_wait([self = shared_from_this()](boost::system::error_code error) {
      if (!error) self->act(CURL_SOCKET_TIMEOUT, 0);
    });
  }

  void act(curl_socket_t fd, int events) {
    if (multi == nullptr) return;
    int running = 0;
    curl_multi_socket_action(multi, fd, events, &running);
    int left = 0;
    while (const auto* message = curl_multi_info_read(multi, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      Transfer* transfer = nullptr;
      curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
      transfer->result = message->data.result;
      transfer->done.notify();
    }
  }

  Result<void> prepare(Transfer& transfer) {
    const auto& call = transfer.call;
    CURL* easy = transfer.easy = curl_easy_init();
    if (easy == nullptr) return Error(Code::internal, "libcurl has no handle");
    curl_easy_setopt(easy, CURLOPT_PRIVATE, &transfer);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer.words);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_URL, call.url.c_str());
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, milliseconds(options.connect_time_max));
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, milliseconds(call.time_max));
    const long idle = std::max(1L, milliseconds(options.idle_time_max) / 1000);
    curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, idle);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, kReceiveBytes);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, kUploadBytes);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, Transfer::on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, Transfer::on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, &transfer);
    for (const auto& [name, value] : call.headers) transfer.add_header(name + ": " + value);
    if (call.method == "HEAD") {
      curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    } else {
      curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call.method.c_str());
    }
    if (!call.body.empty()) {
      curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                       static_cast<curl_off_t>(call.body.size()));
      curl_easy_setopt(easy, CURLOPT_POSTFIELDS, call.body.data());  // not copied
      // Without it libcurl asks before it sends a large body, and waits up to a second for the
      // answer.
      transfer.add_header("Expect:");
      if (call.gzip) transfer.add_header("Content-Encoding: gzip");
    }
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer.headers);
    set_tls(easy);
    return {};
  }

  void set_tls(CURL* easy) const {
    const auto& tls = options.tls;
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, tls.verify_certificate ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, tls.verify_host ? 2L : 0L);
    const bool newest = tls.version_min == "1.3";
    curl_easy_setopt(easy, CURLOPT_SSLVERSION,
                     static_cast<long>(newest ? CURL_SSLVERSION_TLSv1_3 : CURL_SSLVERSION_TLSv1_2));
    if (!tls.ca_file.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, tls.ca_file.c_str());
    if (!tls.ciphers.empty()) curl_easy_setopt(easy, CURLOPT_SSL_CIPHER_LIST, tls.ciphers.c_str());
    if (!tls.cert_file.empty()) {
      curl_easy_setopt(easy, CURLOPT_SSLCERT, tls.cert_file.c_str());
      curl_easy_setopt(easy, CURLOPT_SSLCERTTYPE, is_pkcs12(tls.cert_file) ? "P12" : "PEM");
      const auto& key = tls.key_file.empty() ? tls.cert_file : tls.key_file;
      if (!is_pkcs12(key)) curl_easy_setopt(easy, CURLOPT_SSLKEY, key.c_str());
    }
    if (!tls.key_password.empty()) {
      curl_easy_setopt(easy, CURLOPT_KEYPASSWD, tls.key_password.reveal().c_str());
    }
  }

  void end(Transfer& transfer) {
    transfers.remove(&transfer);
    if (multi != nullptr) curl_multi_remove_handle(multi, transfer.easy);
  }

  static Result<HttpAnswer> outcome(Transfer& transfer) {
    if (transfer.closed) return Error(Code::closed, "the client was closed");
    const CURLcode result = *transfer.result;
    if (result == CURLE_OK) {
      long status = 0;
      curl_easy_getinfo(transfer.easy, CURLINFO_RESPONSE_CODE, &status);
      transfer.answer.status = static_cast<unsigned>(status);
      return std::move(transfer.answer);
    }
    if (result == CURLE_WRITE_ERROR) {
      return Error(Code::too_large,
                   fmt::format("the answer is larger than {} bytes", transfer.answer_bytes_max));
    }
    const char* words = transfer.words[0] != '\0' ? transfer.words : curl_easy_strerror(result);
    return Error(code_of(result), words);
  }

  void close() {
    if (multi == nullptr) return;
    timer.cancel();
    for (auto* transfer : transfers) {
      curl_multi_remove_handle(multi, transfer->easy);
      transfer->closed = true;
      transfer->done.notify();
    }
    transfers.clear();
    // Says CURL_POLL_REMOVE for each socket before it closes it.
    curl_multi_cleanup(multi);
    multi = nullptr;
    for (const auto& [fd, watch] : watches) watch->descriptor.release();
    watches.clear();
  }

  Executor executor;
  HttpClientOptions options;
  CURLM* multi = nullptr;
  Timer timer;
  std::map<curl_socket_t, std::shared_ptr<Watch>> watches;
  std::list<Transfer*> transfers;
};

HttpClient::HttpClient(Executor executor, HttpClientOptions options)
    : state_(std::make_shared<State>(executor, std::move(options))) {
  state_->start();
}
HttpClient::~HttpClient() { close(); }

void HttpClient::close() { state_->close(); }

Task<Result<HttpAnswer>> HttpClient::send(HttpCall call) {
  const auto state = state_;
  const auto what = call.method + " " + without_credentials(call.url);
  if (call.gzip && !call.body.empty()) {
    auto body = gzipped(call.body);
    if (!body) co_return std::move(body).error().with(what);
    call.body = std::move(*body);
  }
  Transfer transfer(state->executor, std::move(call), state->options.answer_bytes_max);
  if (state->multi == nullptr) co_return Error(Code::closed, "the client was closed").with(what);
  const auto prepared = state->prepare(transfer);
  if (!prepared) co_return prepared.error().with(what);
  const CURLMcode added = curl_multi_add_handle(state->multi, transfer.easy);
  if (added != CURLM_OK) co_return Error(Code::internal, curl_multi_strerror(added)).with(what);
  state->transfers.push_back(&transfer);
  while (!transfer.result && !transfer.closed) {
    const bool woken = co_await transfer.done.wait();
    if (!woken && !transfer.result && !transfer.closed) {
      state->end(transfer);
      co_return Error(Code::cancelled, "stopped").with(what);
    }
  }
  if (!transfer.closed) state->end(transfer);
  auto result = State::outcome(transfer);
  if (!result) co_return std::move(result).error().with(what);
  co_return std::move(*result);
}

}  // namespace hulse::aio

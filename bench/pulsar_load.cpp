// Producers and consumers for measuring a Pulsar broker, whichever it is: they speak the protocol
// with entries made beforehand, so that the broker's work is most of what is measured. One JSON
// line at the end.
//
//   produce   sends --count messages in entries of --batch; with --rate that many a second
//   consume   --consumers subscriptions of the topic, each until it has --count messages
//   attach    --topics topics with a producer and a subscription each, held until stdin ends
//
// Entries: 0x0e01, CRC-32C, metadata, then batches as Pulsar's clients write them. A message begins
// with the time it was sent at, in microseconds of this machine's clock that never goes back.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "support.h"

namespace {

// pulsar.api.proto.BaseCommand.Type; the field of BaseCommand has the same number.
enum Kind : uint32_t {
  kConnect = 2,
  kConnected = 3,
  kSubscribe = 4,
  kProducer = 5,
  kSend = 6,
  kReceipt = 7,
  kSendError = 8,
  kMessage = 9,
  kAck = 10,
  kFlow = 11,
  kSuccess = 13,
  kError = 14,
  kProducerSuccess = 17,
  kPing = 18,
  kPong = 19,
  kLookup = 23,
  kLookupResponse = 24,
};

void put_varint(std::string& out, uint64_t value) {
  for (; value > 127; value >>= 7) out += static_cast<char>((value & 127) | 128);
  out += static_cast<char>(value);
}
void put(std::string& out, uint32_t field, uint64_t value) {
  put_varint(out, field << 3);
  put_varint(out, value);
}
void put(std::string& out, uint32_t field, std::string_view value) {
  put_varint(out, field << 3 | 2);
  put_varint(out, value.size());
  out += value;
}
void put_u32(std::string& out, size_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xff);
}
uint32_t get_u32(const char* at) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(at[i]);
  return value;
}

std::string frame(Kind kind, std::string_view inner, std::string_view entry = {}) {
  std::string command;
  put(command, 1, kind);
  put(command, kind, inner);
  std::string out;
  put_u32(out, 4 + command.size() + entry.size());
  put_u32(out, command.size());
  return out + command + std::string(entry);
}

uint32_t crc32c(std::string_view bytes) {
  static const auto table = [] {
    std::array<uint32_t, 256> made{};
    for (uint32_t i = 0; i < made.size(); ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value & 1 ? value >> 1 ^ 0x82f63b78u : value >> 1;
      made[i] = value;
    }
    return made;
  }();
  uint32_t crc = ~0u;
  for (const char c : bytes) crc = crc >> 8 ^ table[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  return ~crc;
}

uint64_t micros() { return static_cast<uint64_t>(bench::seconds() * 1e6); }

// The fields of one protobuf message, one after the other.
struct Fields {
  const char* at;
  const char* end;
  uint32_t number = 0;
  uint64_t value = 0;  // of a varint
  std::string_view bytes;

  uint64_t varint() {
    uint64_t result = 0;
    for (int shift = 0; at < end; shift += 7) {
      const auto byte = static_cast<unsigned char>(*at++);
      result |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) break;
    }
    return result;
  }
  bool next() {
    if (at >= end) return false;
    const uint64_t tag = varint();
    number = static_cast<uint32_t>(tag >> 3);
    bytes = {};
    switch (tag & 7) {
      case 0: value = varint(); break;
      case 1: at += 8; break;
      case 5: at += 4; break;
      case 2: {
        const uint64_t size = varint();
        if (size > static_cast<uint64_t>(end - at)) bench::die("a damaged answer");
        bytes = {at, size};
        at += size;
        break;
      }
      default: bench::die("a damaged answer");
    }
    return true;
  }
};
Fields fields(std::string_view bytes) { return {bytes.data(), bytes.data() + bytes.size()}; }

class Connection {
 public:
  explicit Connection(uint16_t port) : socket_(bench::connect_tcp(port)) {
    std::string connect;
    put(connect, 1, "hulse-bench");
    put(connect, 4, 19);
    send(frame(kConnect, connect));
    wait(kConnected);
  }

  void send(std::string_view bytes) {
    const std::lock_guard lock(sending_);
    bench::send_all(socket_, bytes);
  }

  // Until an answer of this kind; its own fields.
  std::string_view wait(Kind wanted) {
    for (;;) {
      const Kind kind = next();
      if (kind == wanted) return inner_;
    }
  }

  // The next command but pings, which are answered. Views live until the next call.
  Kind next() {
    for (;;) {
      while (end_ - begin_ < 4 || end_ - begin_ < 4 + get_u32(buffer_.data() + begin_)) fill();
      const char* at = buffer_.data() + begin_ + 4;
      const size_t size = get_u32(buffer_.data() + begin_);
      const size_t command = get_u32(at);
      begin_ += 4 + size;
      entry_ = {at + 4 + command, size - 4 - command};
      auto parts = fields({at + 4, command});
      uint64_t kind = 0;
      while (parts.next()) {
        if (parts.number == 1) kind = parts.value;
        if (parts.number == kind) inner_ = parts.bytes;
      }
      if (kind == kPing) {
        send(frame(kPong, ""));
        continue;
      }
      if (kind == kError || kind == kSendError) {
        bench::die("the broker answers: " + std::string(inner_));
      }
      return static_cast<Kind>(kind);
    }
  }
  std::string_view inner() const { return inner_; }
  std::string_view entry() const { return entry_; }

  void look_up(const std::string& topic) {
    std::string lookup;
    put(lookup, 1, topic);
    put(lookup, 2, uint64_t{1});
    send(frame(kLookup, lookup));
    wait(kLookupResponse);
  }
  void open_producer(const std::string& topic, uint64_t id) {
    std::string producer;
    put(producer, 1, topic);
    put(producer, 2, id);
    put(producer, 3, 100 + id);
    send(frame(kProducer, producer));
    wait(kProducerSuccess);
  }
  void subscribe(const std::string& topic, const std::string& name, uint64_t id, bool earliest) {
    std::string subscribe;
    put(subscribe, 1, topic);
    put(subscribe, 2, name);
    put(subscribe, 3, uint64_t{0});  // exclusive
    put(subscribe, 4, id);
    put(subscribe, 5, 100 + id);
    put(subscribe, 13, uint64_t{earliest});
    send(frame(kSubscribe, subscribe));
    wait(kSuccess);
  }
  void flow(uint64_t id, uint64_t permits) {
    std::string flow;
    put(flow, 1, id);
    put(flow, 2, permits);
    send(frame(kFlow, flow));
  }

 private:
  void fill() {
    if (begin_ > 0 && (begin_ == end_ || end_ == buffer_.size())) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    if (end_ == buffer_.size()) buffer_.resize(buffer_.size() * 2);
    const ssize_t got = ::recv(socket_, buffer_.data() + end_, buffer_.size() - end_, 0);
    if (got < 0) bench::die_errno("receiving");
    if (got == 0) bench::die("the broker closed the connection");
    end_ += static_cast<size_t>(got);
  }

  int socket_;
  std::mutex sending_;
  std::vector<char> buffer_ = std::vector<char>(1 << 20);
  size_t begin_ = 0;
  size_t end_ = 0;
  std::string_view inner_;
  std::string_view entry_;
};

// ---- entries

class Entry {
 public:
  Entry(size_t batch, size_t size) : batch_(batch) {
    const std::string text = bench::payload("words", size, 7);
    std::string metadata;
    put(metadata, 1, "hulse-bench");
    put(metadata, 2, uint64_t{1});
    put(metadata, 3, uint64_t{1});
    if (batch > 1) put(metadata, 11, batch);
    put_u32(checked_, metadata.size());
    checked_ += metadata;
    for (size_t i = 0; i < batch; ++i) {
      if (batch > 1) {
        std::string single;
        put(single, 3, size);
        put_u32(checked_, single.size());
        checked_ += single;
      }
      stamps_.push_back(checked_.size());
      checked_ += text;
    }
  }
  size_t messages() const { return batch_; }

  // With the time in its messages; without one it is the same bytes as before.
  const std::string& bytes(uint64_t stamp) {
    if (stamp != 0) {
      for (const size_t at : stamps_) std::memcpy(checked_.data() + at, &stamp, sizeof(stamp));
    } else if (!bytes_.empty()) {
      return bytes_;
    }
    bytes_ = "\x0e\x01";
    put_u32(bytes_, crc32c(checked_));
    bytes_ += checked_;
    return bytes_;
  }

 private:
  size_t batch_;
  std::string checked_;  // what the checksum covers
  std::string bytes_;
  std::vector<size_t> stamps_;
};

double percentile(std::vector<uint64_t>& values, double share) {
  if (values.empty()) return 0;
  const size_t at =
      std::min(values.size() - 1, static_cast<size_t>(share * static_cast<double>(values.size())));
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(at), values.end());
  return static_cast<double>(values[at]) / 1000;
}

void print_latency(const char* name, std::vector<uint64_t>& micro_seconds) {
  std::printf(", \"%s_p50_ms\": %.3f", name, percentile(micro_seconds, 0.5));
  std::printf(", \"%s_p99_ms\": %.3f", name, percentile(micro_seconds, 0.99));
}

// ---- produce

struct Produce {
  uint16_t port;
  std::string topic;
  size_t size, batch, count, window;
  double rate;  // messages a second; 0: as fast as receipts come
};

void produce(const Produce& options) {
  Connection connection(options.port);
  connection.look_up(options.topic);
  connection.open_producer(options.topic, 0);
  Entry entry(options.batch, options.size);
  const size_t entries = (options.count + options.batch - 1) / options.batch;
  std::mutex mutex;
  std::condition_variable received;
  std::deque<uint64_t> sent;  // when, of entries without a receipt
  std::vector<uint64_t> latencies;
  latencies.reserve(entries);

  const double began = bench::seconds();
  std::thread receipts([&] {
    for (size_t i = 0; i < entries; ++i) {
      connection.wait(kReceipt);
      const uint64_t now = micros();
      const std::lock_guard lock(mutex);
      latencies.push_back(now - sent.front());
      sent.pop_front();
      received.notify_one();
    }
  });
  std::string out;
  for (size_t next = 0; next < entries;) {
    size_t room = 1;
    if (options.rate > 0) {
      bench::wait_until(began + static_cast<double>(next * options.batch) / options.rate);
    }
    {
      std::unique_lock lock(mutex);
      received.wait(lock, [&] { return sent.size() < options.window; });
      if (options.rate <= 0) room = options.window - sent.size();
    }
    out.clear();
    size_t made = 0;
    while (made < room && next + made < entries && out.size() < (256 << 10)) {
      std::string send;
      put(send, 1, uint64_t{0});
      put(send, 2, next + made);
      put(send, 3, entry.messages());
      out += frame(kSend, send, entry.bytes(options.rate > 0 ? micros() : 0));
      ++made;
    }
    {
      const uint64_t now = micros();
      const std::lock_guard lock(mutex);
      sent.insert(sent.end(), made, now);
    }
    connection.send(out);
    next += made;
  }
  receipts.join();
  const double took = bench::seconds() - began;
  std::printf("{\"seconds\": %.4f, \"messages\": %zu", took, entries * options.batch);
  print_latency("receipt", latencies);
  std::printf("}\n");
}

// ---- consume

struct Consume {
  uint16_t port;
  std::string topic;
  size_t consumers, count;
  bool earliest;
};

constexpr uint64_t kPermits = 100'000;

size_t messages_in(std::string_view entry, std::string_view& payload) {
  if (entry.size() < 10) bench::die("a damaged message");
  const size_t metadata = get_u32(entry.data() + 6);
  payload = entry.substr(10 + metadata);
  size_t count = 0;
  auto parts = fields(entry.substr(10, metadata));
  while (parts.next()) {
    if (parts.number == 11) count = parts.value;
  }
  if (count == 0) return 1;
  payload = payload.substr(4 + get_u32(payload.data()));
  return count;
}

void consume_one(const Consume& options, size_t number, std::atomic<size_t>& attached,
                 double& first, double& last, std::vector<uint64_t>& latencies) {
  Connection connection(options.port);
  connection.look_up(options.topic);
  connection.subscribe(options.topic, "s" + std::to_string(number), 0, options.earliest);
  connection.flow(0, kPermits);
  // Whoever waits for this line may produce from now on.
  if (++attached == options.consumers) {
    std::printf("attached\n");
    std::fflush(stdout);
  }
  size_t seen = 0;
  size_t permits = 0;
  size_t unacknowledged = 0;
  std::string id;
  while (seen < options.count) {
    if (connection.next() != kMessage) continue;
    std::string_view payload;
    const size_t messages = messages_in(connection.entry(), payload);
    if (seen == 0) first = bench::seconds();
    seen += messages;
    permits += messages;
    uint64_t stamp = 0;
    if (payload.size() >= sizeof(stamp)) std::memcpy(&stamp, payload.data(), sizeof(stamp));
    const uint64_t now = micros();
    if (stamp < now && now - stamp < 60'000'000) latencies.push_back(now - stamp);
    auto parts = fields(connection.inner());
    while (parts.next()) {
      if (parts.number == 2) id = std::string(parts.bytes);
    }
    if (permits >= kPermits / 2) {
      connection.flow(0, permits);
      permits = 0;
    }
    if (++unacknowledged >= 100 || seen >= options.count) {
      std::string ack;
      put(ack, 1, uint64_t{0});
      put(ack, 2, uint64_t{1});  // cumulative
      put(ack, 3, id);
      connection.send(frame(kAck, ack));
      unacknowledged = 0;
    }
  }
  last = bench::seconds();
}

void consume(const Consume& options) {
  std::atomic<size_t> attached = 0;
  std::vector<double> first(options.consumers);
  std::vector<double> last(options.consumers);
  std::vector<std::vector<uint64_t>> latencies(options.consumers);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < options.consumers; ++i) {
    threads.emplace_back(
        [&, i] { consume_one(options, i, attached, first[i], last[i], latencies[i]); });
  }
  for (auto& thread : threads) thread.join();
  std::vector<uint64_t> all;
  for (const auto& some : latencies) all.insert(all.end(), some.begin(), some.end());
  std::printf(
      "{\"seconds\": %.4f, \"messages\": %zu",
      *std::max_element(last.begin(), last.end()) - *std::min_element(first.begin(), first.end()),
      options.consumers * options.count);
  print_latency("end_to_end", all);
  std::printf("}\n");
}

// ---- attach

void attach(uint16_t port, const std::string& topic, size_t topics) {
  Connection connection(port);
  Entry entry(1, 100);
  for (size_t i = 0; i < topics; ++i) {
    const std::string name = topic + "-" + std::to_string(i);
    connection.look_up(name);
    connection.subscribe(name, "s", i, false);
    connection.open_producer(name, i);
    std::string send;
    put(send, 1, i);
    put(send, 2, uint64_t{0});
    connection.send(frame(kSend, send, entry.bytes(0)));
    connection.wait(kReceipt);
  }
  std::printf("{\"topics\": %zu}\n", topics);
  std::fflush(stdout);
  for (char byte = 0; ::read(STDIN_FILENO, &byte, 1) > 0;) {
  }
}

}  // namespace

int main(int argc, char** argv) {
  const char* usage =
      "pulsar_load produce|consume|attach --port P [--topic T] [--size 1024] [--batch 1] "
      "[--count 100000] [--window 100] [--rate 0] [--consumers 1] [--earliest 0] [--topics 1000]";
  if (argc < 2) bench::die(usage);
  const std::string mode = argv[1];
  bench::Options options(argc - 1, argv + 1, usage);
  const auto port = static_cast<uint16_t>(options.number("port", 6650));
  const std::string topic = "persistent://public/default/" + options.text("topic", "bench");
  const size_t size = options.number("size", 1024);
  const size_t batch = std::max<size_t>(1, options.number("batch", 1));
  const size_t count = options.number("count", 100'000);
  const size_t window = std::max<size_t>(1, options.number("window", 100));
  const double rate = options.real("rate", 0);
  const size_t consumers = std::max<size_t>(1, options.number("consumers", 1));
  const bool earliest = options.number("earliest", 0) != 0;
  const size_t topics = options.number("topics", 1000);
  options.finish();
  if (mode == "produce") {
    produce({port, topic, std::max<size_t>(size, 8), batch, count, window, rate});
  } else if (mode == "consume") {
    consume({port, topic, consumers, count, earliest});
  } else if (mode == "attach") {
    attach(port, topic, topics);
  } else {
    bench::die(usage);
  }
}

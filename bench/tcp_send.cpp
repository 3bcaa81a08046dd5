// Sends lines, or bytes without lines, over TCP to a port of this machine, as fast as the other
// side takes them or at a rate. Prints one line of JSON: what it sent and how long the other side
// took to read it.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "support.h"

namespace {

constexpr size_t kBlock = 64 * 1024;

struct Job {
  uint16_t port = 0;
  size_t size = 0;
  uint64_t count = 0;
  double rate = 0;  // lines a second of this connection; 0: flat out
  bool raw = false;
  bool json = false;
  std::string_view pool;
  size_t start = 0;  // where in the pool this connection begins
};

constexpr std::string_view kBefore = R"({"id":")", kBetween = R"(","text":")", kAfter = "\"}\n";
constexpr size_t kJsonLeast = kBefore.size() + 10 + kBetween.size() + kAfter.size();

// Every line holds its number in ten digits, so that none equals another; the rest is a window of
// the pool that moves on by one line each time.
void number_line(char* line, const Job& job, uint64_t i) {
  char number[11];
  std::snprintf(number, sizeof number, "%010llu", static_cast<unsigned long long>(i));
  if (job.json) {
    std::memcpy(line, kBefore.data(), kBefore.size());
    std::memcpy(line + kBefore.size(), number, 10);
    std::memcpy(line + kBefore.size() + 10, kBetween.data(), kBetween.size());
    std::memcpy(line + job.size - kAfter.size(), kAfter.data(), kAfter.size());
    return;
  }
  std::memcpy(line, number, std::min<size_t>(10, job.size - 1));
  line[job.size - 1] = '\n';
}

void send_lines(const Job& job) {
  const int socket = bench::connect_tcp(job.port);
  std::string block;
  block.reserve(kBlock + job.size);
  size_t at = job.start;
  const double began = bench::seconds();
  for (uint64_t i = 0; i < job.count; ++i) {
    if (at + job.size > job.pool.size()) at = 0;
    const size_t line = block.size();
    block.append(job.pool.substr(at, job.size));
    at += job.size;
    if (!job.raw) number_line(block.data() + line, job, i);
    const bool last = i + 1 == job.count;
    if (block.size() + job.size > kBlock || last || job.rate > 0) {
      bench::send_all(socket, block);
      block.clear();
    }
    if (job.rate > 0) bench::wait_until(began + static_cast<double>(i + 1) / job.rate);
  }
  bench::finish_sending(socket);
}

}  // namespace

int main(int argc, char** argv) {
  bench::Options options(
      argc, argv,
      "tcp_send --port P [--size 100] [--count 1000000] [--connections 1] [--rate 0] "
      "[--payload random|json|binary|words] [--framing line|none]");
  Job job;
  job.port = static_cast<uint16_t>(options.number("port", 0));
  job.size = options.number("size", 100);
  const uint64_t count = options.number("count", 1000000);
  const uint64_t connections = options.number("connections", 1);
  job.rate = options.real("rate", 0) / static_cast<double>(connections);
  const std::string framing = options.text("framing", "line");
  job.raw = framing == "none";
  std::string kind = options.text("payload", job.raw ? "binary" : "random");
  options.finish();
  job.json = kind == "json";
  if (job.json) kind = "random";
  if (job.json && (job.raw || job.size < kJsonLeast))
    bench::die("a JSON line takes 32 bytes at least");
  if (job.port == 0 || connections == 0 || job.size < 2)
    bench::die("a port, a connection and two bytes a line");
  if (!job.raw && (framing != "line" || kind == "binary"))
    bench::die("lines hold text: --framing none for binary");

  const std::string pool = bench::payload(kind, (size_t{32} << 20) + job.size, 7);
  job.pool = pool;
  const double began = bench::seconds();
  std::vector<std::thread> threads;
  for (uint64_t c = 0; c < connections; ++c) {
    job.count = count / connections + (c < count % connections ? 1 : 0);
    job.start = c * 1000003 % (size_t{32} << 20);
    threads.emplace_back(send_lines, job);
  }
  for (auto& thread : threads) thread.join();
  std::printf("{\"sent\": %llu, \"bytes\": %llu, \"seconds\": %.4f}\n",
              static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(count * job.size), bench::seconds() - began);
}

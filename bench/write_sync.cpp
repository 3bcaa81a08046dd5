// The disk's bound: one thread that appends blocks of noise to a file and syncs each with
// fdatasync. Prints one line of JSON: megabytes and syncs a second, the 99th percentile of one
// write and sync, and the processor time it took.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "support.h"

int main(int argc, char** argv) {
  bench::Options options(argc, argv, "write_sync --file F [--block 1048576] [--seconds 3]");
  const std::string path = options.text("file", "");
  const size_t block = options.number("block", 1 << 20);
  const double limit = options.real("seconds", 3);
  options.finish();
  if (path.empty() || block == 0) bench::die("a file and a block size");

  const int file = ::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
  if (file < 0) bench::die_errno("opening " + path);
  const std::string noise = bench::payload("binary", block, 3);
  const double began = bench::seconds();
  uint64_t syncs = 0;
  double took = 0;
  std::vector<double> each;
  while (took < limit) {
    for (size_t done = 0; done < block;) {
      const ssize_t wrote = ::write(file, noise.data() + done, block - done);
      if (wrote <= 0) bench::die_errno("writing " + path);
      done += static_cast<size_t>(wrote);
    }
    if (::fdatasync(file) != 0) bench::die_errno("syncing " + path);
    ++syncs;
    each.push_back(bench::seconds() - began - took);
    took = bench::seconds() - began;
  }
  ::close(file);
  ::unlink(path.c_str());
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  const auto of = [](timeval t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  const double megabytes = static_cast<double>(syncs * block) / 1e6;
  std::sort(each.begin(), each.end());
  std::printf(
      "{\"mb_per_second\": %.1f, \"syncs_per_second\": %.0f, \"p99_ms\": %.3f, "
      "\"cpu_per_gb\": %.3f}\n",
      megabytes / took, static_cast<double>(syncs) / took, each[each.size() * 99 / 100] * 1000,
      (of(use.ru_utime) + of(use.ru_stime)) / megabytes * 1000);
}

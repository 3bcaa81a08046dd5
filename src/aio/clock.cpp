#include "aio/clock.h"

#include <unistd.h>

#include <atomic>
#include <ctime>
#include <fstream>
#include <sstream>

#include "base/assert.h"

namespace hulse::aio {
namespace {
constexpr int64_t kReal = -1;
std::atomic<int64_t> virtual_now{kReal};
}  // namespace

Clock::time_point Clock::now() noexcept {
  const int64_t frozen = virtual_now.load(std::memory_order_relaxed);
  if (frozen != kReal) return time_point(duration(frozen));
  return time_point(std::chrono::steady_clock::now().time_since_epoch());
}

int64_t wall_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

Duration process_age() {
  std::string text(1024, '\0');
  std::ifstream file("/proc/self/stat", std::ios::binary);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  // Field 22 is the start in clock ticks since boot; counted after the name, which may hold
  // anything.
  std::istringstream fields(text.substr(std::min(text.size(), text.rfind(')') + 1)));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  const double started =
      std::strtod(field.c_str(), nullptr) / static_cast<double>(::sysconf(_SC_CLK_TCK));
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  const double age =
      static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9 - started;
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(age));
}

VirtualTime::VirtualTime() {
  int64_t real = kReal;
  HULSE_ASSERT(virtual_now.compare_exchange_strong(real, Clock::now().time_since_epoch().count()));
}
VirtualTime::~VirtualTime() { virtual_now = kReal; }
void VirtualTime::advance(Duration by) { virtual_now += by.count(); }

Duration TimerTraits::to_wait_duration(Duration duration) {
  // With virtual time nobody tells the event loop that time moved: let it look again often.
  if (virtual_now.load(std::memory_order_relaxed) != kReal) {
    return std::min<Duration>(duration, std::chrono::microseconds(200));
  }
  return duration;
}
Duration TimerTraits::to_wait_duration(const TimePoint& at) {
  return to_wait_duration(at - Clock::now());
}

Task<bool> sleep(Duration duration) { return sleep_until(Clock::now() + duration); }

Task<bool> sleep_until(TimePoint at) {
  const bool stopped = co_await cancelled();
  if (stopped) co_return false;
  const auto executor = co_await asio::this_coro::executor;
  const auto state = co_await asio::this_coro::cancellation_state;
  if (state.cancelled() != asio::cancellation_type::none) co_return false;
  Timer timer(executor, at);
  const auto [error] = co_await timer.async_wait(as_values);
  co_return !error;
}

}  // namespace hulse::aio

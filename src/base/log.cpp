#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <map>
#include <mutex>
#include <string>

namespace hulse::log {
namespace {

spdlog::level::level_enum convert(Level level) {
  switch (level) {
    case Level::debug: return spdlog::level::debug;
    case Level::info: return spdlog::level::info;
    case Level::warn: return spdlog::level::warn;
    case Level::error: return spdlog::level::err;
    case Level::off: return spdlog::level::off;
  }
  return spdlog::level::info;
}

spdlog::logger& logger() {
  static const auto kLogger = [] {
    auto made = std::make_shared<spdlog::logger>(
        "hulse", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%-5l%$ %v");
    made->flush_on(spdlog::level::warn);
    return made;
  }();
  return *kLogger;
}

// The lines of a part that somebody listens to. The count spares everybody else the lock.
struct Listeners {
  std::mutex mutex;
  std::map<std::string, std::pair<const Listener*, Listener::Take>, std::less<>> takes;
  std::atomic<size_t> count{0};
};
Listeners& listeners() {
  static Listeners made;
  return made;
}

}  // namespace

Listener::Listener(std::string part, Take take) : part_(std::move(part)) {
  auto& all = listeners();
  const std::lock_guard lock(all.mutex);
  all.takes.insert_or_assign(part_, std::pair(this, std::move(take)));
  all.count = all.takes.size();
}

Listener::~Listener() {
  auto& all = listeners();
  const std::lock_guard lock(all.mutex);
  const auto found = all.takes.find(part_);
  if (found != all.takes.end() && found->second.first == this) all.takes.erase(found);
  all.count = all.takes.size();
}

void set_level(Level level) { logger().set_level(convert(level)); }
bool enabled(Level level) { return logger().should_log(convert(level)); }

void write(Level level, std::string_view part, std::string_view text) {
  // One event is one line, whatever another system's error text holds.
  std::string line;
  line.reserve(part.size() + text.size() + 2);
  line += part;
  line += ": ";
  for (const char c : text) line += (c == '\n' || c == '\r') ? ' ' : c;
  logger().log(convert(level), line);
  auto& all = listeners();
  if (all.count == 0) return;
  const std::lock_guard lock(all.mutex);
  const auto found = all.takes.find(part);
  if (found != all.takes.end())
    found->second.second(level, std::string_view(line).substr(part.size() + 2));
}

}  // namespace hulse::log

// The log facade: one line an event, on standard error. Any thread. A secret cannot be passed:
// Secret has no formatter. `part` below is the part of the program that speaks, for example
// "broker".
#pragma once

#include <fmt/format.h>

#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace hulse::log {

enum class Level { debug, info, warn, error, off };

void set_level(Level level);
bool enabled(Level level);
void write(Level level, std::string_view part, std::string_view text);

// Also gets the lines of one part, while it lives. Called by whoever writes a line, on their
// thread: it must be quick and may not write lines itself. One at a time for a part; a second one
// takes the first one's place.
class Listener {
 public:
  using Take = std::function<void(Level level, std::string_view text)>;
  Listener(std::string part, Take take);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

 private:
  const std::string part_;
};

template <class... Args>
void debug(std::string_view part, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::debug))
    write(Level::debug, part, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void info(std::string_view part, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::info))
    write(Level::info, part, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warn(std::string_view part, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::warn))
    write(Level::warn, part, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void error(std::string_view part, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::error))
    write(Level::error, part, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace hulse::log

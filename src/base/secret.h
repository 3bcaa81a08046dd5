// Secret: a value that cannot be printed. It has no formatter and no stream operator on purpose;
// reveal() is the one way to its text and is called where the bytes leave the process.
#pragma once

#include <string>
#include <utility>

namespace hulse {

class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string text) : text_(std::move(text)) {}

  bool empty() const { return text_.empty(); }
  const std::string& reveal() const { return text_; }

  friend bool operator==(const Secret&, const Secret&) = default;

 private:
  std::string text_;
};

// What stands in for a secret wherever a configuration is shown.
inline constexpr const char* kRedacted = "********";

}  // namespace hulse

// TopicFinder: which topics and partitions a subscription by names or by a pattern has now.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "aio/task.h"
#include "base/result.h"

namespace hulse::client {

class Client;

// By names, or by a pattern: "persistent://tenant/namespace/REGEX" (Perl's syntax), matched against
// whole names without "persistent://" and without a partition's suffix.
struct TopicSelection {
  std::vector<std::string> topics;
  std::string pattern;
};

// Lives on the client's strand; the client outlives it.
class TopicFinder {
 public:
  // Code::invalid: a name or the pattern cannot be one.
  static Result<std::unique_ptr<TopicFinder>> make(Client& client, TopicSelection selection);
  ~TopicFinder();
  // Whether a text can be a pattern, without a client.
  static Result<void> check_pattern(const std::string& text);

  // Full names, each partition by itself, sorted.
  aio::Task<Result<std::vector<std::string>>> find();

 private:
  struct Pattern;
  static Result<std::unique_ptr<Pattern>> parse_pattern(const std::string& text);
  TopicFinder(Client& client, std::vector<std::string> topics, std::unique_ptr<Pattern> pattern);
  aio::Task<Result<void>> match();

  Client& client_;
  std::vector<std::string> topics_;  // of a pattern: those that match, without partition suffix
  std::unique_ptr<Pattern> pattern_;
};

}  // namespace hulse::client

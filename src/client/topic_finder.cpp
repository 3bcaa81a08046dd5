#include "client/topic_finder.h"

#include <algorithm>
#include <boost/regex.hpp>

#include "base/text.h"
#include "client/client.h"
#include "wire/topic_name.h"

namespace hulse::client {

struct TopicFinder::Pattern {
  std::string text;
  std::string name_space;
  boost::regex regex;
  std::string hash;  // of the list that was matched last
  std::set<std::string> partitioned;
};

namespace {

Error refused(const std::string& text, std::string_view why) {
  return Error(Code::invalid, fmt::format("topics pattern {}: {}", text, why));
}

}  // namespace

TopicFinder::TopicFinder(Client& client, std::vector<std::string> topics,
                         std::unique_ptr<Pattern> pattern)
    : client_(client), topics_(std::move(topics)), pattern_(std::move(pattern)) {}

TopicFinder::~TopicFinder() = default;

Result<std::unique_ptr<TopicFinder::Pattern>> TopicFinder::parse_pattern(const std::string& given) {
  constexpr std::string_view kDomain = "persistent://";
  std::string_view text = given;
  if (text.starts_with(kDomain)) text.remove_prefix(kDomain.size());
  const auto parts = split(text, '/');
  if (parts.size() < 3 || text.find("://") != std::string_view::npos)
    return refused(given, "it is not persistent://tenant/namespace/REGEX");
  auto pattern = std::make_unique<Pattern>();
  pattern->text = given;
  pattern->name_space = fmt::format("{}/{}", parts[0], parts[1]);
  try {
    pattern->regex.assign(std::string(text));
  } catch (const boost::regex_error& error) {
    return refused(given, error.what());
  }
  return pattern;
}

Result<void> TopicFinder::check_pattern(const std::string& text) {
  const auto parsed = parse_pattern(text);
  return parsed ? Result<void>() : Result<void>(parsed.error());
}

Result<std::unique_ptr<TopicFinder>> TopicFinder::make(Client& client, TopicSelection selection) {
  std::vector<std::string> topics;
  for (const auto& topic : selection.topics) {
    const auto name = wire::TopicName::parse(topic);
    if (!name) return name.error();
    topics.push_back(name->text());
  }
  std::unique_ptr<Pattern> pattern;
  if (!selection.pattern.empty()) {
    auto parsed = parse_pattern(selection.pattern);
    if (!parsed) return parsed.error();
    pattern = std::move(*parsed);
  }
  return std::unique_ptr<TopicFinder>(
      new TopicFinder(client, std::move(topics), std::move(pattern)));
}

aio::Task<Result<void>> TopicFinder::match() {
  const auto list = co_await client_.topics(pattern_->name_space, pattern_->hash);
  if (!list) co_return list.error();
  if (!list->changed) co_return Result<void>();
  std::set<std::string> found;
  std::set<std::string> partitioned;
  for (const auto& text : list->names) {
    const auto name = wire::TopicName::parse(text);
    if (!name || !name->persistent() || name->local.starts_with("__")) continue;
    const std::string base = name->base().text();
    const std::string bare = base.substr(base.find("://") + 3);
    try {
      if (!boost::regex_match(bare, pattern_->regex)) continue;
    } catch (const std::exception& error) {
      // Boost gives up instead of trying for ever.
      co_return refused(pattern_->text, error.what());
    }
    found.insert(base);
    if (name->partition >= 0) partitioned.insert(base);
  }
  topics_.assign(found.begin(), found.end());
  pattern_->partitioned = std::move(partitioned);
  pattern_->hash = list->hash;
  co_return Result<void>();
}

aio::Task<Result<std::vector<std::string>>> TopicFinder::find() {
  if (pattern_) {
    const auto matched = co_await match();
    if (!matched) co_return matched.error();
  }
  std::vector<std::string> out;
  const auto topics = topics_;
  for (const auto& topic : topics) {
    // The list shows a partitioned topic by its partitions.
    unsigned partitions = 0;
    if (!pattern_ || pattern_->partitioned.contains(topic)) {
      const auto count = co_await client_.partitions(topic);
      if (!count) co_return count.error();
      partitions = *count;
    }
    const auto name = wire::TopicName::parse(topic);
    if (partitions == 0) out.push_back(topic);
    for (unsigned i = 0; i < partitions; ++i)
      out.push_back(name->partition_of(static_cast<int>(i)).text());
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  co_return out;
}

}  // namespace hulse::client

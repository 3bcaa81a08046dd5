#include "connectors/elastic_search/answer.h"

#include <fmt/format.h>

#include <boost/json/parse.hpp>

#include "base/text.h"

namespace hulse::connectors::elastic_search {
namespace {

namespace json = boost::json;

constexpr size_t kWordsMax = 500;

std::string_view text_in(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  const auto* text = value == nullptr ? nullptr : value->if_string();
  return text == nullptr ? std::string_view() : std::string_view(*text);
}

std::string shortened(std::string text) {
  if (text.size() > kWordsMax) {
    size_t length = kWordsMax;
    while (length > 0 && (static_cast<uint8_t>(text[length]) & 0xc0) == 0x80) --length;
    text.resize(length);
    text += "...";
  }
  return text;
}

// "mapper_parsing_exception: failed to parse field [n]: For input string: \"x\""
std::string words_of_error(const json::value& error) {
  if (const auto* text = error.if_string()) return std::string(*text);
  const auto* object = error.if_object();
  if (object == nullptr) return "no reason given";
  std::string words(text_in(*object, "type"));
  const auto add = [&](std::string_view text) {
    if (text.empty()) return;
    if (!words.empty()) words += ": ";
    words += text;
  };
  add(text_in(*object, "reason"));
  if (const auto* cause = object->if_contains("caused_by");
      cause != nullptr && cause->is_object()) {
    add(text_in(cause->get_object(), "reason"));
  }
  return words;
}

// Where the value of the first `"name":` at the beginning of `text` stands.
std::string_view value_of(std::string_view text, std::string_view quoted_name) {
  const size_t at = text.find(quoted_name);
  if (at == std::string_view::npos) return {};
  auto rest = trim(text.substr(at + quoted_name.size()));
  if (rest.empty() || rest.front() != ':') return {};
  rest.remove_prefix(1);
  return trim(rest);
}

size_t count_of(std::string_view text, std::string_view word) {
  size_t count = 0;
  for (size_t at = text.find(word); at != std::string_view::npos;
       at = text.find(word, at + word.size())) {
    ++count;
  }
  return count;
}

Judgement judge_item(std::string_view action, const json::object& item) {
  const auto* status_value = item.if_contains("status");
  const int64_t status =
      status_value != nullptr && status_value->is_int64() ? status_value->get_int64() : 0;
  if (status >= 200 && status < 300) return {};
  // What is to be deleted and is not there is deleted.
  if (action == "delete" && status == 404 && !item.contains("error")) return {};
  const auto* error = item.if_contains("error");
  std::string words = error == nullptr ? std::string("no reason given") : words_of_error(*error);
  const std::string_view type =
      error != nullptr && error->is_object() ? text_in(error->get_object(), "type") : "";
  words = shortened(fmt::format("status {}: {}", status, words));
  // A full disk makes indices read-only, with 403 in older versions; it passes.
  if (type == "cluster_block_exception") return {Meaning::retry, std::move(words)};
  if (status == 401 || status == 403) return {Meaning::fatal, std::move(words)};
  // 404: an index that is not there and is not made by itself; somebody can make it.
  if (status == 429 || status >= 500 || status == 404 || status == 409 || status < 300) {
    return {Meaning::retry, std::move(words)};
  }
  return {Meaning::malformed, std::move(words)};
}

Error strange(std::string what) {
  return Error(Code::unavailable, "an answer that is not one to _bulk: " + std::move(what));
}

}  // namespace

Result<std::vector<Judgement>> judge_items(std::string_view answer, size_t count) {
  // "errors" stands in front of the items. A text within an item cannot hold "status": unescaped.
  constexpr size_t kHead = 200;
  if (value_of(answer.substr(0, kHead), "\"errors\"").starts_with("false")) {
    const size_t items = count_of(answer, "\"status\":");
    if (items != count) return strange(fmt::format("{} items instead of {}", items, count));
    return std::vector<Judgement>(count);
  }
  boost::system::error_code error;
  const auto parsed = json::parse(json::string_view(answer.data(), answer.size()), error);
  if (error || !parsed.is_object()) return strange(shortened(std::string(answer)));
  const auto* list = parsed.get_object().if_contains("items");
  if (list == nullptr || !list->is_array()) return strange("it has no items");
  const auto& items = list->get_array();
  if (items.size() != count) {
    return strange(fmt::format("{} items instead of {}", items.size(), count));
  }
  std::vector<Judgement> out;
  out.reserve(count);
  for (const auto& item : items) {
    // {"index": {...}}
    const auto* outer = item.if_object();
    if (outer == nullptr || outer->size() != 1 || !outer->begin()->value().is_object()) {
      return strange("an item of another shape");
    }
    out.push_back(judge_item(outer->begin()->key(), outer->begin()->value().get_object()));
  }
  return out;
}

Judgement judge_request(unsigned status, std::string_view answer) {
  Judgement judgement;
  judgement.words = fmt::format("status {}: {}", status, words_of(answer));
  if (status == 401 || status == 403) {
    judgement.meaning = Meaning::fatal;
  } else if (status == 400 || status == 413) {
    judgement.meaning = Meaning::malformed;
  } else {
    judgement.meaning = Meaning::retry;
  }
  return judgement;
}

std::string words_of(std::string_view answer) {
  boost::system::error_code error;
  const auto parsed = json::parse(json::string_view(answer.data(), answer.size()), error);
  if (!error && parsed.is_object()) {
    if (const auto* found = parsed.get_object().if_contains("error")) {
      return shortened(words_of_error(*found));
    }
  }
  const auto text = trim(answer);
  return text.empty() ? "an empty answer" : shortened(std::string(text));
}

}  // namespace hulse::connectors::elastic_search

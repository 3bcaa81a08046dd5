#include "runtime/source_offsets.h"

#include <boost/json.hpp>
#include <charconv>

#include "base/base64.h"
#include "base/text.h"

namespace hulse::runtime {
namespace {

namespace json = boost::json;

std::optional<MessageId> parse_id(std::string_view text) {
  const auto parts = split(text, ':');
  if (parts.size() != 2) return std::nullopt;
  MessageId id;
  int64_t* const numbers[] = {&id.ledger, &id.entry};
  for (size_t i = 0; i < 2; ++i) {
    const auto* end = parts[i].data() + parts[i].size();
    const auto [at, failed] = std::from_chars(parts[i].data(), end, *numbers[i]);
    if (failed != std::errc() || at != end) return std::nullopt;
  }
  return id;
}

}  // namespace

std::string Offset::encode() const {
  json::object lanes;
  for (const auto& [lane, position] : positions) lanes[lane] = base64_encode(position);
  json::object from;
  for (const auto& [topic, id] : read_from) from[topic] = fmt::format("{}:{}", id.ledger, id.entry);
  return json::serialize(json::object{{"v", 1},
                                      {"positions", std::move(lanes)},
                                      {"readFrom", std::move(from)},
                                      {"records", records}});
}

Result<Offset> Offset::decode(std::string_view text) {
  const Error damaged(Code::corrupt, fmt::format("not an offset: {}", text.substr(0, 100)));
  boost::system::error_code error;
  const auto value = json::parse(text, error);
  if (error || !value.is_object()) return damaged;
  const auto& object = value.get_object();
  const auto* lanes = object.if_contains("positions");
  const auto* from = object.if_contains("readFrom");
  const auto* version = object.if_contains("v");
  if (version == nullptr || *version != 1 || lanes == nullptr || !lanes->is_object() ||
      from == nullptr || !from->is_object()) {
    return damaged;
  }
  Offset offset;
  for (const auto& [lane, position] : lanes->get_object()) {
    const auto bytes = position.is_string() ? base64_decode(position.get_string()) : std::nullopt;
    if (!bytes) return damaged;
    offset.positions[std::string(lane)] = *bytes;
  }
  for (const auto& [topic, place] : from->get_object()) {
    const auto id = place.is_string() ? parse_id(place.get_string()) : std::nullopt;
    if (!id) return damaged;
    offset.read_from[std::string(topic)] = *id;
  }
  const auto* records = object.if_contains("records");
  if (records != nullptr) offset.records = records->to_number<uint64_t>(error);
  if (error) return damaged;
  return offset;
}

SourceOffsets::SourceOffsets(aio::Executor executor, std::shared_ptr<client::KeyValueTopic> topic,
                             std::string key)
    : topic_(std::move(topic)), key_(std::move(key)), changed_(executor) {}

aio::Task<Result<std::unique_ptr<SourceOffsets>>> SourceOffsets::open(client::Client& client,
                                                                      OffsetsOptions options) {
  std::string name = options.component;
  std::replace(name.begin(), name.end(), '/', ':');
  client::KeyValueOptions opening;
  opening.topic =
      fmt::format("persistent://{}/hulse-offsets:{}:{}", options.name_space, name, options.index);
  const std::string topic = opening.topic;
  const std::string key = fmt::format("{}/{}", options.component, options.index);
  const auto opened = co_await client::KeyValueTopic::open(client, std::move(opening));
  if (!opened) co_return opened.error();
  std::unique_ptr<SourceOffsets> made(new SourceOffsets(client.executor(), *opened, key));
  if (const auto* stored = (*opened)->find(key); stored != nullptr) {
    auto offset = Offset::decode(stored->value);
    if (!offset) {
      co_await made->close();
      co_return offset.error().with(fmt::format("{} of {}", key, topic));
    }
    made->offset_ = std::move(*offset);
    made->version_ = stored->version;
  }
  co_return made;
}

aio::Task<Result<void>> SourceOffsets::change(std::function<void(Offset&)> change) {
  // Each write names the version before: two at once would take each other for another owner.
  while (std::exchange(changing_, true)) co_await changed_.wait_uncancelled();
  auto offset = offset_;
  change(offset);
  const auto put = co_await topic_->put(key_, offset.encode(), version_);
  if (put) {
    version_ = *put;
    offset_ = std::move(offset);
  }
  changing_ = false;
  changed_.notify();
  if (!put) co_return put.error();
  if (!topic_->snapshot_due()) co_return Result<void>();
  co_return co_await topic_->snapshot();
}

aio::Task<Result<void>> SourceOffsets::forget() {
  if (version_ == 0) co_return Result<void>();
  const auto removed = co_await topic_->remove(key_, version_);
  if (!removed) co_return removed.error();
  version_ = 0;
  offset_ = {};
  co_return Result<void>();
}

aio::Task<void> SourceOffsets::close() { co_await topic_->close(); }

}  // namespace hulse::runtime

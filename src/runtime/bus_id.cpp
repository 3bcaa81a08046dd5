#include "runtime/bus_id.h"

#include <boost/json.hpp>

#include "base/ids.h"

namespace hulse::runtime {
namespace {

namespace json = boost::json;

constexpr const char* kTopic = "persistent://public/functions/hulse-state";
constexpr std::string_view kKey = "bus-id";

// The id in a record's value, a versioned JSON object.
std::optional<std::string> parse(std::string_view value) {
  boost::system::error_code error;
  const auto parsed = json::parse(value, error);
  if (error || !parsed.is_object()) return std::nullopt;
  const auto* id = parsed.get_object().if_contains("id");
  if (id == nullptr || !id->is_string()) return std::nullopt;
  return std::string(id->get_string());
}

aio::Task<Result<std::optional<std::string>>> first_id(client::Client& client) {
  client::ConsumerOptions options;
  options.topic = kTopic;
  options.subscription = "reader-" + random_hex(5);
  options.type = wire::pb::CommandSubscribe::Exclusive;
  options.initial_position = wire::pb::CommandSubscribe::Earliest;
  options.durable = false;
  options.start = kEarliest;
  const auto reader = co_await client.subscribe(options);
  if (!reader) co_return reader.error();
  std::optional<std::string> found;
  std::optional<Error> failed;
  const auto last = co_await (*reader)->last_message_id();
  if (!last) failed = last.error();
  bool more = last && last->entry >= 0;
  while (more && !found && !failed) {
    const auto messages = co_await (*reader)->receive();
    if (!messages) {
      failed = messages.error();
      break;
    }
    for (const auto& message : (*messages)->list) {
      if (message.key == kKey && !found) found = parse(message.value);
      more = std::pair(message.id.ledger, message.id.entry) < std::pair(last->ledger, last->entry);
    }
  }
  co_await (*reader)->close();
  if (failed) co_return *failed;
  co_return found;
}

}  // namespace

aio::Task<Result<std::string>> bus_id(client::Client& client) {
  auto found = co_await first_id(client);
  if (!found) co_return found.error().with("reading the bus id");
  if (*found) co_return **found;

  client::ProducerOptions options;
  options.topic = kTopic;
  // Keeps the topic's records from being trimmed.
  options.initial_subscription = "hulse";
  const auto producer = co_await client.create_producer(options);
  if (!producer) co_return producer.error().with("writing the bus id");
  const std::string value = json::serialize(json::object{{"v", 1}, {"id", random_hex(8)}});
  const wire::Outgoing message{.value = value, .key = kKey};
  (*producer)->send({&message, 1}, nullptr);
  const auto stored = co_await (*producer)->flush();
  co_await (*producer)->close();
  if (!stored) co_return stored.error().with("writing the bus id");
  // Another one may have been there first.
  found = co_await first_id(client);
  if (!found) co_return found.error().with("reading the bus id");
  if (!*found)
    co_return Error(Code::corrupt, fmt::format("{} does not hold the bus id just written", kTopic));
  co_return **found;
}

}  // namespace hulse::runtime

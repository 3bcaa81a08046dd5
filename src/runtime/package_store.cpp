#include "runtime/package_store.h"

#include <algorithm>
#include <charconv>

#include "base/ids.h"
#include "client/reader.h"

namespace hulse::runtime {
namespace {

constexpr const char* kSubscription = "hulse";  // keeps the newest upload
constexpr size_t kPartBytesMax = 1 << 20;

std::string_view property_of(const Message& message, std::string_view name) {
  for (const auto& [key, value] : message.properties) {
    if (key == name) return value;
  }
  return {};
}

size_t number_of(std::string_view text) {
  size_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

aio::Task<Result<MessageId>> end_of(client::Client& client, std::string topic) {
  client::ReaderOptions options;
  options.topic = std::move(topic);
  options.start = kLatest;
  const auto reader = co_await client::Reader::open(client, std::move(options));
  if (!reader) co_return reader.error();
  const auto end = (*reader)->begin();
  co_await (*reader)->close();
  co_return end;
}

aio::Task<Result<void>> send_parts(std::shared_ptr<client::Producer> producer,
                                   std::string_view bytes) {
  const size_t part_bytes = std::min(kPartBytesMax, producer->message_bytes_max() / 2);
  const size_t parts = std::max<size_t>(1, (bytes.size() + part_bytes - 1) / part_bytes);
  const std::string upload = random_hex(8);
  const std::string count = std::to_string(parts);
  for (size_t i = 0; i < parts; ++i) {
    const bool room = co_await producer->wait_for_room();
    if (!room) break;
    const std::string number = std::to_string(i);
    const Property properties[] = {{"upload", upload}, {"part", number}, {"parts", count}};
    const wire::Outgoing message{
        .value = bytes.substr(std::min(i * part_bytes, bytes.size()), part_bytes),
        .properties = properties};
    producer->send({&message, 1}, [](const Result<MessageId>&) {});  // flush() tells
  }
  co_return co_await producer->flush();
}

// What was there before the upload is no longer needed.
aio::Task<Result<void>> trim(client::Client& client, std::string topic, MessageId until) {
  client::ConsumerOptions options;
  options.topic = topic;
  options.subscription = kSubscription;
  options.type = wire::pb::CommandSubscribe::Failover;
  options.initial_position = wire::pb::CommandSubscribe::Earliest;
  options.messages_max = 1;
  const auto consumer = co_await client.subscribe(std::move(options));
  if (!consumer) co_return consumer.error();
  (*consumer)->ack_until(until);
  const auto acked = co_await (*consumer)->flush_acks();
  co_await (*consumer)->close();
  co_return acked;
}

}  // namespace

std::string package_topic(const std::string& name_space, std::string_view path) {
  std::string flat;
  for (const char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '.' || c == '_' || c == '-';
    if (c == '/') {
      flat += '~';
    } else if (plain) {
      flat += c;
    } else {
      flat += fmt::format("={:02x}", static_cast<unsigned char>(c));
    }
  }
  return fmt::format("persistent://{}/hulse-package~{}", name_space, flat);
}

aio::Task<Result<void>> store_package(client::Client& client, std::string name_space,
                                      std::string path, std::string_view bytes) {
  const auto topic = package_topic(name_space, path);
  client::ProducerOptions options;
  options.topic = topic;
  options.initial_subscription = kSubscription;
  options.batching = client::Batching::off;
  const auto producer = co_await client.create_producer(std::move(options));
  if (!producer) co_return producer.error().with("storing " + path);
  const auto before = co_await end_of(client, topic);
  auto stored = before ? Result<void>() : Result<void>(before.error());
  if (stored) stored = co_await send_parts(*producer, bytes);
  if (stored && before->entry >= 0) stored = co_await trim(client, topic, *before);
  co_await aio::start_cleanup();
  co_await (*producer)->close();
  if (!stored) co_return stored.error().with("storing " + path);
  co_return Result<void>();
}

aio::Task<Result<std::string>> load_package(client::Client& client, std::string name_space,
                                            std::string path) {
  const auto topic = package_topic(name_space, path);
  const Error none(Code::not_found, fmt::format("nothing was uploaded to {}", path));
  const auto listed = co_await client.topics(name_space, "");
  if (!listed) co_return listed.error();
  // Reading would create it.
  if (std::find(listed->names.begin(), listed->names.end(), topic) == listed->names.end())
    co_return none;
  client::ReaderOptions options;
  options.topic = topic;
  auto opened = co_await client::Reader::open(client, std::move(options));
  if (!opened) co_return opened.error().with("reading " + path);
  const auto reader = std::move(*opened);
  std::optional<std::string> complete;
  std::string upload;
  std::string bytes;
  size_t next = 0;
  Result<void> read;
  for (;;) {
    const auto more = co_await reader->has_more();
    if (!more) read = more.error();
    if (!more || !*more) break;
    const auto messages = co_await reader->next();
    if (!messages) {
      read = messages.error();
      break;
    }
    for (const auto& message : (*messages)->list) {
      const auto number = number_of(property_of(message, "part"));
      if (number == 0) {
        upload = property_of(message, "upload");
        bytes.clear();
        next = 0;
      }
      if (property_of(message, "upload") != upload || number != next) continue;  // of a broken one
      bytes += message.value;
      if (++next == number_of(property_of(message, "parts"))) complete = std::move(bytes);
    }
  }
  co_await aio::start_cleanup();
  co_await reader->close();
  if (!read) co_return read.error().with("reading " + path);
  if (!complete) co_return none;
  co_return std::move(*complete);
}

}  // namespace hulse::runtime

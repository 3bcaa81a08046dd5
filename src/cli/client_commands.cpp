// hulse client …: produce and consume, with pulsar-client's words and output.
#include <CLI/CLI.hpp>
#include <fstream>
#include <iostream>
#include <sstream>

#include "aio/run.h"
#include "aio/signals.h"
#include "aio/timeout.h"
#include "base/text.h"
#include "cli/client_settings.h"
#include "cli/command_line.h"
#include "cli/with_client.h"
#include "client/client.h"
#include "wire/compression.h"

namespace hulse::cli {
namespace {

constexpr aio::Duration kStopMax = std::chrono::seconds(5);

struct Words {
  ClientWords client;
  std::string topic;
  // produce
  std::vector<std::string> messages;
  std::vector<std::string> files;
  std::string separator = ",";
  int64_t times = 1;
  double rate = 0;
  std::string key;
  std::vector<std::string> properties;
  std::string compression = "LZ4";
  // consume
  std::string subscription;
  std::string type = "Exclusive";
  std::string position = "Latest";
  int64_t count = 1;
  bool hex = false;
  bool hide = false;
};

Result<std::vector<std::string>> payloads(const Words& words) {
  std::vector<std::string> out;
  for (const auto& text : words.messages) {
    if (words.separator.size() != 1) {
      out.push_back(text);
      continue;
    }
    for (const auto part : split(text, words.separator[0])) out.emplace_back(part);
  }
  for (const auto& path : words.files) {
    std::ifstream file(path, std::ios::binary);
    if (!file)
      return Error(Code::not_found, fmt::format("cannot read {}: {}", path, errno_text(errno)));
    std::stringstream text;
    text << file.rdbuf();
    out.push_back(text.str());
  }
  if (out.empty()) return Error(Code::invalid, "nothing to send: give --messages or --files");
  return out;
}

aio::Task<Result<void>> produce(const Words& words, std::vector<std::string> payloads,
                                wire::pb::CompressionType codec, client::Client& client) {
  std::vector<Property> properties;
  for (const auto& text : words.properties) {
    for (const auto pair : split(text, ',')) {
      const size_t equals = pair.find('=');
      if (equals == std::string_view::npos) {
        co_return Error(Code::invalid, fmt::format("--properties: \"{}\" is not key=value", pair));
      }
      properties.emplace_back(pair.substr(0, equals), pair.substr(equals + 1));
    }
  }
  client::ProducerOptions options;
  options.topic = words.topic;
  options.compression = codec;
  options.chunking = true;
  const auto producer = co_await client.create_topic_producer(options);
  if (!producer) co_return producer.error();
  int64_t stored = 0;
  std::optional<Error> failed;
  const auto began = aio::Clock::now();
  int64_t sent = 0;
  for (int64_t round = 0; round < words.times && !failed; ++round) {
    for (const auto& payload : payloads) {
      wire::Outgoing message{.value = payload, .properties = properties};
      if (!words.key.empty()) message.key = words.key;
      const bool room = co_await (*producer)->wait_for_room();
      if (!room) break;
      if (words.rate > 0) {
        const auto due =
            began + std::chrono::duration_cast<aio::Duration>(
                        std::chrono::duration<double>(static_cast<double>(sent) / words.rate));
        if (due > aio::Clock::now()) co_await aio::sleep_until(due);
      }
      ++sent;
      (*producer)->send({&message, 1}, [&](const Result<MessageId>& id) {
        if (id) {
          ++stored;
        } else if (!failed) {
          failed = id.error();
        }
      });
    }
  }
  const bool stopped = co_await aio::cancelled();
  co_await aio::start_cleanup();
  // Stopped by hand, it does not wait for a broker that cannot store.
  const auto limit = stopped ? kStopMax : aio::Duration(std::chrono::hours(24 * 365));
  const auto flushed =
      co_await aio::with_timeout(limit, "storing what was sent", (*producer)->flush());
  co_await (*producer)->close();
  if (!flushed) co_return flushed.error();
  if (failed) co_return *failed;
  std::cout << fmt::format("{} messages successfully produced\n", stored);
  co_return Result<void>();
}

std::string shown(std::string_view value, bool hex) {
  if (!hex) return std::string(value);
  std::string out;
  for (const char c : value) out += fmt::format("{:02x} ", static_cast<uint8_t>(c));
  if (!out.empty()) out.pop_back();
  return out;
}

void print(const Message& message, const Words& words) {
  std::string properties;
  for (const auto& [key, value] : message.properties) {
    properties += fmt::format("{}{}={}", properties.empty() ? "" : ", ", key, value);
  }
  std::cout << fmt::format(
      "----- got message -----\npublishTime:[{}], eventTime:[{}], key:[{}], properties:[{}], "
      "content:{}\n",
      message.publish_time, message.event_time, message.key.value_or("null"), properties,
      shown(message.value, words.hex));
}

aio::Task<Result<void>> consume(const Words& words, wire::pb::CommandSubscribe::SubType type,
                                client::Client& client) {
  client::ConsumerOptions options;
  options.topic = words.topic;
  options.subscription = words.subscription;
  options.type = type;
  options.initial_position = words.position == "Earliest" ? wire::pb::CommandSubscribe::Earliest
                                                          : wire::pb::CommandSubscribe::Latest;
  options.messages_max = 10'000;
  const auto consumer = co_await client.subscribe(options);
  if (!consumer) co_return consumer.error();
  int64_t taken = 0;
  Result<void> result;
  while (words.count == 0 || taken < words.count) {
    const auto messages = co_await (*consumer)->receive();
    if (!messages) {
      if (!messages.error().cancelled() && messages.error().code() != Code::closed)
        result = messages.error();
      break;
    }
    if ((*messages)->damage) {
      std::cerr << fmt::format("message {} cannot be read: {}\n", (*messages)->id.text(),
                               (*messages)->damage->text());
      (*consumer)->ack((*messages)->id);
      continue;
    }
    for (const auto& message : (*messages)->list) {
      ++taken;
      if (!words.hide) print(message, words);
    }
    std::cout.flush();
    (*consumer)->ack((*messages)->id);
  }
  co_await aio::start_cleanup();
  const auto acked =
      co_await aio::with_timeout(kStopMax, "acknowledging", (*consumer)->flush_acks());
  if (!acked && !acked.error().cancelled()) result = acked.error();
  co_await (*consumer)->close();
  std::cout << fmt::format("{} messages successfully consumed\n", taken);
  co_return result;
}

Result<void> run_produce(const Words& words) {
  auto messages = payloads(words);
  if (!messages) return messages.error();
  const auto codec = wire::parse_compression(words.compression);
  if (!codec) return codec.error();
  auto options = client_options(words.client);
  if (!options) return options.error();
  return run_with_client(std::move(*options), [&](client::Client& client) {
    return produce(words, *messages, *codec, client);
  });
}

Result<void> run_consume(const Words& words) {
  wire::pb::CommandSubscribe::SubType type{};
  if (!wire::pb::CommandSubscribe::SubType_Parse(words.type, &type)) {
    return Error(
        Code::invalid,
        fmt::format("--subscription-type: {} is none of Exclusive, Shared, Failover, Key_Shared",
                    words.type));
  }
  if (words.position != "Latest" && words.position != "Earliest") {
    return Error(
        Code::invalid,
        fmt::format("--subscription-position: {} is neither Latest nor Earliest", words.position));
  }
  auto options = client_options(words.client);
  if (!options) return options.error();
  return run_with_client(std::move(*options),
                         [&](client::Client& client) { return consume(words, type, client); });
}

}  // namespace

void add_client_commands(CLI::App& app, Action& action) {
  const auto words = std::make_shared<Words>();
  app.require_subcommand(1);
  add_client_flags(app, words->client);

  auto* send = app.add_subcommand("produce", "Send messages to a topic");
  add_client_flags(*send, words->client);
  send->add_option("TOPIC", words->topic, "Topic")->required();
  send->add_option("-m,--messages", words->messages, "Messages, separated by --separator")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->delimiter('\0');
  send->add_option("-f,--files", words->files, "Files, each one message");
  send->add_option("-s,--separator", words->separator, "Separates messages; empty: none does")
      ->capture_default_str();
  send->add_option("-n,--num-produce", words->times, "How often to send them")
      ->capture_default_str();
  send->add_option("-r,--rate", words->rate, "Messages a second; 0: as fast as it goes")
      ->capture_default_str();
  send->add_option("-k,--key", words->key, "Key of each message");
  send->add_option("-p,--properties", words->properties, "Properties, key=value");
  send->add_option("--compression", words->compression, "NONE, LZ4, ZLIB, ZSTD or SNAPPY")
      ->capture_default_str();
  send->callback([words, &action] { action = [words] { return run_produce(*words); }; });

  auto* take = app.add_subcommand("consume", "Print messages of a topic");
  add_client_flags(*take, words->client);
  take->add_option("TOPIC", words->topic, "Topic")->required();
  take->add_option("-s,--subscription-name", words->subscription, "Subscription")->required();
  take->add_option("-t,--subscription-type", words->type,
                   "Exclusive, Shared, Failover or Key_Shared")
      ->capture_default_str();
  take->add_option("-p,--subscription-position", words->position,
                   "Where a new subscription begins: Latest or Earliest")
      ->capture_default_str();
  take->add_option("-n,--num-messages", words->count, "How many to take; 0: until it is stopped")
      ->capture_default_str();
  take->add_flag("--hex", words->hex, "Print values as hexadecimal bytes");
  take->add_flag("-q,--hide-content", words->hide, "Count only");
  take->callback([words, &action] { action = [words] { return run_consume(*words); }; });
}

}  // namespace hulse::cli

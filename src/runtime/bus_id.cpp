#include "runtime/bus_id.h"

#include <boost/json.hpp>

#include "base/ids.h"
#include "client/key_value_topic.h"

namespace hulse::runtime {
namespace {

namespace json = boost::json;

constexpr const char* kKey = "bus-id";

// The id in a record's value, a versioned JSON object.
Result<std::string> parse(const client::KeyValueTopic::Value& stored, const std::string& topic) {
  boost::system::error_code error;
  const auto parsed = json::parse(stored.value, error);
  const auto* id = !error && parsed.is_object() ? parsed.get_object().if_contains("id") : nullptr;
  if (id == nullptr || !id->is_string()) {
    return Error(Code::corrupt,
                 fmt::format("{} of {} holds no id: {}", kKey, topic, stored.value.substr(0, 100)));
  }
  return std::string(id->get_string());
}

aio::Task<Result<std::string>> find_or_write(client::KeyValueTopic& state, std::string topic) {
  if (state.find(kKey) == nullptr) {
    const std::string value = json::serialize(json::object{{"v", 1}, {"id", random_hex(8)}});
    // Another one may be there first: then that one's id counts.
    const auto written = co_await state.put(kKey, value, 0);
    if (!written && written.error().code() != Code::busy) co_return written.error();
  }
  const auto* stored = state.find(kKey);
  if (stored == nullptr)
    co_return Error(Code::corrupt, fmt::format("{} does not hold the id just written", topic));
  co_return parse(*stored, topic);
}

}  // namespace

aio::Task<Result<std::string>> bus_id(client::Client& client, std::string name_space) {
  client::KeyValueOptions options;
  const std::string topic = "persistent://" + name_space + "/hulse-state";
  options.topic = topic;
  const auto state = co_await client::KeyValueTopic::open(client, std::move(options));
  if (!state) co_return state.error().with("reading the bus id");
  auto id = co_await find_or_write(**state, topic);
  co_await (*state)->close();
  if (!id) co_return id.error().with("finding the bus id");
  co_return id;
}

}  // namespace hulse::runtime

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

#include "aio/run.h"
#include "connect/descriptor.h"
#include "connect/testing.h"
#include "connectors/data_generator/person.h"

namespace hulse::connectors::data_generator {

std::span<const connect::Descriptor> descriptors();

namespace {

namespace json = boost::json;

TEST(People, AreJsonAndDiffer) {
  People people(1);
  std::set<std::string> seen;
  for (int i = 0; i < 100; ++i) {
    const auto text = people.next();
    const auto person = json::parse(text).as_object();
    EXPECT_TRUE(person.at("address").at("city").is_string());
    EXPECT_TRUE(person.at("company").at("name").is_string());
    EXPECT_GE(person.at("age").as_int64(), 18);
    seen.insert(text);
  }
  EXPECT_GT(seen.size(), 95u);
}

aio::Task<std::pair<size_t, aio::Duration>> read_some(json::object values, int reads) {
  auto made = descriptors()[0].make_source({std::move(values), {}});
  auto& source = **made;
  const auto executor = co_await aio::asio::this_coro::executor;
  const auto context = connect::testing::context_on(executor);
  co_await source.open(context);
  const auto start = aio::Clock::now();
  size_t records = 0;
  for (int i = 0; i < reads; ++i) {
    auto batch = co_await source.read();
    EXPECT_TRUE(batch);
    if (!batch) break;
    size_t bytes = 0;
    for (const auto& record : batch->records) {
      json::parse(record.value);
      bytes += record.value.size();
    }
    EXPECT_EQ(bytes, batch->bytes);
    records += batch->records.size();
  }
  co_await source.close();
  co_return std::pair(records, aio::Clock::now() - start);
}

TEST(DataSource, KeepsItsPace) {
  const auto [records, took] = aio::run(read_some({{"sleepBetweenMessages", "20"}}, 4));
  EXPECT_EQ(records, 4u);
  EXPECT_GE(took, std::chrono::milliseconds(60));  // none before the first one
  const auto [many, quick] = aio::run(read_some({{"sleepBetweenMessages", 0}}, 10));
  EXPECT_EQ(many, 1000u);
}

aio::Task<void> print(connect::testing::Outcomes& outcomes) {
  auto made = descriptors()[1].make_sink({});
  auto& sink = **made;
  auto batch = outcomes.batch(connect::testing::entry_of({"hello", "\xff"}));
  co_await sink.write(std::move(batch));
  co_await sink.close();
}

TEST(PrintSink, PrintsAndAcknowledges) {
  connect::testing::Outcomes outcomes;
  ::testing::internal::CaptureStderr();
  aio::run(print(outcomes));
  const auto printed = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(outcomes.verdicts(0), (std::vector(2, connect::Verdict::ok)));
  EXPECT_NE(printed.find("RECV: hello"), std::string::npos) << printed;
  EXPECT_NE(printed.find("RECV: 1 bytes that are not text"), std::string::npos) << printed;

  const auto refused = descriptors()[1].make_sink({{{"x", 1}}, {}});
  ASSERT_TRUE(refused.has_error());
  EXPECT_EQ(refused.error().text(), "x: unknown key; this connector has none");
}

}  // namespace
}  // namespace hulse::connectors::data_generator

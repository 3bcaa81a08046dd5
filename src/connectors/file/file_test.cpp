#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/json/parse.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "aio/run.h"
#include "base/text.h"
#include "connect/descriptor.h"
#include "connect/testing.h"
#include "connectors/file/append_file.h"
#include "connectors/file/line.h"

namespace hulse::connectors::file {

std::span<const connect::Descriptor> descriptors();

namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using connect::Verdict;
using connect::testing::entry_of;
using connect::testing::Outcomes;

class FileSink : public ::testing::Test {
 protected:
  FileSink() {
    std::string name = (fs::temp_directory_path() / "hulse-file-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~FileSink() override { fs::remove_all(folder_); }

  std::string path(const std::string& name = "out") const { return (folder_ / name).string(); }
  std::string content(const std::string& name = "out") const {
    std::ifstream in(path(name), std::ios::binary);
    std::ostringstream out;
    out << in.rdbuf();
    return out.str();
  }
  void put(const std::string& text) const { std::ofstream(path(), std::ios::binary) << text; }

  static Result<std::unique_ptr<connect::Sink>> make(json::object values) {
    return descriptors()[0].make_sink({std::move(values), {}});
  }

  // Opens a sink, writes the entries, closes it.
  aio::Task<Result<void>> write(json::object values,
                                std::vector<std::shared_ptr<const connect::Records>> entries,
                                Outcomes& outcomes) {
    auto made = make(std::move(values));
    if (!made) co_return std::move(made).error();
    auto& sink = **made;
    const auto executor = co_await aio::asio::this_coro::executor;
    const auto context = connect::testing::context_on(executor);
    auto opened = co_await sink.open(context);
    if (opened) {
      for (const auto& entry : entries) {
        auto batch = outcomes.batch(entry);
        co_await sink.write(std::move(batch));
      }
      co_await sink.flush();
    }
    co_await sink.close();
    co_return opened;
  }

  fs::path folder_;
};

TEST_F(FileSink, WritesJsonLinesThatParse) {
  Outcomes outcomes;
  const std::string odd = "quote \" back \\ line \n tab \t bell \a umlaut \xc3\xa4";
  const std::string binary("\x00\x01\xff\xfe", 4);
  const auto done = aio::run(write(
      {{"path", path()}},
      {entry_of({odd, binary, ""}, 5, {"k1", std::nullopt, "\xff"}, {{"p", "v\"1"}})}, outcomes));
  ASSERT_TRUE(done) << done.error().text();
  EXPECT_EQ(outcomes.verdicts(0), (std::vector(3, Verdict::ok)));

  std::vector<json::object> lines;
  std::istringstream in(content());
  for (std::string line; std::getline(in, line);) lines.push_back(json::parse(line).as_object());
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0].at("value").as_string(), odd);
  EXPECT_EQ(lines[0].at("key").as_string(), "k1");
  EXPECT_EQ(lines[0].at("properties").at("p").as_string(), "v\"1");
  EXPECT_EQ(lines[0].at("topic").as_string(), "persistent://public/default/topic");
  EXPECT_EQ(lines[0].at("messageId").as_string(), "1:5:-1:0");
  EXPECT_EQ(lines[0].at("publishTime").as_int64(), 1700000000000);
  EXPECT_FALSE(lines[0].contains("eventTime"));
  EXPECT_FALSE(lines[1].contains("value"));
  EXPECT_EQ(lines[1].at("valueBase64").as_string(), "AAH//g==");
  EXPECT_FALSE(lines[1].contains("key"));
  EXPECT_EQ(lines[2].at("value").as_string(), "");
  EXPECT_EQ(lines[2].at("keyBase64").as_string(), "/w==");
}

TEST_F(FileSink, TombstonesAndEventTimes) {
  Message record;
  record.null_value = true;
  record.event_time = 42;
  std::string line;
  append_json_line(line, record, "t");
  const auto parsed = json::parse(line).as_object();
  EXPECT_TRUE(parsed.at("value").is_null());
  EXPECT_EQ(parsed.at("eventTime").as_int64(), 42);
}

TEST_F(FileSink, RawAppendsInOrderOverManyBatches) {
  put("before\n");
  Outcomes outcomes;
  std::vector<std::shared_ptr<const connect::Records>> entries;
  std::string expected = "before\n";
  for (int i = 0; i < 300; ++i) {
    std::vector<std::string> values;
    for (int j = 0; j < 20; ++j) {
      values.push_back(std::to_string(i) + "/" + std::to_string(j) + std::string(1000, 'x'));
      expected += values.back() + "\n";
    }
    entries.push_back(entry_of(values));
  }
  const auto done =
      aio::run(write({{"path", path("{instance}")}, {"format", "RAW"}}, entries, outcomes));
  ASSERT_TRUE(done) << done.error().text();
  EXPECT_EQ(outcomes.settled(), 300u);
  EXPECT_EQ(outcomes.verdicts(299), (std::vector(20, Verdict::ok)));
  EXPECT_EQ("before\n" + content("0"), expected);
  EXPECT_EQ(content(), "before\n");
}

TEST_F(FileSink, EndsATornLastLine) {
  const auto written = [&](const std::string& before, const char* format) {
    put(before);
    Outcomes outcomes;
    const auto done =
        aio::run(write({{"path", path()}, {"format", format}}, {entry_of({"new"})}, outcomes));
    EXPECT_TRUE(done) << done.error().text();
    const auto text = content();
    return text.substr(0, text.rfind('\n', text.size() - 2) + 1);  // without the line just added
  };
  EXPECT_EQ(written("{\"a\":1}\n{\"b\":", "json"), "{\"a\":1}\n");
  EXPECT_EQ(written("{\"a\":1}\n{\"b\":2}", "json"), "{\"a\":1}\n{\"b\":2}\n");
  EXPECT_EQ(written("{\"torn", "json"), "");
  EXPECT_EQ(written("one\ntw", "raw"), "one\ntw\n");
  const std::string long_line = "{\"a\":\"" + std::string(200000, 'y');
  EXPECT_EQ(written("{}\n" + long_line, "json"), "{}\n");
  EXPECT_EQ(written("{}\n" + long_line + "\"}", "json"), "{}\n" + long_line + "\"}\n");
}

TEST_F(FileSink, SaysWhyItCannotOpen) {
  const auto why = [&](const std::string& file) {
    Outcomes outcomes;
    const auto done = aio::run(write({{"path", file}}, {}, outcomes));
    return done ? std::pair(Code::internal, std::string("opened"))
                : std::pair(done.error().code(), done.error().text());
  };
  const auto missing = path("missing/out");
  EXPECT_EQ(why(missing),
            std::pair(Code::invalid, "opening " + missing + ": " + errno_text(ENOENT) +
                                         "; make its folder first"));
  EXPECT_EQ(why(folder_.string()),
            std::pair(Code::invalid, "opening " + folder_.string() + ": " + errno_text(EISDIR)));
  AppendFile other;
  ASSERT_TRUE(other.open(path(), true));
  EXPECT_EQ(why(path()).first, Code::busy);
  EXPECT_NE(why(path()).second.find("{instance}"), std::string::npos) << why(path()).second;

  const auto made = make({{"pth", "x"}});
  ASSERT_TRUE(made.has_error());
  EXPECT_EQ(made.error().text(),
            "pth: unknown key; did you mean path?\npath: required, but missing");
}

TEST_F(FileSink, AFullDiskMeansRetry) {
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full here";
  Outcomes outcomes;
  const auto done = aio::run(write({{"path", "/dev/full"}}, {entry_of({"a", "b"})}, outcomes));
  ASSERT_TRUE(done) << done.error().text();
  EXPECT_EQ(outcomes.verdicts(0), (std::vector(2, Verdict::retry)));
  EXPECT_EQ(outcomes.of(0)[0].error.text(), "writing to /dev/full: " + errno_text(ENOSPC));
}

TEST_F(FileSink, DiscardTakesBackWhatWasNotSynced) {
  AppendFile file;
  ASSERT_TRUE(file.open(path(), false));
  ASSERT_TRUE(file.append("kept\n"));
  ASSERT_TRUE(file.sync());
  ASSERT_TRUE(file.append("lost"));
  file.discard();
  ASSERT_TRUE(file.append("next\n"));
  ASSERT_TRUE(file.sync());
  EXPECT_EQ(content(), "kept\nnext\n");
}

aio::Task<void> close_at_once(std::unique_ptr<connect::Sink> sink, Outcomes& outcomes) {
  const auto executor = co_await aio::asio::this_coro::executor;
  const auto context = connect::testing::context_on(executor);
  const auto opened = co_await sink->open(context);
  EXPECT_TRUE(opened);
  for (int i = 0; i < 50; ++i) {
    auto batch = outcomes.batch(entry_of({std::string(1000, 'z')}, i));
    co_await sink->write(std::move(batch));
  }
  co_await sink->close();
  co_await sink->close();
}

TEST_F(FileSink, CloseSettlesEveryBatchAndKeepsItsWord) {
  Outcomes outcomes;
  auto made = make({{"path", path()}, {"format", "raw"}});
  aio::run(close_at_once(std::move(*made), outcomes));
  ASSERT_EQ(outcomes.settled(), 50u);
  size_t kept = 0;
  for (size_t i = 0; i < 50; ++i) {
    const auto verdict = outcomes.verdicts(i)[0];
    EXPECT_TRUE(verdict == Verdict::ok || verdict == Verdict::retry);
    kept += verdict == Verdict::ok;
  }
  EXPECT_EQ(content().size(), kept * 1001);
}

}  // namespace
}  // namespace hulse::connectors::file

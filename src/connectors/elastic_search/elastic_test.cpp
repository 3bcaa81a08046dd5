#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "aio/gate.h"
#include "aio/http_server.h"
#include "aio/listen.h"
#include "aio/run.h"
#include "aio/timeout.h"
#include "base/text.h"
#include "connect/descriptor.h"
#include "connect/testing.h"

namespace hulse::connectors::elastic_search {

std::span<const connect::Descriptor> descriptors();

namespace {

using aio::HttpRequest;
using aio::HttpResponse;
using aio::Task;
using connect::Verdict;
using connect::testing::entry_of;
using connect::testing::Outcomes;
namespace json = boost::json;
using namespace std::chrono_literals;
using Texts = std::vector<std::string>;

std::string problems(json::object values, json::object secrets = {}) {
  const auto made = descriptors()[0].make_sink({std::move(values), std::move(secrets)});
  return made ? "none" : made.error().text();
}

TEST(ElasticConfigs, TakeTheBooksKeysAndRefuseWhatCannotWork) {
  EXPECT_EQ(problems({{"elasticSearchUrl", "http://localhost:9200"},
                      {"indexName", "my_index"},
                      {"typeName", "doc"},
                      {"indexNumberOfShards", "2"},
                      {"indexNumberOfReplicas", 0},
                      {"username", "scooby"},
                      {"password", "doo"}}),
            "none");
  EXPECT_EQ(problems({{"elasticSearchUrl", "http://a, https://b"},
                      {"schemaEnable", false},
                      {"bulkEnabled", "true"},
                      {"nullValueAction", "DELETE"},
                      {"ssl", {{"enabled", true}, {"protocols", "TLSv1.2,TLSv1.3"}}}},
                     {{"token", "t"}}),
            "none");
  EXPECT_EQ(problems({{"indxName", "i"}, {"bulkActions", "many"}, {"indexNumberOfShards", 0}}),
            "indxName: unknown key; did you mean indexName?\n"
            "elasticSearchUrl: required, but missing\n"
            "indexNumberOfShards: 0 is too small; at least 1\n"
            "bulkActions: \"many\" is not a whole number");
  EXPECT_EQ(
      problems({{"elasticSearchUrl", "localhost:9200"},
                {"indexName", "My"},
                {"username", "u"},
                {"token", "t"},
                {"schemaEnable", "true"},
                {"bulkSizeInMb", 0},
                {"ssl.truststorePath", "x.jks"},
                {"ssl.protocols", "SSLv3"}}),
      "schemaEnable: documents built from the topic's schema do not exist here yet; without it the "
      "payload is the document\n"
      "elasticSearchUrl: localhost:9200 does not begin with http:// or https:// and a host\n"
      "indexName: My has capital letters, which Elasticsearch does not take\n"
      "bulkSizeInMb: 0 would send nothing; give -1 for no limit\n"
      "password: username and password go together\n"
      "token: give one of username and password, token, or apiKey\n"
      "ssl.truststorePath: a key store cannot be read here; give the certificates as a PEM file\n"
      "ssl.protocols: SSLv3 is not one of TLSv1.2, TLSv1.3");
  for (const auto& text :
       {problems({{"elasticSearchUrl", "ftp://u:canary-1@h"}}),
        problems({{"elasticSearchUrl", "http://h"}, {"password", "canary-1"}})}) {
    EXPECT_NE(text, "none");
    EXPECT_EQ(text.find("canary"), std::string::npos) << text;
  }
}

struct Operation {
  std::string action;
  std::string index;
  std::string id;
  std::string document;
};

// An Elasticsearch that stores nothing and judges as it is told.
class Fake {
 public:
  // The status of an item; 0 stands for 201.
  std::function<unsigned(const Operation&)> item = [](const Operation&) { return 0; };
  // An answer to a whole bulk; nothing lets the items speak.
  std::function<std::optional<HttpResponse>(size_t request, const std::vector<Operation>&)> whole =
      [](size_t, const std::vector<Operation>&) { return std::nullopt; };
  unsigned root_status = 200;
  std::set<std::string> indices;  // for HEAD and PUT
  aio::Duration delay = 0ms;

  std::vector<std::vector<Operation>> bulks;
  std::vector<HttpRequest> requests;
  size_t at_once = 0;
  size_t most_at_once = 0;

  Task<bool> start(uint16_t port = 0) {
    aio::HttpServerOptions options;
    options.port = port;
    const aio::HttpHandler handler = [this](HttpRequest request) {
      return answer(std::move(request));
    };
    auto started = co_await aio::HttpServer::start(options, handler);
    if (!started) co_return false;
    server_ = std::move(*started);
    co_return true;
  }
  Task<void> stop() {
    if (server_) co_await server_->stop(1s);
    server_.reset();
  }
  std::string url() const { return "http://" + aio::to_string(server_->endpoint()); }
  uint16_t port() const { return server_->endpoint().port(); }
  size_t documents() const {
    size_t count = 0;
    for (const auto& bulk : bulks) count += bulk.size();
    return count;
  }

 private:
  static std::vector<Operation> parse(const std::string& body) {
    std::vector<Operation> out;
    EXPECT_TRUE(body.ends_with('\n'));
    const auto lines = split(body, '\n');
    for (size_t i = 0; i + 1 < lines.size(); ++i) {
      const auto action = json::parse(lines[i]).as_object();
      Operation operation;
      operation.action = action.begin()->key();
      const auto& target = action.begin()->value().as_object();
      operation.index = target.at("_index").as_string();
      if (target.contains("_id")) operation.id = target.at("_id").as_string();
      if (operation.action != "delete") operation.document = lines[++i];
      out.push_back(std::move(operation));
    }
    return out;
  }

  Task<HttpResponse> answer(HttpRequest request) {
    HttpResponse response;
    response.content_type = "application/json";
    requests.push_back(request);
    const std::string path(request.path());
    if (request.method == "GET") {
      response.status = root_status;
      response.body = R"({"version":{"number":"7.10.2"}})";
      co_return response;
    }
    if (request.method == "HEAD" || request.method == "PUT") {
      const bool known = indices.contains(path.substr(1));
      if (request.method == "PUT") {
        response.status = known ? 400 : 200;
        response.body = known ? R"({"error":{"type":"resource_already_exists_exception"}})" : "{}";
        indices.insert(path.substr(1));
      } else {
        response.status = known ? 200 : 404;
      }
      co_return response;
    }
    EXPECT_EQ(path, "/_bulk");
    most_at_once = std::max(most_at_once, ++at_once);
    const auto operations = parse(request.body);
    bulks.push_back(operations);
    if (delay > 0ms) co_await aio::sleep(delay);
    --at_once;
    auto told = whole(bulks.size(), operations);
    if (told) co_return *told;
    json::array items;
    bool errors = false;
    for (const auto& operation : operations) {
      const unsigned status = item(operation);
      json::object result{{"status", status == 0 ? 201 : status}};
      if (status >= 300) {
        errors = true;
        result["error"] = {{"type", "told"}, {"reason", "as told"}};
      }
      items.push_back({{operation.action, result}});
    }
    response.body = json::serialize(json::object{{"errors", errors}, {"items", items}});
    co_return response;
  }
  std::unique_ptr<aio::HttpServer> server_;
};

// A sink in front of fakes.
class Elastic {
 public:
  explicit Elastic(aio::Executor executor) : context(connect::testing::context_on(executor)) {}

  Task<Result<void>> open(json::object values) {
    auto made = descriptors()[0].make_sink({std::move(values), {}});
    if (!made) co_return std::move(made).error();
    sink = std::move(*made);
    auto opened = co_await sink->open(context);
    co_return opened;
  }
  Task<void> write(std::shared_ptr<const connect::Records> records) {
    auto batch = outcomes.batch(records);
    co_await sink->write(std::move(batch));
  }
  // Waits until the `number`-th batch written has its outcomes.
  Task<std::vector<Verdict>> verdicts(size_t number) {
    for (int i = 0; i < 10'000 && outcomes.of(number).empty(); ++i) co_await aio::sleep(1ms);
    co_return outcomes.verdicts(number);
  }

  connect::Context context;
  Outcomes outcomes;
  std::unique_ptr<connect::Sink> sink;
};

Task<void> writes_documents() {
  const auto executor = co_await aio::asio::this_coro::executor;
  Fake fake;
  co_await fake.start();
  Elastic elastic(executor);
  const auto opened = co_await elastic.open({{"elasticSearchUrl", fake.url() + "/"},
                                             {"indexName", "i"},
                                             {"username", "u"},
                                             {"password", "p"}});
  EXPECT_TRUE(opened) << opened.error().text();
  co_await elastic.write(entry_of({R"({"n":1})", "{\n\"n\":2}\n", "", "no object", R"({"n":3})"}));
  const auto got = co_await elastic.verdicts(0);
  EXPECT_EQ(got,
            (std::vector{Verdict::ok, Verdict::ok, Verdict::ok, Verdict::reject, Verdict::ok}));
  EXPECT_EQ(elastic.outcomes.of(0)[3].error.text(), "the payload is not a JSON object");
  EXPECT_EQ(fake.documents(), 3u);
  if (fake.documents() == 3) {
    EXPECT_EQ(fake.bulks[0][0].index, "i");
    EXPECT_EQ(fake.bulks[0][0].id, "");
    EXPECT_EQ(fake.bulks[0][1].document, R"({"n":2})");
  }
  for (const auto& request : fake.requests) {
    EXPECT_EQ(aio::find_header(request.headers, "authorization"), "Basic dTpw");
  }
  // Many batches: requests hold what waits, up to the limit, and flush waits for all.
  constexpr size_t kBatches = 300;
  for (size_t i = 0; i < kBatches; ++i) {
    co_await elastic.write(entry_of(Texts(10, R"({"m":1})"), static_cast<int64_t>(i)));
  }
  co_await elastic.sink->flush();
  EXPECT_EQ(elastic.outcomes.settled(), kBatches + 1);
  EXPECT_EQ(fake.documents(), 3 + kBatches * 10);
  EXPECT_LT(fake.bulks.size(), 50u);
  for (const auto& bulk : fake.bulks) EXPECT_LE(bulk.size(), 1000u);
  EXPECT_LE(fake.most_at_once, 2u);
  co_await elastic.sink->close();
  co_await fake.stop();
}
TEST(ElasticSink, WritesDocuments) { aio::run(writes_documents()); }

Task<void> gives_each_item_its_outcome() {
  const auto executor = co_await aio::asio::this_coro::executor;
  Fake fake;
  fake.item = [](const Operation& operation) {
    const auto n = json::parse(operation.document).at("n").as_int64();
    return static_cast<unsigned>(n);
  };
  co_await fake.start();
  for (const char* action : {"FAIL", "WARN", "IGNORE"}) {
    Elastic elastic(executor);
    const auto opened = co_await elastic.open(
        {{"elasticSearchUrl", fake.url()}, {"indexName", "i"}, {"malformedDocAction", action}});
    EXPECT_TRUE(opened) << opened.error().text();
    co_await elastic.write(
        entry_of({R"({"n":201})", R"({"n":429})", R"({"n":503})", R"({"n":400})", R"({"n":403})"}));
    const auto got = co_await elastic.verdicts(0);
    const auto malformed = std::string_view(action) == "FAIL" ? Verdict::reject : Verdict::ok;
    EXPECT_EQ(
        got, (std::vector{Verdict::ok, Verdict::retry, Verdict::retry, malformed, Verdict::fatal}));
    EXPECT_EQ(elastic.outcomes.of(0)[1].error.text(), "index i: status 429: told: as told");
    co_await elastic.sink->close();
  }
  co_await fake.stop();
}
TEST(ElasticSink, GivesEachItemItsOutcome) { aio::run(gives_each_item_its_outcome()); }

HttpResponse plain(unsigned status, std::string body = {}) {
  HttpResponse response;
  response.status = status;
  response.body = std::move(body);
  return response;
}

Task<void> whole_requests() {
  const auto executor = co_await aio::asio::this_coro::executor;
  Fake fake;
  co_await fake.start();
  Elastic elastic(executor);
  const auto opened = co_await elastic.open({{"elasticSearchUrl", fake.url()}, {"indexName", "i"}});
  EXPECT_TRUE(opened) << opened.error().text();
  const auto records =
      entry_of({R"({"n":1})", R"({"n":2})", R"({"n":3})", R"({"n":4})", R"({"n":5})"});

  fake.whole = [](size_t, const auto&) { return plain(502, "bad gateway"); };
  co_await elastic.write(records);
  auto got = co_await elastic.verdicts(0);
  EXPECT_EQ(got, std::vector(5, Verdict::retry));
  EXPECT_EQ(elastic.outcomes.of(0)[0].error.text(),
            "index i: " + fake.url() + ": status 502: bad gateway");

  fake.whole = [](size_t, const auto&) {
    return plain(403, R"({"error":{"type":"security_exception","reason":"not allowed"}})");
  };
  co_await elastic.write(records);
  got = co_await elastic.verdicts(1);
  EXPECT_EQ(got, std::vector(5, Verdict::fatal));

  // Refused as a whole for one of them: the others get through.
  fake.bulks.clear();
  fake.whole = [](size_t, const std::vector<Operation>& operations) -> std::optional<HttpResponse> {
    for (const auto& operation : operations) {
      if (operation.document == R"({"n":4})") return plain(400, R"({"error":"no"})");
    }
    return std::nullopt;
  };
  co_await elastic.write(records);
  got = co_await elastic.verdicts(2);
  EXPECT_EQ(got,
            (std::vector{Verdict::ok, Verdict::ok, Verdict::ok, Verdict::reject, Verdict::ok}));

  // An answer for another number of items is no answer.
  fake.whole = [](size_t, const auto&) { return plain(200, R"({"errors":false,"items":[]})"); };
  co_await elastic.write(records);
  got = co_await elastic.verdicts(3);
  EXPECT_EQ(got, std::vector(5, Verdict::retry));

  // The target's wish for a pause is heard.
  fake.whole = [](size_t, const auto&) -> std::optional<HttpResponse> {
    auto response = plain(429, "slow down");
    response.headers.emplace_back("Retry-After", "1");
    return response;
  };
  co_await elastic.write(records);
  got = co_await elastic.verdicts(4);
  EXPECT_EQ(got, std::vector(5, Verdict::retry));
  const auto start = aio::Clock::now();
  fake.whole = [](size_t, const auto&) { return std::nullopt; };
  co_await elastic.write(records);
  got = co_await elastic.verdicts(5);
  EXPECT_EQ(got, std::vector(5, Verdict::ok));
  EXPECT_GE(aio::Clock::now() - start, 800ms);

  // And a target that is away.
  co_await fake.stop();
  co_await elastic.write(records);
  got = co_await elastic.verdicts(6);
  EXPECT_EQ(got, std::vector(5, Verdict::retry));
  co_await elastic.sink->close();
}
TEST(ElasticSink, KnowsWhatWholeRequestsMean) { aio::run(whole_requests()); }

Task<void> opening() {
  const auto executor = co_await aio::asio::this_coro::executor;
  Fake fake;
  co_await fake.start();
  auto acceptor = co_await aio::listen("127.0.0.1", 0);
  const auto nobody = "http://" + aio::to_string(acceptor->local_endpoint());
  acceptor->close();
  {
    Elastic elastic(executor);
    const auto opened = co_await elastic.open({{"elasticSearchUrl", nobody}});
    EXPECT_TRUE(opened.has_error());
    EXPECT_EQ(opened.error().code(), Code::unavailable);
    EXPECT_TRUE(opened.error().text().starts_with("GET " + nobody + "/: "))
        << opened.error().text();
    co_await elastic.sink->close();
  }
  {
    // The second URL answers; the index is the topic's.
    Elastic elastic(executor);
    const auto opened = co_await elastic.open({{"elasticSearchUrl", nobody + "," + fake.url()}});
    EXPECT_TRUE(opened) << opened.error().text();
    co_await elastic.write(entry_of({"{}"}));
    const auto got = co_await elastic.verdicts(0);
    EXPECT_EQ(got, std::vector{Verdict::ok});
    EXPECT_EQ(fake.bulks[0][0].index, "topic");
    co_await elastic.sink->close();
  }
  fake.root_status = 401;
  {
    Elastic elastic(executor);
    const auto opened = co_await elastic.open({{"elasticSearchUrl", fake.url()}});
    EXPECT_TRUE(opened.has_error());
    EXPECT_EQ(opened.error().code(), Code::permission);
    co_await elastic.sink->close();
  }
  fake.root_status = 403;  // may write, may not ask
  {
    Elastic elastic(executor);
    const auto opened = co_await elastic.open({{"elasticSearchUrl", fake.url()}});
    EXPECT_TRUE(opened) << opened.error().text();
    co_await elastic.sink->close();
  }
  co_await fake.stop();
}
TEST(ElasticSink, OpensWhereSomebodyAnswers) { aio::run(opening()); }

Task<void> makes_indices() {
  const auto executor = co_await aio::asio::this_coro::executor;
  Fake fake;
  co_await fake.start();
  Elastic elastic(executor);
  const auto opened = co_await elastic.open({{"elasticSearchUrl", fake.url()},
                                             {"indexName", "i"},
                                             {"createIndexIfNeeded", true},
                                             {"indexNumberOfShards", 3}});
  EXPECT_TRUE(opened) << opened.error().text();
  co_await elastic.write(entry_of({"{}"}));
  auto got = co_await elastic.verdicts(0);
  EXPECT_EQ(got, std::vector{Verdict::ok});
  co_await elastic.write(entry_of({"{}"}));
  got = co_await elastic.verdicts(1);
  std::string seen;
  for (const auto& request : fake.requests) {
    seen += request.method + " " + std::string(request.path()) + "\n";
    if (request.method == "PUT") {
      EXPECT_EQ(request.body, R"({"settings":{"number_of_shards":3,"number_of_replicas":0}})");
    }
  }
  EXPECT_EQ(seen, "GET /\nHEAD /i\nPUT /i\nPOST /_bulk\nPOST /_bulk\n");
  co_await elastic.sink->close();
  co_await fake.stop();
}
TEST(ElasticSink, MakesIndices) { aio::run(makes_indices()); }

Task<void> ids_of_places() {
  const auto executor = co_await aio::asio::this_coro::executor;
  Fake fake;
  co_await fake.start();
  Elastic elastic(executor);
  elastic.context.guarantee = connect::Guarantee::effectively_once;
  const auto opened = co_await elastic.open({{"elasticSearchUrl", fake.url()}, {"indexName", "i"}});
  EXPECT_TRUE(opened) << opened.error().text();
  co_await elastic.write(entry_of({"{}", "{}"}, 7));
  co_await elastic.write(entry_of({"{}", "{}"}, 7));
  auto got = co_await elastic.verdicts(1);
  EXPECT_EQ(got, std::vector(2, Verdict::ok));
  Texts ids;
  for (const auto& bulk : fake.bulks) {
    for (const auto& operation : bulk) ids.push_back(operation.id);
  }
  const Texts twice = {"bus-public/default/topic-1-7-0", "bus-public/default/topic-1-7-1",
                       "bus-public/default/topic-1-7-0", "bus-public/default/topic-1-7-1"};
  EXPECT_EQ(ids, twice);
  co_await elastic.sink->close();
  co_await fake.stop();
}
TEST(ElasticSink, ARepeatHasTheSameId) { aio::run(ids_of_places()); }

Task<void> ids_of_keys() {
  const auto executor = co_await aio::asio::this_coro::executor;
  Fake fake;
  fake.delay = 5ms;
  co_await fake.start();
  Elastic elastic(executor);
  const auto opened = co_await elastic.open({{"elasticSearchUrl", fake.url()},
                                             {"indexName", "i"},
                                             {"keyIgnore", "false"},
                                             {"nullValueAction", "DELETE"},
                                             {"bulkConcurrentRequests", 8}});
  EXPECT_TRUE(opened) << opened.error().text();
  // a twice: never in one request, never in two at once, in order.
  co_await elastic.write(entry_of({R"({"v":1})", R"({"v":1})", R"({"v":2})", "", "", R"({"v":9})"},
                                  1, {"a", "b", "a", "b", std::nullopt, std::nullopt}));
  auto got = co_await elastic.verdicts(0);
  EXPECT_EQ(got, (std::vector{Verdict::ok, Verdict::ok, Verdict::ok, Verdict::ok, Verdict::reject,
                              Verdict::ok}));
  EXPECT_EQ(fake.most_at_once, 1u);
  std::string seen;
  for (const auto& bulk : fake.bulks) {
    for (const auto& operation : bulk) {
      seen += operation.action + " " + operation.id + operation.document + ",";
    }
    seen += "\n";
  }
  EXPECT_EQ(seen,
            "index a{\"v\":1},index b{\"v\":1},\nindex a{\"v\":2},delete b,index {\"v\":9},\n");

  // A change that has to be tried again holds back later ones of its document, and of no other.
  int refuse = 1;
  fake.item = [&](const Operation& operation) {
    return operation.document == R"({"v":3})" && refuse-- > 0 ? 429u : 0u;
  };
  const auto first = entry_of({R"({"v":3})"}, 2, {"a"});
  const auto second = entry_of({R"({"v":4})", R"({"v":4})"}, 3, {"a", "c"});
  co_await elastic.write(first);
  co_await elastic.write(second);
  got = co_await elastic.verdicts(1);
  EXPECT_EQ(got, std::vector{Verdict::retry});
  got = co_await elastic.verdicts(2);
  EXPECT_EQ(got, (std::vector{Verdict::retry, Verdict::ok}));
  const auto held = entry_of({R"({"v":4})"}, 3, {"a"});
  co_await elastic.write(held);
  got = co_await elastic.verdicts(3);
  EXPECT_EQ(got, std::vector{Verdict::retry});
  co_await elastic.write(first);
  got = co_await elastic.verdicts(4);
  EXPECT_EQ(got, std::vector{Verdict::ok});
  co_await elastic.write(held);
  got = co_await elastic.verdicts(5);
  EXPECT_EQ(got, std::vector{Verdict::ok});
  co_await elastic.sink->close();
  co_await fake.stop();
}
TEST(ElasticSink, ChangesOfOneDocumentStayInOrder) { aio::run(ids_of_keys()); }

Task<void> blocked_write(Elastic& elastic, size_t& written) {
  for (int i = 0; i < 100; ++i) {
    co_await elastic.write(entry_of({"{\"x\":\"" + std::string(500'000, 'x') + "\"}"}, i));
    ++written;
  }
}
Task<void> full_and_closed() {
  const auto executor = co_await aio::asio::this_coro::executor;
  Fake fake;
  fake.delay = 10s;
  co_await fake.start();
  Elastic elastic(executor);
  const auto opened = co_await elastic.open(
      {{"elasticSearchUrl", fake.url()}, {"indexName", "i"}, {"bulkSizeInMb", 1}});
  EXPECT_TRUE(opened) << opened.error().text();
  aio::Gate gate(executor);
  size_t written = 0;
  gate.spawn("writer", blocked_write(elastic, written));
  co_await aio::sleep(200ms);
  EXPECT_GT(written, 3u);
  EXPECT_LT(written, 15u);  // 50 MB did not get in
  const auto start = aio::Clock::now();
  co_await gate.close();
  co_await elastic.sink->close();
  EXPECT_LT(aio::Clock::now() - start, 1s);
  // Nothing is lost: every batch that was taken comes back.
  EXPECT_EQ(elastic.outcomes.settled(), written);
  for (size_t i = 0; i < written; ++i) {
    EXPECT_EQ(elastic.outcomes.verdicts(i), std::vector{Verdict::retry});
  }
  co_await elastic.sink->close();
  co_await fake.stop();
}
TEST(ElasticSink, AFullSinkHoldsItsWriterAndClosesAtOnce) { aio::run(full_and_closed()); }

Task<void> asks_for_what_it_reads() {
  const auto executor = co_await aio::asio::this_coro::executor;
  Fake fake;
  co_await fake.start();
  Elastic elastic(executor);
  const auto opened = co_await elastic.open({{"elasticSearchUrl", fake.url()}, {"indexName", "i"}});
  EXPECT_TRUE(opened) << opened.error().text();
  co_await elastic.write(entry_of({"{}"}));
  co_await elastic.sink->flush();
  EXPECT_EQ(fake.requests.size(), 2u);
  EXPECT_EQ(fake.requests.back().query(), "filter_path=errors,items.*.status,items.*.error");
  EXPECT_EQ(aio::find_header(fake.requests.back().headers, "content-type"), "application/json");
  co_await elastic.sink->close();
  co_await fake.stop();
}
TEST(ElasticSink, AsksForWhatItReads) { aio::run(asks_for_what_it_reads()); }

}  // namespace
}  // namespace hulse::connectors::elastic_search

#include "connect/descriptor.h"

#include <gtest/gtest.h>

namespace hulse::connect {
namespace {

constexpr std::string_view kElasticAliases[] = {"elastic-search", "opensearch"};
const Descriptor kElastic{.name = "elastic_search", .kind = Kind::sink, .aliases = kElasticAliases};
const Descriptor kNetty{.name = "netty", .kind = Kind::source};
const Descriptor kDataSource{.name = "data-generator", .kind = Kind::source};
const Descriptor kDataSink{.name = "data-generator", .kind = Kind::sink};
const Descriptor kHdfs{.name = "hdfs3", .kind = Kind::sink};
const Descriptor kAdaptor{.name = "kafka-connect-adaptor", .kind = Kind::sink};
constexpr const Descriptor* kList[] = {&kElastic,  &kNetty, &kDataSource,
                                       &kDataSink, &kHdfs,  &kAdaptor};

TEST(Descriptors, AreFoundByNameAndAlias) {
  EXPECT_EQ(find_in(kList, Kind::sink, "elastic_search"), &kElastic);
  EXPECT_EQ(find_in(kList, Kind::sink, "Elastic-Search"), &kElastic);
  EXPECT_EQ(find_in(kList, Kind::sink, "OpenSearch"), &kElastic);
  EXPECT_EQ(find_in(kList, Kind::source, "elastic_search"), nullptr);
  EXPECT_EQ(find_in(kList, Kind::source, "data_generator"), &kDataSource);
  EXPECT_EQ(find_in(kList, Kind::sink, "data-generator"), &kDataSink);
  EXPECT_EQ(find_in(kList, Kind::sink, ""), nullptr);
}

TEST(Descriptors, AreFoundByOfficialArchives) {
  const auto sink = [](std::string_view path) { return find_archive_in(kList, Kind::sink, path); };
  EXPECT_EQ(sink("connectors/pulsar-io-elastic-search-2.8.1.nar"), &kElastic);
  EXPECT_EQ(sink("/opt/pulsar-io-elastic-search-4.0.8.jar"), &kElastic);
  EXPECT_EQ(sink("pulsar-io-elastic-search.nar"), &kElastic);
  EXPECT_EQ(sink("pulsar-io-elastic-search-2.8.1-SNAPSHOT.NAR"), &kElastic);
  EXPECT_EQ(sink("pulsar-io-hdfs3-3.0.0.nar"), &kHdfs);
  EXPECT_EQ(sink("pulsar-io-kafka-connect-adaptor-nar-4.0.8.jar"), &kAdaptor);
  EXPECT_EQ(sink("builtin://elastic-search"), &kElastic);
  EXPECT_EQ(find_archive_in(kList, Kind::source, "a.b/pulsar-io-netty-2.8.1.nar"), &kNetty);

  EXPECT_EQ(sink("pulsar-io-2.8.1.nar"), nullptr);
  EXPECT_EQ(sink("pulsar-io-netty-2.8.1.nar"), nullptr);  // a source
  EXPECT_EQ(sink("elastic-search-2.8.1.nar"), nullptr);   // somebody's own
  EXPECT_EQ(sink("pulsar-io-elastic-search-2.8.1.zip"), nullptr);
  EXPECT_EQ(sink("pulsar-io-elastic-search-2.8.1.nar/"), nullptr);
  EXPECT_EQ(sink(".nar"), nullptr);
  EXPECT_EQ(sink(""), nullptr);
}

}  // namespace
}  // namespace hulse::connect

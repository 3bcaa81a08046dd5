#include "connectors/elastic_search/elastic_config.h"

#include <fmt/format.h>

#include "aio/http_client.h"
#include "connectors/elastic_search/index_name.h"

namespace hulse::connectors::elastic_search {

void ElasticConfig::check(config::Problems& problems) const {
  for (const auto& url : urls) {
    const bool known = url.starts_with("http://") || url.starts_with("https://");
    if (!known || url.find("://") + 3 == url.size()) {
      problems.add("elasticSearchUrl",
                   fmt::format("{} does not begin with http:// or https:// and a host",
                               aio::without_credentials(url)));
    }
  }
  if (!index_name.empty()) {
    const auto parsed = IndexName::parse(index_name);
    if (!parsed) problems.add("indexName", parsed.error().text());
  }
  if (bulk_actions == 0) problems.add("bulkActions", "0 would send nothing; give -1 for no limit");
  if (bulk_size_mb == 0) problems.add("bulkSizeInMb", "0 would send nothing; give -1 for no limit");

  if (username.empty() != password.empty()) {
    problems.add(username.empty() ? "username" : "password", "username and password go together");
  }
  const int ways = !username.empty() + !token.empty() + !api_key.empty();
  if (ways > 1) {
    problems.add(token.empty() ? "apiKey" : "token",
                 "give one of username and password, token, or apiKey");
  }

  for (const auto* store : {&tls_truststore, &tls_keystore}) {
    const bool java = store->ends_with(".jks") || store->ends_with(".keystore");
    const bool pkcs12 = store->ends_with(".p12") || store->ends_with(".pfx");
    if (store == &tls_truststore && (java || pkcs12)) {
      problems.add("ssl.truststorePath",
                   "a key store cannot be read here; give the certificates as a "
                   "PEM file");
    }
    if (store == &tls_keystore && java) {
      problems.add("ssl.keystorePath",
                   "Java's own key stores cannot be read here; give a PEM or "
                   "PKCS12 file");
    }
  }
  for (const auto& protocol : tls_protocols) {
    if (protocol != "TLSv1.2" && protocol != "TLSv1.3") {
      problems.add("ssl.protocols", fmt::format("{} is not one of TLSv1.2, TLSv1.3", protocol));
    }
  }
  for (const auto& cipher : tls_ciphers) {
    if (cipher.find("_WITH_") != std::string::npos) {
      problems.add("ssl.cipherSuites", fmt::format("{} is Java's name; give OpenSSL's", cipher));
    }
  }
}

}  // namespace hulse::connectors::elastic_search

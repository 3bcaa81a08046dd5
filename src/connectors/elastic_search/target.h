// Target: the Elasticsearch (or OpenSearch) of a sink: its URLs, its credentials, and what is asked
// of it.
#pragma once

#include <optional>
#include <string>

#include "aio/http_client.h"
#include "connectors/elastic_search/answer.h"
#include "connectors/elastic_search/elastic_config.h"

namespace hulse::connectors::elastic_search {

// Lives on the sink's strand. Closed before it is destroyed.
class Target {
 public:
  Target(aio::Executor executor, const ElasticConfig& config, size_t requests_max);

  // Finds a URL that answers. Fails with Code::permission where the credentials are not accepted.
  aio::Task<Result<void>> reach();

  // The answer to a _bulk, whatever its status. When there is none, the next URL is asked from now
  // on. Waits first where an earlier answer asked for a pause.
  aio::Task<Result<aio::HttpAnswer>> bulk(std::string body);

  // Makes sure that the index exists.
  aio::Task<Judgement> make_index(std::string name);

  // Of the URL in use, without credentials.
  std::string shown_url() const;

  // Ends what is under way.
  void close() { client_.close(); }

 private:
  const std::string& url() const { return urls_[active_]; }
  void next_url() { active_ = (active_ + 1) % urls_.size(); }
  void greet(const aio::HttpAnswer& answer) const;
  void hold_back(const aio::HttpAnswer& answer);
  aio::Task<Result<aio::HttpAnswer>> call(std::string method, std::string path, std::string body);

  std::vector<std::string> urls_;
  size_t active_ = 0;
  aio::HttpHeaders headers_;
  aio::Duration time_max_;
  bool gzip_;
  std::string index_settings_;
  aio::TimePoint pause_until_{};
  aio::HttpClient client_;
};

}  // namespace hulse::connectors::elastic_search

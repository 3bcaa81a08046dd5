// The schema registry: the versions of each topic's schema, and whether a new one is compatible.
// Partitions share their topic's. Lives on the broker's strand.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "aio/task.h"
#include "base/result.h"
#include "broker/namespaces.h"
#include "wire/frame.h"

namespace hulse::broker {

namespace pb = wire::pb;

struct StoredSchema {
  int64_t version = 0;
  pb::Schema::Type type = pb::Schema::None;
  std::string name;
  std::string data;
  std::map<std::string, std::string> properties;
  int64_t created = 0;  // milliseconds since 1970
};

class Schemas {
 public:
  explicit Schemas(storage::Store& store) : store_(store) {}
  Result<void> load();  // blocking

  // `topic` is the full name of the unpartitioned topic.
  const StoredSchema* latest(const std::string& topic) const;
  const StoredSchema* find(const std::string& topic, int64_t version) const;
  const std::vector<StoredSchema>* all(const std::string& topic) const;

  // The version of an identical schema, or of the new one once it is stored. Code::invalid says why
  // it is not compatible with those before it.
  aio::Task<Result<int64_t>> add(std::string topic, pb::Schema schema, TopicPolicies policies);
  // Whether it would be; nothing is stored.
  Result<void> compatible(const std::string& topic, const pb::Schema& schema,
                          const std::string& strategy) const;
  // Whether a consumer with this schema can read the latest one.
  Result<void> readable(const std::string& topic, const pb::Schema& schema,
                        const std::string& strategy) const;
  aio::Task<Result<void>> remove(std::string topic);

 private:
  const StoredSchema* same(const std::string& topic, const pb::Schema& schema) const;

  storage::Store& store_;
  std::map<std::string, std::vector<StoredSchema>> topics_;
};

// Types that are only a name (BYTES, none, AUTO_CONSUME) are not kept.
bool is_kept(const pb::Schema& schema);
void fill(const StoredSchema& from, pb::Schema& to);
// Eight bytes, big-endian: what clients put into each message.
std::string version_bytes(int64_t version);
std::optional<int64_t> parse_version(std::string_view bytes);

// "KEY_VALUE" of KeyValue: REST's and properties' spelling.
std::string schema_type_text(pb::Schema::Type type);
std::optional<pb::Schema::Type> parse_schema_type(std::string_view text);

}  // namespace hulse::broker

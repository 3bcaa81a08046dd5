#include "broker/schemas.h"

#include <boost/json.hpp>

#include "aio/clock.h"
#include "base/base64.h"
#include "base/bytes.h"
#include "schema/avro_resolution.h"

namespace hulse::broker {
namespace {

namespace json = boost::json;

constexpr std::string_view kPrefix = "schema/";

struct Name {
  pb::Schema::Type type;
  std::string_view text;
};
constexpr Name kNames[] = {{pb::Schema::None, "NONE"},
                           {pb::Schema::String, "STRING"},
                           {pb::Schema::Json, "JSON"},
                           {pb::Schema::Protobuf, "PROTOBUF"},
                           {pb::Schema::Avro, "AVRO"},
                           {pb::Schema::Bool, "BOOLEAN"},
                           {pb::Schema::Int8, "INT8"},
                           {pb::Schema::Int16, "INT16"},
                           {pb::Schema::Int32, "INT32"},
                           {pb::Schema::Int64, "INT64"},
                           {pb::Schema::Float, "FLOAT"},
                           {pb::Schema::Double, "DOUBLE"},
                           {pb::Schema::Date, "DATE"},
                           {pb::Schema::Time, "TIME"},
                           {pb::Schema::Timestamp, "TIMESTAMP"},
                           {pb::Schema::KeyValue, "KEY_VALUE"},
                           {pb::Schema::Instant, "INSTANT"},
                           {pb::Schema::LocalDate, "LOCAL_DATE"},
                           {pb::Schema::LocalTime, "LOCAL_TIME"},
                           {pb::Schema::LocalDateTime, "LOCAL_DATE_TIME"},
                           {pb::Schema::ProtobufNative, "PROTOBUF_NATIVE"},
                           {pb::Schema::AutoConsume, "AUTO_CONSUME"},
                           {pb::Schema::External, "EXTERNAL"}};

bool is_avro(pb::Schema::Type type) {
  return type == pb::Schema::Avro || type == pb::Schema::Json || type == pb::Schema::Protobuf;
}

std::string key_of(const std::string& topic, int64_t version) {
  return fmt::format("{}{}/{:08x}", kPrefix, topic, version);
}

std::string encode(const StoredSchema& schema) {
  json::object properties;
  for (const auto& [key, value] : schema.properties) properties[key] = value;
  return json::serialize(json::object{{"v", 1},
                                      {"type", static_cast<int>(schema.type)},
                                      {"name", schema.name},
                                      {"data", base64_encode(schema.data)},
                                      {"properties", std::move(properties)},
                                      {"created", schema.created}});
}

Result<StoredSchema> decode(const std::string& text) {
  const Error damaged(Code::corrupt, "a stored schema is damaged");
  boost::system::error_code error;
  const auto value = json::parse(text, error);
  if (error || !value.is_object()) return damaged;
  const auto& object = value.get_object();
  StoredSchema out;
  const auto* type = object.if_contains("type");
  const auto* data = object.if_contains("data");
  if (type == nullptr || data == nullptr || !type->is_int64() || !data->is_string()) return damaged;
  out.type = static_cast<pb::Schema::Type>(type->get_int64());
  auto bytes = base64_decode(data->get_string());
  if (!bytes) return damaged;
  out.data = std::move(*bytes);
  if (const auto* name = object.if_contains("name"); name && name->is_string())
    out.name = name->get_string();
  if (const auto* created = object.if_contains("created"); created && created->is_int64())
    out.created = created->get_int64();
  if (const auto* properties = object.if_contains("properties");
      properties && properties->is_object()) {
    for (const auto& [key, property] : properties->get_object()) {
      if (property.is_string()) out.properties[key] = property.get_string();
    }
  }
  return out;
}

// One half of a KeyValue schema: its type stands in the properties, its definition in the data
// (i32 length · key definition · i32 length · value definition; -1: none).
struct Half {
  pb::Schema::Type type = pb::Schema::None;
  std::string data;
};

template <class Properties>
std::string property(const Properties& properties, const std::string& key) {
  for (const auto& [name, value] : properties) {
    if (name == key) return value;
  }
  return {};
}

std::map<std::string, std::string> properties_of(const pb::Schema& schema) {
  std::map<std::string, std::string> out;
  for (const auto& pair : schema.properties()) out[pair.key()] = pair.value();
  return out;
}

std::optional<std::pair<Half, Half>> halves(const std::string& data,
                                            const std::map<std::string, std::string>& properties) {
  std::string_view rest = data;
  const auto take = [&](Half& half, const std::string& key) {
    if (rest.size() < 4) return false;
    const auto size = static_cast<int32_t>(get_u32(rest.data()));
    rest.remove_prefix(4);
    if (size > 0) {
      if (static_cast<size_t>(size) > rest.size()) return false;
      half.data = rest.substr(0, static_cast<size_t>(size));
      rest.remove_prefix(static_cast<size_t>(size));
    }
    const auto type = parse_schema_type(property(properties, key));
    half.type = type.value_or(pb::Schema::None);
    return true;
  };
  std::pair<Half, Half> out;
  if (!take(out.first, "key.schema.type") || !take(out.second, "value.schema.type"))
    return std::nullopt;
  return out;
}

// Whether `reader` reads what `writer` wrote.
Result<void> reads(pb::Schema::Type reader_type, const std::string& reader,
                   const std::map<std::string, std::string>& reader_properties,
                   pb::Schema::Type writer_type, const std::string& writer,
                   const std::map<std::string, std::string>& writer_properties) {
  if (reader_type != writer_type) {
    return Error(Code::invalid,
                 fmt::format("Incompatible schema: exists schema type {}, new schema type {}",
                             schema_type_text(writer_type), schema_type_text(reader_type)));
  }
  if (is_avro(reader_type)) return schema::can_read(reader, writer);
  if (reader_type == pb::Schema::KeyValue) {
    const auto r = halves(reader, reader_properties);
    const auto w = halves(writer, writer_properties);
    if (!r || !w) return Error(Code::invalid, "a KeyValue schema that is cut off");
    const auto key = reads(r->first.type, r->first.data, {}, w->first.type, w->first.data, {});
    if (!key) return key.error().with("key");
    const auto value =
        reads(r->second.type, r->second.data, {}, w->second.type, w->second.data, {});
    if (!value) return value.error().with("value");
    return {};
  }
  if (reader_type == pb::Schema::ProtobufNative) {
    // The root message must stay the same one.
    boost::system::error_code error;
    const auto a = json::parse(reader, error);
    const auto b = error ? json::value() : json::parse(writer, error);
    const auto root = [](const json::value& value) {
      const auto* name =
          value.is_object() ? value.get_object().if_contains("rootMessageTypeName") : nullptr;
      return name != nullptr && name->is_string() ? std::string(name->get_string()) : std::string();
    };
    if (error || root(a) != root(b)) return Error(Code::invalid, "another protobuf root message");
  }
  return {};
}

}  // namespace

bool is_kept(const pb::Schema& schema) {
  return schema.type() != pb::Schema::None && schema.type() != pb::Schema::AutoConsume;
}

void fill(const StoredSchema& from, pb::Schema& to) {
  to.set_name(from.name);
  to.set_type(from.type);
  to.set_schema_data(from.data);
  for (const auto& [key, value] : from.properties) {
    auto* pair = to.add_properties();
    pair->set_key(key);
    pair->set_value(value);
  }
}

std::string version_bytes(int64_t version) {
  std::string out(8, '\0');
  put_u64(out.data(), static_cast<uint64_t>(version));
  return out;
}

std::optional<int64_t> parse_version(std::string_view bytes) {
  if (bytes.size() != 8) return std::nullopt;
  return static_cast<int64_t>(get_u64(bytes.data()));
}

std::string schema_type_text(pb::Schema::Type type) {
  for (const auto& name : kNames) {
    if (name.type == type) return std::string(name.text);
  }
  return "UNKNOWN";
}

std::optional<pb::Schema::Type> parse_schema_type(std::string_view text) {
  if (text == "BYTES") return pb::Schema::None;
  for (const auto& name : kNames) {
    if (name.text == text) return name.type;
  }
  return std::nullopt;
}

Result<void> Schemas::load() {
  const auto stored = store_.scan(kPrefix);
  if (!stored) return stored.error();
  for (const auto& [key, text] : *stored) {
    auto schema = decode(text);
    if (!schema) return schema.error().with(key);
    const size_t slash = key.rfind('/');
    schema->version = static_cast<int64_t>(std::strtoull(key.c_str() + slash + 1, nullptr, 16));
    topics_[key.substr(kPrefix.size(), slash - kPrefix.size())].push_back(std::move(*schema));
  }
  return {};
}

const std::vector<StoredSchema>* Schemas::all(const std::string& topic) const {
  const auto known = topics_.find(topic);
  return known == topics_.end() || known->second.empty() ? nullptr : &known->second;
}

const StoredSchema* Schemas::latest(const std::string& topic) const {
  const auto* versions = all(topic);
  return versions == nullptr ? nullptr : &versions->back();
}

const StoredSchema* Schemas::find(const std::string& topic, int64_t version) const {
  const auto* versions = all(topic);
  if (versions == nullptr) return nullptr;
  for (const auto& schema : *versions) {
    if (schema.version == version) return &schema;
  }
  return nullptr;
}

const StoredSchema* Schemas::same(const std::string& topic, const pb::Schema& schema) const {
  const auto* versions = all(topic);
  if (versions == nullptr) return nullptr;
  for (const auto& known : *versions) {
    if (known.type != schema.type()) continue;
    const bool equal = is_avro(known.type)
                           ? schema::same_definition(known.data, schema.schema_data())
                           : known.data == schema.schema_data();
    if (equal) return &known;
  }
  return nullptr;
}

Result<void> Schemas::compatible(const std::string& topic, const pb::Schema& schema,
                                 const std::string& strategy) const {
  const auto* versions = all(topic);
  if (versions == nullptr || strategy == "ALWAYS_COMPATIBLE") return {};
  if (strategy == "ALWAYS_INCOMPATIBLE")
    return Error(Code::invalid, "the namespace allows no new schema");
  const auto properties = properties_of(schema);
  const bool transitive = strategy.ends_with("_TRANSITIVE");
  const bool backward = strategy.starts_with("BACKWARD") || strategy.starts_with("FULL");
  const bool forward = strategy.starts_with("FORWARD") || strategy.starts_with("FULL");
  for (size_t i = transitive ? 0 : versions->size() - 1; i < versions->size(); ++i) {
    const auto& known = (*versions)[i];
    if (backward || known.type != schema.type()) {
      const auto ok = reads(schema.type(), schema.schema_data(), properties, known.type, known.data,
                            known.properties);
      if (!ok)
        return ok.error().with(fmt::format("the new schema cannot read version {}", known.version));
    }
    if (forward) {
      const auto ok = reads(known.type, known.data, known.properties, schema.type(),
                            schema.schema_data(), properties);
      if (!ok)
        return ok.error().with(fmt::format("version {} cannot read the new schema", known.version));
    }
  }
  return {};
}

Result<void> Schemas::readable(const std::string& topic, const pb::Schema& schema,
                               const std::string& strategy) const {
  const auto* known = latest(topic);
  if (known == nullptr || strategy == "ALWAYS_COMPATIBLE" || same(topic, schema) != nullptr)
    return {};
  const auto ok = reads(schema.type(), schema.schema_data(), properties_of(schema), known->type,
                        known->data, known->properties);
  if (!ok)
    return ok.error().with(
        fmt::format("the consumer's schema cannot read version {} of {}", known->version, topic));
  return {};
}

aio::Task<Result<int64_t>> Schemas::add(std::string topic, pb::Schema schema,
                                        TopicPolicies policies) {
  if (const auto* known = same(topic, schema)) co_return known->version;
  if (is_avro(schema.type())) {
    const auto valid = schema::check_avro(schema.schema_data());
    if (!valid) co_return valid.error().with("Invalid schema definition data");
  }
  if (all(topic) != nullptr && !policies.schema_auto_update) {
    co_return Error(Code::invalid, "Schema not found and schema auto updating is disabled.");
  }
  const auto ok = compatible(topic, schema, policies.schema_compatibility);
  if (!ok) co_return ok.error().with("Unable to add schema to " + topic);
  StoredSchema stored;
  const auto* before = latest(topic);
  stored.version = before == nullptr ? 0 : before->version + 1;
  stored.type = schema.type();
  stored.name = schema.name();
  stored.data = schema.schema_data();
  stored.properties = properties_of(schema);
  stored.created = aio::wall_ms();
  std::vector<storage::Change> changes;
  changes.push_back({key_of(topic, stored.version), encode(stored)});
  const int64_t version = stored.version;
  // Known at once: the next one is compared with it. What a client is told waits for the sync.
  topics_[topic].push_back(std::move(stored));
  const auto written = co_await write_through(store_, std::move(changes));
  if (!written) {
    std::erase_if(topics_[topic],
                  [&](const StoredSchema& known) { return known.version == version; });
    co_return written.error();
  }
  co_return version;
}

aio::Task<Result<void>> Schemas::remove(std::string topic) {
  std::vector<storage::Change> changes;
  if (const auto* versions = all(topic)) {
    for (const auto& schema : *versions)
      changes.push_back({key_of(topic, schema.version), std::nullopt});
  }
  const auto written = co_await write_through(store_, std::move(changes));
  if (written) topics_.erase(topic);
  co_return written;
}

}  // namespace hulse::broker

// REST of the schema registry: /admin/v2/schemas/{tenant}/{namespace}/{topic}/….
#include "base/text.h"
#include "broker/rest_common.h"

namespace hulse::broker {
namespace {

using Maybe = std::optional<aio::HttpResponse>;

json::object shown(const StoredSchema& schema) {
  json::object properties;
  for (const auto& [key, value] : schema.properties) properties[key] = value;
  return {{"version", schema.version},
          {"type", schema_type_text(schema.type)},
          {"timestamp", schema.created},
          {"data", is_utf8(schema.data) ? schema.data : std::string()},
          {"properties", std::move(properties)}};
}

// {"type":"AVRO","schema":"…","properties":{}}
Result<pb::Schema> schema_of(const json::value& body, const std::string& name) {
  const Error wrong(Code::invalid,
                    "a schema is expected: {\"type\": …, \"schema\": …, \"properties\": {}}");
  if (!body.is_object()) return wrong;
  const auto* type = body.get_object().if_contains("type");
  const auto* data = body.get_object().if_contains("schema");
  if (type == nullptr || !type->is_string()) return wrong;
  const auto parsed = parse_schema_type(type->get_string());
  if (!parsed)
    return Error(Code::invalid,
                 fmt::format("{} is not a schema type", std::string_view(type->get_string())));
  pb::Schema out;
  out.set_name(name);
  out.set_type(*parsed);
  out.set_schema_data(data != nullptr && data->is_string() ? std::string(data->get_string())
                                                           : std::string());
  if (const auto* properties = body.get_object().if_contains("properties");
      properties && properties->is_object()) {
    for (const auto& [key, value] : properties->get_object()) {
      if (!value.is_string()) continue;
      auto* pair = out.add_properties();
      pair->set_key(std::string(key));
      pair->set_value(std::string(value.get_string()));
    }
  }
  return out;
}

}  // namespace

aio::Task<std::optional<aio::HttpResponse>> handle_schemas(Call& call) {
  if (call.parts.size() < 7 || call.parts[0] != "admin" || call.parts[1] != "v2" ||
      call.parts[2] != "schemas") {
    co_return std::nullopt;
  }
  const std::string name_space = call.parts[3] + "/" + call.parts[4];
  if (!call.broker.namespaces().exists(name_space))
    co_return refuse(404, "Namespace does not exist");
  const auto name =
      wire::TopicName::parse(fmt::format("persistent://{}/{}", name_space, call.parts[5]));
  if (!name) co_return refuse(412, name.error().text());
  const std::string topic = name->base().text();
  auto& schemas = call.broker.schemas();
  const auto policies = call.broker.namespaces().topic_policies(name_space);

  if (call.is(6, {"schema"}) && call.get()) {
    const auto* latest = schemas.latest(topic);
    co_return latest == nullptr ? refuse(404, "Schema not found") : answer(shown(*latest));
  }
  if (call.is(6, {"schema", "*"}) && call.get()) {
    const auto* found = schemas.find(topic, std::strtoll(call.parts[7].c_str(), nullptr, 10));
    co_return found == nullptr ? refuse(404, "Schema not found") : answer(shown(*found));
  }
  if (call.is(6, {"schemas"}) && call.get()) {
    const auto* all = schemas.all(topic);
    if (all == nullptr) co_return refuse(404, "Schema not found");
    json::array list;
    for (const auto& schema : *all) list.push_back(shown(schema));
    co_return answer(json::object{{"getSchemaResponses", std::move(list)}});
  }
  if (call.is(6, {"schema"}) && call.del()) {
    const auto* latest = schemas.latest(topic);
    if (latest == nullptr) co_return refuse(404, "Schema not found");
    const int64_t version = latest->version;
    const auto removed = co_await schemas.remove(topic);
    if (!removed) co_return done(removed);
    co_return answer(json::object{{"version", version}});
  }
  const auto body = call.body();
  if (!body) co_return refuse(400, body.error().text());
  if (!call.post()) co_return std::nullopt;
  const auto schema = schema_of(*body, name->local);
  if (!schema) co_return refuse(422, schema.error().text());
  if (call.is(6, {"schema"})) {
    const auto version = co_await schemas.add(topic, *schema, policies);
    if (!version)
      co_return refuse(version.error().code() == Code::invalid ? 409 : 500, version.error().text());
    co_return answer(json::object{{"version", *version}});
  }
  if (call.is(6, {"compatibility"})) {
    const auto ok = schemas.compatible(topic, *schema, policies.schema_compatibility);
    co_return answer(json::object{{"isCompatibility", ok.has_value()},
                                  {"schemaCompatibilityStrategy", policies.schema_compatibility}});
  }
  co_return std::nullopt;
}

}  // namespace hulse::broker

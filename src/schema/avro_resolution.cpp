#include "schema/avro_resolution.h"

#include <fmt/format.h>

#include <boost/json.hpp>
#include <map>
#include <memory>
#include <set>

namespace hulse::schema {
namespace {

namespace json = boost::json;

constexpr int kDepthMax = 200;

// A parsed definition: named types are looked up by full name.
struct Document {
  std::unique_ptr<json::value>
      root;  // stays where it is when the document moves: `named` points into it
  std::map<std::string, const json::object*> named;
};

constexpr std::string_view kPrimitives[] = {"null",  "boolean", "int",   "long",
                                            "float", "double",  "bytes", "string"};

bool is_primitive(std::string_view name) {
  return std::find(std::begin(kPrimitives), std::end(kPrimitives), name) != std::end(kPrimitives);
}

std::string text_of(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

std::string full_name(const json::object& type, const std::string& enclosing) {
  const auto name = text_of(type, "name");
  if (name.find('.') != std::string::npos) return name;
  const auto* own = type.if_contains("namespace");
  const auto space =
      own != nullptr && own->is_string() ? std::string(own->get_string()) : enclosing;
  return space.empty() ? name : space + "." + name;
}

std::string space_of(const std::string& name) {
  const size_t dot = name.rfind('.');
  return dot == std::string::npos ? std::string() : name.substr(0, dot);
}

Error wrong(const std::string& path, std::string_view what) {
  return Error(Code::invalid, fmt::format("{}: {}", path.empty() ? "schema" : path, what));
}

// Collects named types and refuses what is no schema.
Result<void> index(const json::value& type, const std::string& space, Document& out,
                   const std::string& path, int depth) {
  if (depth > kDepthMax) return wrong(path, "nested too deeply");
  if (type.is_string()) {
    const std::string name(type.get_string());
    const bool known = is_primitive(name) || out.named.contains(name) ||
                       out.named.contains(space.empty() ? name : space + "." + name);
    return known ? Result<void>() : wrong(path, fmt::format("the type {} is unknown", name));
  }
  if (type.is_array()) {
    for (const auto& branch : type.get_array()) {
      const auto indexed = index(branch, space, out, path, depth + 1);
      if (!indexed) return indexed.error();
    }
    return {};
  }
  if (!type.is_object()) return wrong(path, "a type is a name, a list or an object");
  const auto& object = type.get_object();
  const auto* kind = object.if_contains("type");
  if (kind == nullptr) return wrong(path, "a type without \"type\"");
  if (!kind->is_string()) return index(*kind, space, out, path, depth + 1);
  const std::string_view word = kind->get_string();
  if (word == "record" || word == "error" || word == "enum" || word == "fixed") {
    if (text_of(object, "name").empty())
      return wrong(path, fmt::format("a {} without a name", word));
    const auto name = full_name(object, space);
    out.named[name] = &object;
    if (word == "enum") {
      const auto* symbols = object.if_contains("symbols");
      return symbols != nullptr && symbols->is_array() ? Result<void>()
                                                       : wrong(path, "an enum without symbols");
    }
    if (word == "fixed") return {};
    const auto* fields = object.if_contains("fields");
    if (fields == nullptr || !fields->is_array()) return wrong(path, "a record without fields");
    for (const auto& field : fields->get_array()) {
      if (!field.is_object() || !field.get_object().contains("type"))
        return wrong(path, "a field without a type");
      const auto& row = field.get_object();
      const auto inner = path.empty() ? text_of(row, "name") : path + "." + text_of(row, "name");
      const auto indexed = index(row.at("type"), space_of(name), out, inner, depth + 1);
      if (!indexed) return indexed.error();
    }
    return {};
  }
  if (word == "array" || word == "map") {
    const auto* inner = object.if_contains(word == "array" ? "items" : "values");
    if (inner == nullptr)
      return wrong(path, fmt::format("a {} without a type of its elements", word));
    return index(*inner, space, out, path, depth + 1);
  }
  return index(*kind, space, out, path, depth + 1);
}

Result<Document> parse(std::string_view text) {
  Document out;
  boost::system::error_code error;
  out.root = std::make_unique<json::value>(json::parse(text, error));
  if (error) {
    // Pulsar's own primitives come as a bare word.
    if (!is_primitive(text))
      return Error(Code::invalid, "the definition is not JSON: " + error.message());
    *out.root = json::string(text);
  }
  const auto indexed = index(*out.root, "", out, "", 0);
  if (!indexed) return indexed.error();
  return out;
}

// A type with its name resolved: a primitive's word, an object, or a union.
struct Type {
  std::string word;  // "record", "int", "union", …
  const json::object* object = nullptr;
  const json::array* branches = nullptr;
  std::string name;  // full, of a named type
  std::string space;
};

Type resolve(const json::value& type, const Document& document, const std::string& space) {
  if (type.is_array()) return {"union", nullptr, &type.get_array(), {}, space};
  if (type.is_string()) {
    const std::string word(type.get_string());
    if (is_primitive(word)) return {word, nullptr, nullptr, {}, space};
    auto known = document.named.find(word);
    if (known == document.named.end() && !space.empty())
      known = document.named.find(space + "." + word);
    if (known == document.named.end()) return {word, nullptr, nullptr, {}, space};
    return {text_of(*known->second, "type"), known->second, nullptr, known->first,
            space_of(known->first)};
  }
  const auto& object = type.get_object();
  const auto& kind = object.at("type");
  if (!kind.is_string()) return resolve(kind, document, space);
  const std::string word(kind.get_string());
  if (word == "record" || word == "error" || word == "enum" || word == "fixed") {
    const auto name = full_name(object, space);
    return {word, &object, nullptr, name, space_of(name)};
  }
  if (word == "array" || word == "map" || is_primitive(word))
    return {word, &object, nullptr, {}, space};
  return resolve(kind, document, space);
}

bool promotes(std::string_view writer, std::string_view reader) {
  if (writer == "int") return reader == "long" || reader == "float" || reader == "double";
  if (writer == "long") return reader == "float" || reader == "double";
  if (writer == "float") return reader == "double";
  if (writer == "string") return reader == "bytes";
  if (writer == "bytes") return reader == "string";
  return false;
}

class Resolution {
 public:
  Resolution(const Document& reader, const Document& writer) : reader_(reader), writer_(writer) {}

  Result<void> check(const json::value& reader, const std::string& reader_space,
                     const json::value& writer, const std::string& writer_space,
                     const std::string& path) {
    const Type r = resolve(reader, reader_, reader_space);
    const Type w = resolve(writer, writer_, writer_space);
    if (w.branches != nullptr) {
      // Whatever the writer may have written has to be readable.
      for (const auto& branch : *w.branches) {
        const auto read = check(reader, reader_space, branch, writer_space, path);
        if (!read) return read.error();
      }
      return {};
    }
    if (r.branches != nullptr) {
      std::optional<Error> last;
      for (const auto& branch : *r.branches) {
        const auto read = check(branch, reader_space, writer, writer_space, path);
        if (read) return {};
        last = read.error();
      }
      return wrong(path, fmt::format("the writer's {} is none of the reader's union", w.word));
    }
    if (r.word != w.word) {
      if (promotes(w.word, r.word)) return {};
      return wrong(path, fmt::format("the writer's {} cannot be read as {}", w.word, r.word));
    }
    if (r.word == "record" || r.word == "error") return check_record(r, w, path);
    if (r.word == "enum") return check_enum(r, w, path);
    if (r.word == "fixed") {
      if (r.object->at("size") != w.object->at("size"))
        return wrong(path, "fixed types of different size");
      return {};
    }
    if (r.word == "array")
      return check(r.object->at("items"), r.space, w.object->at("items"), w.space, path + "[]");
    if (r.word == "map")
      return check(r.object->at("values"), r.space, w.object->at("values"), w.space, path + "{}");
    return {};
  }

 private:
  Result<void> check_record(const Type& r, const Type& w, const std::string& path) {
    // A type within itself: what is being checked already holds.
    if (!seen_.emplace(r.object, w.object).second) return {};
    for (const auto& value : r.object->at("fields").get_array()) {
      const auto& field = value.get_object();
      const auto name = text_of(field, "name");
      const auto inner = path.empty() ? name : path + "." + name;
      const auto* written = find_field(field, *w.object);
      if (written == nullptr) {
        if (field.contains("default")) continue;
        return wrong(inner, "the writer does not have it, and it has no default");
      }
      const auto read = check(field.at("type"), r.space, written->at("type"), w.space, inner);
      if (!read) return read.error();
    }
    return {};
  }

  // By name, or by an alias of the reader's field.
  static const json::object* find_field(const json::object& field, const json::object& record) {
    std::set<std::string> names{text_of(field, "name")};
    if (const auto* aliases = field.if_contains("aliases");
        aliases != nullptr && aliases->is_array()) {
      for (const auto& alias : aliases->get_array()) {
        if (alias.is_string()) names.emplace(alias.get_string());
      }
    }
    for (const auto& value : record.at("fields").get_array()) {
      if (names.contains(text_of(value.get_object(), "name"))) return &value.get_object();
    }
    return nullptr;
  }

  static Result<void> check_enum(const Type& r, const Type& w, const std::string& path) {
    if (r.object->contains("default")) return {};
    const auto& known = r.object->at("symbols").get_array();
    for (const auto& symbol : w.object->at("symbols").get_array()) {
      if (std::find(known.begin(), known.end(), symbol) == known.end()) {
        return wrong(
            path, fmt::format("the reader does not know the symbol {}", json::serialize(symbol)));
      }
    }
    return {};
  }

  const Document& reader_;
  const Document& writer_;
  std::set<std::pair<const json::object*, const json::object*>> seen_;
};

}  // namespace

Result<void> check_avro(std::string_view definition) {
  const auto parsed = parse(definition);
  if (!parsed) return parsed.error();
  return {};
}

Result<void> can_read(std::string_view reader, std::string_view writer) {
  const auto r = parse(reader);
  if (!r) return r.error().with("the reader's schema");
  const auto w = parse(writer);
  if (!w) return w.error().with("the writer's schema");
  return Resolution(*r, *w).check(*r->root, "", *w->root, "", "");
}

bool same_definition(std::string_view a, std::string_view b) {
  if (a == b) return true;
  boost::system::error_code error;
  const auto left = json::parse(a, error);
  if (error) return false;
  const auto right = json::parse(b, error);
  return !error && left == right;
}

}  // namespace hulse::schema

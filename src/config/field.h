// Fields: a connector's (or command's) configuration, declared once. From the table come parsing,
// all problems at once, defaults, redaction, help and the REST definition.
//
//   struct ServerConfig {
//     std::string type = "tcp";
//     uint16_t port = 10999;
//     Secret password;
//     void check(config::Problems& problems) const;  // optional: rules over several fields
//   };
//   constexpr std::string_view kTypes[] = {"tcp", "udp"};
//   constexpr config::Field kFields[] = {
//       config::field<&ServerConfig::type>("type", "Protocol to listen with.").one_of(kTypes),
//       config::field<&ServerConfig::port>("port", "Port to listen on.").range(1024, 65535),
//       config::field<&ServerConfig::password>("password", "Secrets are Secret members."),
//   };
//   Result<ServerConfig> parsed = config::parse<ServerConfig>(kFields, given);
//
// A member is a string, an integer, a duration, a double, a bool, an enum (whose enumerators are
// the choices, in order, from 0), a Secret, a vector or a map of strings, or std::optional of one
// of these. Its default is what a default-constructed struct holds. Thread-safe: nothing here
// changes.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <chrono>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/result.h"
#include "base/secret.h"

namespace hulse::config {

// What a user wrote.
struct Given {
  boost::json::object values;   // the connector's `configs`
  boost::json::object secrets;  // resolved values by field name; they win over `values`
};

enum class Kind : uint8_t { text, integer, real, boolean, choice, secret, list, map, unsupported };

struct Field;

namespace detail {

// Each takes a value as the user wrote it, or says in a few words why it cannot be one ("abc is not
// a whole number"). None of them is given a secret.
Result<std::string> to_text(const boost::json::value& value);
Result<int64_t> to_integer(const Field& field, const boost::json::value& value);
Result<double> to_real(const Field& field, const boost::json::value& value);
Result<bool> to_boolean(const boost::json::value& value);
Result<size_t> to_choice(const Field& field, const boost::json::value& value);
Result<std::vector<std::string>> to_list(const boost::json::value& value);
Result<std::map<std::string, std::string>> to_map(const boost::json::value& value);
Result<Secret> to_secret(const boost::json::value& value);

std::string shown(const std::string& value);
std::string shown(int64_t value);
std::string shown(double value);
std::string shown(bool value);
std::string shown(const std::vector<std::string>& value);
std::string shown(const std::map<std::string, std::string>& value);

template <class T>
inline constexpr bool is_optional = false;
template <class T>
inline constexpr bool is_optional<std::optional<T>> = true;
template <class T>
inline constexpr bool is_duration = false;
template <class R, class P>
inline constexpr bool is_duration<std::chrono::duration<R, P>> = true;

template <class T>
consteval Kind kind_of() {
  if constexpr (is_optional<T>)
    return kind_of<typename T::value_type>();
  else if constexpr (std::is_same_v<T, std::string>)
    return Kind::text;
  else if constexpr (std::is_same_v<T, bool>)
    return Kind::boolean;
  else if constexpr (std::is_enum_v<T>)
    return Kind::choice;
  else if constexpr (std::is_integral_v<T> || is_duration<T>)
    return Kind::integer;
  else if constexpr (std::is_floating_point_v<T>)
    return Kind::real;
  else if constexpr (std::is_same_v<T, Secret>)
    return Kind::secret;
  else if constexpr (std::is_same_v<T, std::vector<std::string>>)
    return Kind::list;
  else {
    static_assert(std::is_same_v<T, std::map<std::string, std::string>>, "no such kind of field");
    return Kind::map;
  }
}

template <class T>
consteval std::string_view type_name_of() {
  if constexpr (is_optional<T>)
    return type_name_of<typename T::value_type>();
  else if constexpr (is_duration<T>)
    return "long";
  else if constexpr (std::is_same_v<T, bool>)
    return "boolean";
  else if constexpr (std::is_enum_v<T>)
    return "java.lang.String";
  else if constexpr (std::is_integral_v<T>)
    return sizeof(T) <= 4 ? "int" : "long";
  else if constexpr (std::is_floating_point_v<T>)
    return "double";
  else if constexpr (kind_of<T>() == Kind::list)
    return "java.util.List";
  else if constexpr (kind_of<T>() == Kind::map)
    return "java.util.Map";
  else
    return "java.lang.String";
}

template <class T>
constexpr std::pair<int64_t, int64_t> limits_of() {
  if constexpr (is_optional<T>) {
    return limits_of<typename T::value_type>();
  } else if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    static_assert(sizeof(T) < 8 || std::is_signed_v<T>, "use int64_t");
    return {std::numeric_limits<T>::min(), std::numeric_limits<T>::max()};
  } else {
    return {std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()};
  }
}

template <class T>
Result<void> assign(const Field& field, const boost::json::value& value, T& to) {
  const auto take = [&](auto result) -> Result<void> {
    if (!result) return std::move(result).error();
    if constexpr (std::is_enum_v<T> || std::is_integral_v<T>) {
      to = static_cast<T>(*result);
    } else if constexpr (is_duration<T>) {
      to = T(static_cast<typename T::rep>(*result));
    } else {
      to = std::move(*result);
    }
    return {};
  };
  constexpr Kind kKind = kind_of<T>();
  if constexpr (is_optional<T>)
    return assign(field, value, to.emplace());
  else if constexpr (kKind == Kind::text)
    return take(to_text(value));
  else if constexpr (kKind == Kind::boolean)
    return take(to_boolean(value));
  else if constexpr (kKind == Kind::choice)
    return take(to_choice(field, value));
  else if constexpr (kKind == Kind::integer)
    return take(to_integer(field, value));
  else if constexpr (kKind == Kind::real)
    return take(to_real(field, value));
  else if constexpr (kKind == Kind::secret)
    return take(to_secret(value));
  else if constexpr (kKind == Kind::list)
    return take(to_list(value));
  else
    return take(to_map(value));
}

// Nothing to show for a secret, whatever it is.
template <class T>
std::string show(const Field& field, const T& value);

template <class Member>
struct MemberOf;
template <class S, class T>
struct MemberOf<T S::*> {
  using Struct = S;
  using Type = T;
};

}  // namespace detail

// One row of a table. The views point to literals.
struct Field {
  std::string_view key;
  std::string_view help;
  Kind kind = Kind::text;
  std::string_view type_name;  // as Pulsar's REST names it: "int", "java.lang.String"
  bool is_required = false;
  std::span<const std::string_view> choices;  // of a choice, or the values a text may have
  bool any_case = false;
  int64_t min = std::numeric_limits<int64_t>::min();
  int64_t max = std::numeric_limits<int64_t>::max();
  std::string_view example_text;
  std::string_view since_version;
  std::span<const std::string_view> alias_keys;       // other spellings, equally good
  std::span<const std::string_view> deprecated_keys;  // taken, with a warning
  // Filled by field(): one member of the struct, its type erased.
  Result<void> (*assign)(const Field& field, const boost::json::value& value,
                         void* object) = nullptr;
  std::string (*default_text)(const Field& field) = nullptr;

  constexpr Field required() const {
    Field out = *this;
    out.is_required = true;
    return out;
  }
  // Of a text or an enum. Compared exactly unless `ignore_case()`; a text takes the spelling given
  // here.
  constexpr Field one_of(std::span<const std::string_view> values) const {
    Field out = *this;
    out.choices = values;
    return out;
  }
  constexpr Field ignore_case() const {
    Field out = *this;
    out.any_case = true;
    return out;
  }
  // Of a number, both included.
  constexpr Field range(int64_t low, int64_t high) const {
    Field out = *this;
    out.min = low;
    out.max = high;
    return out;
  }
  constexpr Field at_least(int64_t low) const { return range(low, max); }
  constexpr Field example(std::string_view text) const {
    Field out = *this;
    out.example_text = text;
    return out;
  }
  constexpr Field since(std::string_view version) const {
    Field out = *this;
    out.since_version = version;
    return out;
  }
  constexpr Field aliases(std::span<const std::string_view> keys) const {
    Field out = *this;
    out.alias_keys = keys;
    return out;
  }
  constexpr Field deprecated(std::span<const std::string_view> keys) const {
    Field out = *this;
    out.deprecated_keys = keys;
    return out;
  }

  // Of a list that others know as one text with commas.
  constexpr Field as_text() const {
    Field out = *this;
    out.type_name = "java.lang.String";
    return out;
  }

  bool sensitive() const { return kind == Kind::secret; }
  // The default as text; empty where there is none and for secrets.
  std::string default_value() const { return default_text ? default_text(*this) : std::string(); }
};

template <class T>
std::string detail::show(const Field& field, const T& value) {
  constexpr Kind kKind = kind_of<T>();
  if constexpr (is_optional<T>)
    return value ? show(field, *value) : std::string();
  else if constexpr (kKind == Kind::secret)
    return {};
  else if constexpr (kKind == Kind::choice) {
    const auto index = static_cast<size_t>(value);
    return index < field.choices.size() ? std::string(field.choices[index]) : std::string();
  } else if constexpr (is_duration<T>)
    return shown(static_cast<int64_t>(value.count()));
  else if constexpr (kKind == Kind::integer)
    return shown(static_cast<int64_t>(value));
  else
    return shown(value);
}

// A field that fills `Member`. Keys with a dot ("ssl.enabled") are also found in nested objects.
template <auto Member>
constexpr Field field(std::string_view key, std::string_view help) {
  using Struct = typename detail::MemberOf<decltype(Member)>::Struct;
  using Type = typename detail::MemberOf<decltype(Member)>::Type;
  constexpr auto kLimits = detail::limits_of<Type>();
  Field out;
  out.key = key;
  out.help = help;
  out.kind = detail::kind_of<Type>();
  out.type_name = detail::type_name_of<Type>();
  out.min = kLimits.first;
  out.max = kLimits.second;
  out.assign = [](const Field& self, const boost::json::value& value, void* object) {
    return detail::assign(self, value, static_cast<Struct*>(object)->*Member);
  };
  out.default_text = [](const Field& self) { return detail::show(self, Struct{}.*Member); };
  return out;
}

// A key that others know and we cannot honour: refused with `reason`, unless it is given with its
// `harmless` value (which may be empty for none), where ignoring it changes nothing.
constexpr Field not_supported(std::string_view key, std::string_view harmless,
                              std::string_view reason) {
  Field out;
  out.key = key;
  out.help = reason;
  out.kind = Kind::unsupported;
  out.type_name = "java.lang.String";
  out.example_text = harmless;
  return out;
}

// What is wrong with a configuration: one line a problem, all of them in one error.
class Problems {
 public:
  // Ignored when `key` has a problem already: the first one is the cause.
  void add(std::string_view key, std::string_view text);
  bool has(std::string_view key) const { return keys_.contains(key); }
  bool empty() const { return lines_.empty(); }
  Error error() const;  // Code::invalid

 private:
  std::vector<std::string> lines_;
  std::set<std::string, std::less<>> keys_;
};

namespace detail {
// The field a key names, by any of its spellings; nothing when none.
const Field* find(std::span<const Field> fields, std::string_view key);
// Fills `object` from `given` and collects what is wrong.
void fill(std::span<const Field> fields, const Given& given, void* object, Problems& problems);
}  // namespace detail

template <class S>
Result<S> parse(std::span<const Field> fields, const Given& given) {
  S out;
  Problems problems;
  detail::fill(fields, given, &out, problems);
  if constexpr (requires { out.check(problems); }) out.check(problems);
  if (!problems.empty()) return problems.error();
  return out;
}

// The definition as Pulsar's REST gives it: an array of {fieldName, typeName, attributes{required,
// defaultValue, sensitive, help}}.
boost::json::array definition(std::span<const Field> fields);

// `values` with every secret replaced by kRedacted: what may be shown or logged. A key that no
// field has is treated as a secret, for it may be a misspelt one. Where a secret is kept
// (secret_reference.h) is none.
boost::json::object redacted(std::span<const Field> fields, const boost::json::object& values);

// What redacted() covers in URLs, wherever they stand in `value`: "user:password", and "password".
std::vector<std::string> url_credentials(const boost::json::value& value);

}  // namespace hulse::config

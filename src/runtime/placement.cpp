#include "runtime/placement.h"

#include <algorithm>
#include <boost/json.hpp>

namespace hulse::runtime {
namespace {

namespace json = boost::json;

// The worker with the fewest instances; among equals the one with the fewest of this component.
std::string emptiest(const std::map<std::string, size_t>& load, const Placement& placement) {
  const auto of_this = [&](const std::string& worker) {
    return std::count(placement.begin(), placement.end(), worker);
  };
  return std::min_element(load.begin(), load.end(),
                          [&](const auto& a, const auto& b) {
                            if (a.second != b.second) return a.second < b.second;
                            return of_this(a.first) < of_this(b.first);
                          })
      ->first;
}

// Moves one instance from the fullest worker to the emptiest, if that makes them more alike.
bool even_out(Placements& placements, std::map<std::string, size_t>& load) {
  const auto [low, high] = std::minmax_element(
      load.begin(), load.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  if (high->second - low->second <= 1) return false;
  for (auto& [name, placement] : placements) {
    const auto at = std::find(placement.begin(), placement.end(), high->first);
    if (at == placement.end()) continue;
    *at = low->first;
    --high->second;
    ++low->second;
    return true;
  }
  return false;
}

}  // namespace

Placements place(const std::map<std::string, unsigned>& instances, const Placements& present,
                 const std::set<std::string>& workers) {
  Placements out;
  if (workers.empty()) return out;
  std::map<std::string, size_t> load;
  for (const auto& worker : workers) load[worker] = 0;
  for (const auto& [name, count] : instances) {
    auto& placement = out[name];
    placement.resize(count);
    const auto before = present.find(name);
    if (before == present.end()) continue;
    for (size_t i = 0; i < std::min<size_t>(count, before->second.size()); ++i) {
      if (!workers.contains(before->second[i])) continue;
      placement[i] = before->second[i];
      ++load[placement[i]];
    }
  }
  for (auto& [name, placement] : out) {
    for (auto& worker : placement) {
      if (!worker.empty()) continue;
      worker = emptiest(load, placement);
      ++load[worker];
    }
  }
  while (even_out(out, load)) {
  }
  return out;
}

std::string encode_placement(const Placement& placement) {
  json::array workers;
  for (const auto& worker : placement) workers.emplace_back(worker);
  return json::serialize(json::object{{"v", 1}, {"workers", std::move(workers)}});
}

Result<Placement> decode_placement(std::string_view text) {
  const Error damaged(Code::corrupt, fmt::format("not a placement: {}", text.substr(0, 100)));
  boost::system::error_code error;
  const auto value = json::parse(text, error);
  const auto* workers =
      !error && value.is_object() ? value.get_object().if_contains("workers") : nullptr;
  if (workers == nullptr || !workers->is_array()) return damaged;
  Placement out;
  for (const auto& worker : workers->get_array()) {
    if (!worker.is_string()) return damaged;
    out.emplace_back(worker.get_string());
  }
  return out;
}

}  // namespace hulse::runtime

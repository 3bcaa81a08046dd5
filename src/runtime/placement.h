// Placement: which worker runs which instance. What the leader decides, as a record a component.
//
//   persistent://NAMESPACE/hulse-assignments   tenant/namespace/name → {"v":1,"workers":[…]}
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hulse::runtime {

// The worker of each instance, by its index.
using Placement = std::vector<std::string>;
using Placements = std::map<std::string, Placement>;

// Where the instances of each component (their number by its name) should be. What is with a living
// worker stays, unless workers have more than one instance more than others; the rest goes to those
// that have the fewest. No worker: nowhere.
Placements place(const std::map<std::string, unsigned>& instances, const Placements& present,
                 const std::set<std::string>& workers);

std::string encode_placement(const Placement& placement);
Result<Placement> decode_placement(std::string_view text);  // Code::corrupt

}  // namespace hulse::runtime

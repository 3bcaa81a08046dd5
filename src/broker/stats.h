// What a topic tells of itself: the JSON of Pulsar's topic statistics. Used by the REST files.
#pragma once

#include <boost/json/object.hpp>
#include <memory>
#include <string>
#include <vector>

#include "broker/topic.h"

namespace hulse::broker {

boost::json::object topic_stats(Topic& topic);
// Of the partitions of a topic together, with those of each if asked for.
boost::json::object partitioned_stats(const std::vector<std::shared_ptr<Topic>>& partitions,
                                      bool per_partition);
boost::json::object internal_stats(Topic& topic);

std::string iso_time(int64_t ms);           // milliseconds since 1970: "2026-01-02T03:04:05.006Z"
std::string position(const MessageId& id);  // "12:3"

}  // namespace hulse::broker

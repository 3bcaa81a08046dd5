// The configuration of the file sink.
#pragma once

#include <string>

#include "config/field.h"

namespace hulse::connectors::file {

enum class Format { json, raw };

struct FileConfig {
  std::string path;
  Format format = Format::json;
};

inline constexpr std::string_view kFormats[] = {"json", "raw"};
inline constexpr config::Field kFields[] = {
    config::field<&FileConfig::path>(
        "path",
        "File to append to; made when missing, in a folder that exists. {instance} in it "
        "becomes the number of the instance.")
        .required()
        .example("/var/lib/data/events.jsonl"),
    config::field<&FileConfig::format>(
        "format",
        "json: one JSON object a line with value, key, properties, times, topic and "
        "message id. raw: the value and a newline.")
        .one_of(kFormats)
        .ignore_case(),
};

}  // namespace hulse::connectors::file

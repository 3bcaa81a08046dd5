// How a record is written as a line.
#pragma once

#include <string>
#include <string_view>

#include "base/message.h"

namespace hulse::connectors::file {

// Appends one JSON object and a newline. Text that is not UTF-8 stands as Base64 under a name of
// its own (valueBase64, keyBase64).
void append_json_line(std::string& out, const Message& record, std::string_view topic);

// Appends the value as it is and a newline.
void append_raw_line(std::string& out, const Message& record);

// Whether `line` is one complete JSON value: a line torn by a crash is not.
bool is_complete_json(std::string_view line);

}  // namespace hulse::connectors::file

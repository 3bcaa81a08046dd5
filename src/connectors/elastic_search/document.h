// A record as lines of a _bulk request.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/message.h"
#include "base/result.h"

namespace hulse::connectors::elastic_search {

// Whether `payload` looks like a JSON object. Elasticsearch parses it and judges; this keeps away
// what would break the request around it.
bool looks_like_an_object(std::string_view payload);

// Appends `payload` as one line, without the newline that ends it. Control characters are removed
// or, unless `strip`, newlines become spaces: in JSON they stand between tokens only.
void append_document(std::string& out, std::string_view payload, bool strip);

// {"index":{"_index":"i","_id":"x"}} and a newline.
void append_action(std::string& out, std::string_view action, std::string_view quoted_index,
                   const std::optional<std::string>& id);

// The id of a document by where its message lies: the same message has the same id for ever. Longer
// than Elasticsearch takes, it is hashed.
std::string id_of_place(std::string_view bus_id, std::string_view topic, const MessageId& place);

// The id made of fields of the document: the text of one, or a JSON array of several in the
// document's order. Fails when the payload is not JSON or lacks one.
Result<std::string> id_of_fields(std::string_view payload, std::span<const std::string> fields);

}  // namespace hulse::connectors::elastic_search

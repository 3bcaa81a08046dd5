// Packages: files that users upload under a path of their choice. Each path is a topic,
//
//   persistent://NAMESPACE/hulse-package~<path>
//
// of messages with a part of the file each; the newest complete upload counts.
//
//   property   meaning
//   upload     id of the upload
//   part       number of the part, from 0
//   parts      how many there are
#pragma once

#include <string>
#include <string_view>

#include "client/client.h"

namespace hulse::runtime {

// On the client's strand. One upload to a path at a time; `bytes` live until it returns.
aio::Task<Result<void>> store_package(client::Client& client, std::string name_space,
                                      std::string path, std::string_view bytes);

// Code::not_found when nothing was uploaded there.
aio::Task<Result<std::string>> load_package(client::Client& client, std::string name_space,
                                            std::string path);

std::string package_topic(const std::string& name_space, std::string_view path);

}  // namespace hulse::runtime

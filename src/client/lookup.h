// Lookup: where topics live, how many partitions they have, which there are. Over the binary
// protocol or over HTTP, as the service URL says.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "aio/task.h"
#include "client/connection.h"

namespace hulse::client {

class Client;

// A broker's address. Through a proxy the address is the proxy's and `target` names the broker.
struct Place {
  Address address;
  std::string target;
};

// The topics of a namespace, partitions one by one. With `changed` false they are those of the
// hash that was asked with, and `names` is empty.
struct TopicList {
  std::vector<std::string> names;
  std::string hash;  // empty where the other side gives none
  bool changed = true;
};

// Lives on the client's strand. One attempt each; the caller tries again.
class Lookup {
 public:
  virtual ~Lookup() = default;
  virtual aio::Task<Result<Place>> find(std::string topic) = 0;
  // 0: the topic is not partitioned.
  virtual aio::Task<Result<unsigned>> partitions(std::string topic) = 0;
  virtual aio::Task<Result<TopicList>> topics(std::string name_space, std::string hash) = 0;
  virtual void close() {}
};

// The client outlives it.
std::unique_ptr<Lookup> make_binary_lookup(Client& client);
std::unique_ptr<Lookup> make_http_lookup(Client& client);

}  // namespace hulse::client

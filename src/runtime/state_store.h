// StateStore: the state of one component, kept on a topic of its own with KeyValueTopic.
//
//   persistent://NAMESPACE/hulse-state~<tenant>~<namespace>~<name>   key → StateValue
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "aio/gate.h"
#include "client/client.h"
#include "client/key_value_topic.h"
#include "connect/state.h"
#include "runtime/state_value.h"

namespace hulse::runtime {

// Lives on the client's strand; all members are called there. The client outlives it; closed before
// it is destroyed.
class StateStore : public connect::State {
 public:
  // `name_space`: where what is remembered lies. `name`: "tenant/namespace/name" of the component.
  // Nothing is opened before it is needed.
  StateStore(client::Client& client, const std::string& name_space, const std::string& name);
  ~StateStore() override;

  aio::Task<Result<std::optional<std::string>>> get(std::string key) override;
  aio::Task<Result<void>> put(std::string key, std::string value) override;
  aio::Task<Result<void>> remove(std::string key) override;
  aio::Task<Result<int64_t>> increment(std::string key, int64_t by) override;
  aio::Task<Result<int64_t>> counter(std::string key) override;

  // For those who look from outside: everything that is stored by now is seen. Code::not_found
  // when there is no such key; nothing is created by asking.
  struct Stored {
    StateValue value;
    uint64_t version = 0;
  };
  aio::Task<Result<Stored>> look(std::string key);

  // Everything under every key goes, and so does the subscription that kept it.
  aio::Task<Result<void>> drop();

  aio::Task<void> close();

  static std::string topic_of(const std::string& name_space, const std::string& name);

 private:
  using Topic = std::shared_ptr<client::KeyValueTopic>;
  // Additions to one key that wait to be stored together.
  struct Additions {
    int64_t sum = 0;
    std::vector<std::shared_ptr<std::optional<Result<int64_t>>>> waiting;  // each told its own sum
    std::vector<int64_t> by;
  };

  aio::Task<Result<Topic>> open();
  aio::Task<Result<bool>> exists();
  aio::Task<void> look_after();
  aio::Task<void> add_up(std::string key);
  aio::Task<Result<int64_t>> add(Topic topic, std::string key, int64_t by);
  aio::Task<void> remove_some(Topic topic, std::vector<std::string> keys, size_t first,
                              std::shared_ptr<std::optional<Error>> failed);

  client::Client& client_;
  const std::string name_space_;
  const std::string topic_name_;
  Topic topic_;
  bool opening_ = false;
  bool looked_after_ = false;
  aio::Event changed_;
  aio::Gate gate_;
  std::map<std::string, Additions> additions_;
  std::map<std::string, bool> adding_;  // keys whose additions are being stored
};

}  // namespace hulse::runtime

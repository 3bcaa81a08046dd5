#include "promises.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace hulse::storage {
namespace {

constexpr uint64_t kOpenMax = 200;
constexpr uint64_t kMarkEvery = 3;  // such entries change a key together with their append

TopicId topic_id(size_t topic) { return 10 + topic; }
bool marks(uint64_t index) { return index % kMarkEvery == 0; }
std::string mark_key(size_t topic) { return fmt::format("mark/{}", topic); }
std::string key_name(size_t key) { return fmt::format("key/{}", key); }
std::string twin_name(size_t key) { return fmt::format("twin/{}", key); }

std::string payload_of(size_t topic, uint64_t index) {
  std::minstd_rand random(static_cast<unsigned>(index * Promises::kTopics + topic + 1));
  // Most are small; some span several pages of a disk.
  const size_t size = random() % 8 == 0 ? random() % 12000 : random() % 500;
  std::string out = fmt::format("{}:{}:", topic, index);
  while (out.size() < size) out += static_cast<char>('a' + random() % 26);
  return out;
}

// Every fifth change of a key takes it away.
std::optional<std::string> value_of(uint64_t version) {
  if (version == 0 || version % 5 == 0) return std::nullopt;
  return fmt::format("version {}", version);
}

class Judge {
 public:
  explicit Judge(const Store& store) : store_(store) {}

  void topic(size_t number, const Promises::Topic& topic, bool refused) {
    const TopicId id = topic_id(number);
    const auto extent = store_.extent(id);
    // Nobody is told of a trim that could not be stored: another one comes.
    if ((extent.first < topic.trim_promised && !refused) || extent.first > topic.trim_asked) {
      say("topic {} begins at {}, but its trim to {} was promised and {} asked for", number,
          extent.first, topic.trim_promised, topic.trim_asked);
    }
    std::vector<bool> found(topic.asked);
    for (uint64_t from = 0;;) {
      const auto entries = store_.read(id, from, 100, 1 << 20);
      if (!entries) {
        say("topic {} from {}: {}", number, from, entries.error().text());
        return;
      }
      if (entries->empty()) break;
      for (const auto& entry : *entries) {
        if (entry.index < from || entry.index >= topic.asked) {
          say("topic {} has entry {} after {}: of {} that were asked for", number, entry.index,
              from, topic.asked);
          return;
        }
        if (entry.payload.view() != payload_of(number, entry.index)) {
          say("topic {}: entry {} has other bytes", number, entry.index);
        }
        found[entry.index] = true;
        from = entry.index + 1;
      }
    }
    const auto lost = [&](uint64_t index) { return topic.promised[index] && !found[index]; };
    uint64_t count = 0;
    uint64_t example = 0;
    for (uint64_t index = topic.trim_asked; index < topic.asked; ++index) {
      if (!lost(index)) continue;
      ++count;
      example = index;
    }
    if (count > 0) say("topic {}: {} promised entries are lost, one is {}", number, count, example);
    if (!refused) no_holes(number, topic, found, extent.first);
    mark(number, topic, found);
  }

  // What is stored of one run of the store is the first of what it was asked for.
  void no_holes(size_t number, const Promises::Topic& topic, const std::vector<bool>& found,
                uint64_t first) {
    for (size_t life = 0; life < topic.lives.size(); ++life) {
      const uint64_t end = life + 1 < topic.lives.size() ? topic.lives[life + 1] : topic.asked;
      bool missing = false;
      for (uint64_t index = std::max(topic.lives[life], first); index < end; ++index) {
        if (!found[index]) missing = true;
        if (found[index] && missing) {
          say("topic {}: entry {} is there and one before it is not", number, index);
          return;
        }
      }
    }
  }

  // An entry and its changes count together.
  void mark(size_t number, const Promises::Topic& topic, const std::vector<bool>& found) {
    const auto value = get(mark_key(number));
    uint64_t at = topic.asked;
    while (at > 0 && !(found[at - 1] && marks(at - 1))) --at;
    if (at > 0) {
      if (value != fmt::format("{}", at - 1)) {
        say("topic {}: its mark is {} and its last marked entry {}", number,
            value.value_or("nothing"), at - 1);
      }
    } else if (value && std::stoull(*value) >= topic.trim_asked) {
      say("topic {}: its mark is {}, but it has no marked entry", number, *value);
    }
  }

  void key(size_t number, const Promises::Key& key) {
    const auto value = get(key_name(number));
    const auto twin = get(twin_name(number));
    if (value != twin) {
      say("key {} is {}, its twin {}", number, value.value_or("nothing"), twin.value_or("nothing"));
    }
    for (uint64_t version = key.promised; version <= key.asked; ++version) {
      if (value == value_of(version)) return;
    }
    say("key {} is {}, but version {} was promised and {} asked for", number,
        value.value_or("nothing"), key.promised, key.asked);
  }

  std::vector<std::string> findings;

 private:
  template <class... Args>
  void say(fmt::format_string<Args...> text, Args&&... args) {
    findings.push_back(fmt::format(text, std::forward<Args>(args)...));
  }
  std::optional<std::string> get(const std::string& key) {
    const auto value = store_.get(key);
    if (value) return *value;
    say("{}: {}", key, value.error().text());
    return std::nullopt;
  }

  const Store& store_;
};

}  // namespace

uint64_t Promises::entries_promised() const {
  uint64_t count = 0;
  for (const auto& topic : topics) {
    count += static_cast<uint64_t>(std::count(topic.promised.begin(), topic.promised.end(), true));
  }
  return count;
}

std::vector<std::string> Promises::broken_by(const Store& store) const {
  Judge judge(store);
  for (size_t i = 0; i < kTopics; ++i) judge.topic(i, topics[i], refused);
  for (size_t i = 0; i < kKeys; ++i) judge.key(i, keys[i]);
  return judge.findings;
}

uint64_t Promises::told_or_right(const Store& store, size_t topic, const std::string& words) const {
  uint64_t told = 0;
  const auto& known = topics[topic];
  for (uint64_t index = known.trim_asked; index < known.asked; ++index) {
    if (!known.promised[index]) continue;
    const auto read = store.read(topic_id(topic), index, 1, 1);
    if (!read) {
      EXPECT_EQ(read.error().code(), Code::corrupt) << words << ": " << read.error().text();
      ++told;
      continue;
    }
    const bool there = !read->empty() && read->front().index == index;
    EXPECT_TRUE(there) << words << ": entry " << index << " of topic " << topic
                       << " is passed over in silence";
    if (!there) return told;
    EXPECT_EQ(read->front().payload.view(), payload_of(topic, index)) << words;
  }
  return told;
}

void Load::run(Store& store, uint64_t requests, std::mt19937_64& random,
               const std::function<bool()>& ended) {
  for (auto& topic : promises_.topics) topic.lives.push_back(topic.asked);
  for (uint64_t i = 0; i < requests && !ended(); ++i) {
    request(store, random);
    // Bursts: at times much shares a sync, at times each request has its own.
    const uint64_t open_max = random() % 50 == 0 ? 1 : kOpenMax;
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return open_ < open_max; });
  }
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return open_ == 0; });
}

Promises Load::promises() const {
  const std::lock_guard lock(mutex_);
  return promises_;
}

void Load::request(Store& store, std::mt19937_64& random) {
  const uint64_t kind = random() % 20;
  const size_t topic = random() % Promises::kTopics;
  if (kind < 15) {
    append(store, random, topic);
  } else if (kind < 19) {
    change(store, random() % Promises::kKeys);
  } else {
    trim(store, random, topic);
  }
}

void Load::done(const Result<void>& result, const std::function<void()>& note) {
  const std::lock_guard lock(mutex_);
  if (result) {
    note();
  } else {
    promises_.refused = true;
  }
  --open_;
  changed_.notify_all();
}

void Load::append(Store& store, std::mt19937_64&, size_t topic) {
  uint64_t index = 0;
  {
    const std::lock_guard lock(mutex_);
    index = promises_.topics[topic].asked++;
    promises_.topics[topic].promised.push_back(false);
    ++open_;
  }
  std::vector<Change> changes;
  if (marks(index)) changes.push_back({mark_key(topic), fmt::format("{}", index)});
  store.append(
      topic_id(topic), index, Bytes::from(payload_of(topic, index)), threads_.at(0),
      [this, topic, index](const Result<void>& result) {
        done(result, [&] { promises_.topics[topic].promised[index] = true; });
      },
      std::move(changes));
}

void Load::change(Store& store, size_t key) {
  uint64_t version = 0;
  std::array<uint64_t, Promises::kTopics> trims{};
  {
    const std::lock_guard lock(mutex_);
    version = ++promises_.keys[key].asked;
    trims = trims_;
    ++open_;
  }
  const auto value = value_of(version);
  store.change({{key_name(key), value}, {twin_name(key), value}}, threads_.at(0),
               [this, key, version, trims](const Result<void>& result) {
                 done(result, [&] {
                   promises_.keys[key].promised = version;
                   // Trims say nothing themselves; what comes after them in the log does.
                   for (size_t i = 0; i < trims.size(); ++i) {
                     auto& promised = promises_.topics[i].trim_promised;
                     promised = std::max(promised, trims[i]);
                   }
                 });
               });
}

void Load::trim(Store& store, std::mt19937_64& random, size_t topic) {
  uint64_t index = 0;
  {
    const std::lock_guard lock(mutex_);
    auto& known = promises_.topics[topic];
    // One topic is hardly ever trimmed: it keeps segments that nobody else needs.
    const uint64_t kept = topic == 0 ? 3000 : random() % 300;
    if (known.asked < known.trim_asked + kept) return;
    index = known.trim_asked = trims_[topic] = known.asked - kept;
  }
  store.trim(topic_id(topic), index);
}

}  // namespace hulse::storage

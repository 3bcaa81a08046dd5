#include "runtime/members.h"

#include <boost/json.hpp>

#include "base/ids.h"
#include "base/log.h"

namespace hulse::runtime {
namespace {

namespace json = boost::json;

constexpr std::string_view kPart = "worker";
constexpr aio::Duration kLook = std::chrono::milliseconds(250);
constexpr aio::Duration kLeadRetry = std::chrono::seconds(1);

std::optional<Member> parse(const std::string& id, const std::string& text) {
  boost::system::error_code error;
  const auto value = json::parse(text, error);
  if (error || !value.is_object()) return std::nullopt;
  const auto& object = value.get_object();
  const auto text_of = [&](std::string_view key) {
    const auto* found = object.if_contains(key);
    return found != nullptr && found->is_string() ? std::string(found->get_string())
                                                  : std::string();
  };
  const auto number_of = [&](std::string_view key) {
    const auto* found = object.if_contains(key);
    return found != nullptr && found->is_int64() ? found->get_int64() : 0;
  };
  Member member{.id = id, .host = text_of("host"), .life = text_of("life")};
  member.port = static_cast<uint16_t>(number_of("port"));
  member.epoch = static_cast<uint64_t>(number_of("epoch"));
  const auto* leads = object.if_contains("leads");
  member.leads = leads != nullptr && leads->is_bool() && leads->get_bool();
  return member;
}

}  // namespace

Members::Members(client::Client& client, MembersOptions options)
    : client_(client),
      options_(std::move(options)),
      gate_(client.executor()),
      changed_(client.executor()),
      beat_now_(client.executor()) {
  options_.self.life = random_hex(8);
}

Members::~Members() = default;

aio::Task<Result<std::shared_ptr<Members>>> Members::join(client::Client& client,
                                                          MembersOptions options) {
  const std::shared_ptr<Members> made(new Members(client, std::move(options)));
  const auto started = co_await made->start();
  if (!started) {
    co_await aio::start_cleanup();
    made->out_ = started.error();
    co_await made->leave();
    co_return started.error().with("joining the workers");
  }
  co_return made;
}

aio::Task<Result<void>> Members::start() {
  const auto opened = co_await client::KeyValueTopic::open(
      client_, {.topic = "persistent://" + options_.name_space + "/hulse-workers"});
  if (!opened) co_return opened.error();
  topic_ = *opened;
  // A record under this id is of a former life, or its owner learns by its next beat that it is
  // replaced.
  for (;;) {
    const auto* present = topic_->find(self());
    const auto sent = aio::Clock::now();
    const auto put = co_await topic_->put(self(), record(), present ? present->version : 0);
    if (put) {
      version_ = *put;
      confirmed_ = sent;
      break;
    }
    if (put.error().code() != Code::busy) co_return put.error();
  }
  see();
  gate_.spawn("beats of " + self(), beat());
  gate_.spawn("looking at workers", look());
  co_return Result<void>();
}

std::string Members::record() const {
  json::object out{{"v", 1},
                   {"host", options_.self.host},
                   {"port", options_.self.port},
                   {"life", options_.self.life},
                   {"leads", leading()}};
  if (leading()) out["epoch"] = lease_->epoch();
  return json::serialize(out);
}

void Members::end(Error why) {
  if (out_) return;
  out_ = std::move(why);
  log::error(kPart, "{}", out_->text());
  gate_.cancel();
  changed_.notify();
}

aio::Task<void> Members::beat() {
  const auto self = shared_from_this();
  for (;;) {
    const auto at = aio::Clock::now() + options_.beat;
    while (!beats_ && aio::Clock::now() < at) {
      const bool woken = co_await beat_now_.wait_until(at);
      const bool stopped = co_await aio::cancelled();
      if (!woken && stopped) co_return;
    }
    beats_ = false;
    const auto sent = aio::Clock::now();
    const auto put = co_await topic_->put(this->self(), record(), version_);
    if (put) {
      version_ = *put;
      confirmed_ = sent;
      continue;
    }
    if (put.error().cancelled()) co_return;
    if (put.error().code() != Code::busy) {
      log::warn(kPart, "this worker cannot say that it lives: {}", put.error().text());
      const bool slept = co_await aio::sleep(kLeadRetry);
      if (!slept) co_return;
      continue;
    }
    const auto* now = topic_->find(this->self());
    const auto other = now ? parse(this->self(), now->value) : std::nullopt;
    if (other) {
      end(Error(Code::busy,
                fmt::format("another worker has joined as {} ({}:{}), so this one ends; give each "
                            "one an id of its own (--worker-id)",
                            other->id, other->host, other->port)));
    } else {
      end(Error(
          Code::fenced,
          fmt::format("the other workers have taken {} for dead, since it could not be heard "
                      "for {} s",
                      this->self(),
                      std::chrono::duration_cast<std::chrono::seconds>(options_.silence).count())));
    }
    co_return;
  }
}

// Who is heard, and what has changed by that.
void Members::see() {
  const auto now = aio::Clock::now();
  std::map<std::string, Member> alive;
  std::map<std::string, Heard> heard;
  for (const auto& [id, stored] : topic_->values()) {
    auto member = parse(id, stored.value);
    if (!member) continue;
    const auto before = heard_.find(id);
    auto& last = heard[id];
    last = before != heard_.end() && before->second.version == stored.version
               ? before->second
               : Heard{stored.version, now};
    if (id == self()) {
      member->leads = leading();
    } else if (now - last.at > options_.silence) {
      continue;
    }
    alive[id] = std::move(*member);
  }
  heard_ = std::move(heard);
  const auto same = [](const auto& a, const auto& b) {
    return a.first == b.first && a.second.life == b.second.life && a.second.leads == b.second.leads;
  };
  const bool changed = !std::equal(alive.begin(), alive.end(), alive_.begin(), alive_.end(), same);
  for (const auto& [id, member] : alive) {
    if (!alive_.contains(id) && id != self() && !alive_.empty())
      log::info(kPart, "worker {} ({}:{}) is there", id, member.host, member.port);
  }
  for (const auto& [id, member] : alive_) {
    if (!alive.contains(id)) log::warn(kPart, "worker {} is heard no more", id);
  }
  alive_ = std::move(alive);
  if (changed) changed_.notify();
}

aio::Task<void> Members::look() {
  const auto self = shared_from_this();
  // Early enough to be silent before the others take it for dead.
  const auto enough = options_.silence - options_.silence / 6;
  for (;;) {
    const bool slept = co_await aio::sleep(kLook);
    if (!slept) co_return;
    if (topic_->failed()) {
      end(*topic_->failed());
      co_return;
    }
    if (lease_ && lease_->lost()) {
      log::warn(kPart, "{} leads no more", this->self());
      const auto lost = std::exchange(lease_, nullptr);
      co_await lost->release();
      beats_ = true;
      beat_now_.notify();
    }
    see();
    const auto silent = aio::Clock::now() - confirmed_;
    if (alive_.size() > 1 && silent > enough) {
      end(Error(Code::unavailable,
                fmt::format("{} has not reached the bus for {} s; the other workers take over what "
                            "it runs",
                            this->self(),
                            std::chrono::duration_cast<std::chrono::seconds>(silent).count())));
      co_return;
    }
    if (leading()) {
      std::vector<std::pair<std::string, uint64_t>> dead;
      for (const auto& [id, last] : heard_) {
        if (!alive_.contains(id)) dead.emplace_back(id, last.version);
      }
      for (auto& [id, version] : dead) co_await bury(std::move(id), version);
      if (topic_->snapshot_due()) {
        const auto done = co_await topic_->snapshot();
        if (!done && !done.error().cancelled())
          log::warn(kPart, "a snapshot of the workers: {}", done.error().text());
      }
    } else if (!leader() && !alive_.empty() && alive_.begin()->first == this->self() && !taking_) {
      taking_ = true;
      gate_.spawn("taking the lead", lead());
    }
  }
}

aio::Task<void> Members::bury(std::string id, uint64_t version) {
  const auto removed = co_await topic_->remove(id, version);
  if (removed) {
    log::warn(kPart, "worker {} counts as dead", id);
  } else if (removed.error().code() != Code::busy && !removed.error().cancelled()) {
    log::warn(kPart, "removing the dead worker {}: {}", id, removed.error().text());
  }
}

aio::Task<void> Members::lead() {
  const auto self = shared_from_this();
  auto taken = co_await client::Lease::take(
      client_.executor(), client_.options(),
      {.topic = "persistent://" + options_.name_space + "/hulse-leader",
       .holder = this->self(),
       .beat = options_.beat});
  if (taken) {
    lease_ = std::move(*taken);
    log::info(kPart, "{} leads the workers (epoch {})", this->self(), lease_->epoch());
    beats_ = true;
    beat_now_.notify();
    see();
  } else if (!taken.error().cancelled()) {
    log::warn(kPart, "{} cannot lead the workers: {}", this->self(), taken.error().text());
    co_await aio::sleep(kLeadRetry);
  }
  taking_ = false;
}

std::set<std::string> Members::alive() const {
  std::set<std::string> out;
  for (const auto& [id, member] : alive_) out.insert(id);
  return out;
}

std::vector<Member> Members::members() const {
  std::vector<Member> out;
  for (const auto& [id, member] : alive_) out.push_back(member);
  return out;
}

std::optional<Member> Members::leader() const {
  std::optional<Member> found;
  for (const auto& [id, member] : alive_) {
    if (member.leads && (!found || member.epoch > found->epoch)) found = member;
  }
  return found;
}

aio::Task<void> Members::leave() {
  const auto self = shared_from_this();
  co_await gate_.close();
  if (!out_ && topic_ && !topic_->failed()) {
    const auto removed = co_await topic_->remove(this->self(), version_);
    if (!removed && !removed.error().cancelled() && removed.error().code() != Code::busy)
      log::warn(kPart, "leaving the workers: {}", removed.error().text());
  }
  if (!out_) out_ = Error(Code::cancelled, "left");
  if (lease_) co_await lease_->release();
  lease_.reset();
  if (topic_) co_await topic_->close();
  changed_.notify();
}

}  // namespace hulse::runtime

// The Elasticsearch sink: documents by _bulk, each record's outcome from the item that answers it.
#include <fmt/format.h>

#include <map>
#include <unordered_set>

#include "aio/event.h"
#include "aio/gate.h"
#include "base/log.h"
#include "base/text.h"
#include "connect/descriptor.h"
#include "connectors/elastic_search/answer.h"
#include "connectors/elastic_search/document.h"
#include "connectors/elastic_search/elastic_config.h"
#include "connectors/elastic_search/id_order.h"
#include "connectors/elastic_search/index_name.h"
#include "connectors/elastic_search/target.h"

namespace hulse::connectors::elastic_search {
namespace {

using aio::Task;
using connect::Verdict;

// For limits that are switched off.
constexpr size_t kActionsMax = 20'000;
constexpr size_t kBulkBytesMax = 50 * 1024 * 1024;
// What an action line adds to a document, about.
constexpr size_t kActionBytes = 100;
// What may wait for a request; a topic that brings more waits itself.
constexpr size_t kQueuedBytesMax = 16 * 1024 * 1024;
constexpr size_t kRequestsByDefault = 2;

// A batch of the runtime until all of its records are in requests.
struct Held {
  explicit Held(connect::RecordBatch given) : batch(std::move(given)) {}
  connect::RecordBatch batch;
  size_t next = 0;  // the first record that is in none yet
  size_t weight = 0;
};

struct Index {
  std::string name;
  std::string quoted;   // as a JSON text
  bool exists = false;  // known to, where it is made when needed
};

struct Item {
  Held* held = nullptr;
  size_t record = 0;
  Index* index = nullptr;
  bool remove = false;
  std::optional<std::string> id;

  const connect::Record& message() const { return held->batch[record]; }
};

struct Bulk {
  std::vector<std::shared_ptr<Held>> owners;
  std::vector<Item> items;
};

// Batches wait in a queue bounded in bytes; one or a few senders make requests of them. Lives on
// the instance's strand.
class ElasticSink final : public connect::Sink {
 public:
  explicit ElasticSink(ElasticConfig config) : config_(std::move(config)) {}

  Task<Result<void>> open(const connect::Context& context) override {
    guarantee_ = context.guarantee;
    bus_id_ = context.bus_id;
    prepare();
    const auto named = name_index(context);
    if (!named) co_return named.error();
    work_ = std::make_unique<Work>(context.executor, config_, requests_max());
    const auto reached = co_await work_->target.reach();
    if (!reached) co_return reached.error();
    for (size_t i = 0; i < requests_max(); ++i)
      work_->gate.spawn("Elasticsearch sender", send_bulks());
    co_return Result<void>();
  }

  Task<void> write(connect::RecordBatch batch) override {
    while (queued_bytes_ >= std::min(2 * bulk_bytes_max_, kQueuedBytesMax)) {
      const bool woken = co_await work_->taken.wait();
      if (!woken) co_return;
    }
    const auto held = std::make_shared<Held>(std::move(batch));
    held->weight = held->batch.value_bytes() + held->batch.size() * kActionBytes;
    queued_bytes_ += held->weight;
    queue_.push_back(held);
    work_->added.notify();
  }

  Task<void> flush() override {
    while (work_ && (requests_ > 0 || !queue_.empty())) {
      const bool woken = co_await work_->settled.wait();
      if (!woken) co_return;
    }
  }

  Result<std::vector<std::string>> preview(const connect::Context& context,
                                           connect::RecordBatch batch) override {
    guarantee_ = context.guarantee;
    bus_id_ = context.bus_id;
    prepare();
    const auto named = name_index(context);
    if (!named) return named.error();
    Held held(std::move(batch));
    std::vector<std::string> lines(held.batch.size());
    for (size_t i = 0; i < lines.size(); ++i) {
      const auto item = item_of(held, i);
      if (item) lines[i] = body_of({&*item, 1});
    }
    return lines;
  }

  Task<void> close() override {
    if (work_) co_await work_->gate.close();
    queue_.clear();
    queued_bytes_ = 0;
    if (work_) work_->target.close();
    work_.reset();
  }

 private:
  struct Work {
    Work(aio::Executor executor, const ElasticConfig& config, size_t requests_max)
        : target(executor, config, requests_max),
          added(executor),
          taken(executor),
          settled(executor),
          gate(executor) {}
    Target target;
    aio::Event added;
    aio::Event taken;
    aio::Event settled;
    aio::Gate gate;
  };

  // ---- opening

  void prepare() {
    actions_max_ =
        config_.bulk_actions < 0 ? kActionsMax : static_cast<size_t>(config_.bulk_actions);
    bulk_bytes_max_ = config_.bulk_size_mb < 0
                          ? kBulkBytesMax
                          : static_cast<size_t>(config_.bulk_size_mb) * 1024 * 1024;
    if (config_.type_name != "_doc") {
      log::info("elastic_search",
                "typeName {} has no effect: since Elasticsearch 7 an index has one type",
                config_.type_name);
    }
  }

  Result<void> name_index(const connect::Context& context) {
    if (!config_.index_name.empty()) {
      auto parsed = IndexName::parse(config_.index_name);
      if (!parsed) return std::move(parsed).error();
      index_name_ = std::move(*parsed);
      if (!index_name_->has_date()) fixed_index_ = index_called(index_name_->at(0));
      return {};
    }
    const auto name = index_of_topic(context.topic);
    if (!name) return name.error();
    return {};
  }

  // One at a time where a later change must not overtake an earlier one.
  size_t requests_max() const {
    if (config_.ids_are_the_users()) return 1;
    if (config_.bulk_concurrent_requests == 0) return kRequestsByDefault;
    return static_cast<size_t>(config_.bulk_concurrent_requests);
  }

  Index* index_called(const std::string& name) {
    auto& index = indices_[name];
    if (!index) {
      index = std::make_unique<Index>();
      index->name = name;
      index->quoted = json_quote(name);
    }
    return index.get();
  }

  // ---- from records to requests

  Task<void> send_bulks() {
    for (;;) {
      while (queue_.empty()) {
        const bool woken = co_await work_->added.wait();
        if (!woken) co_return;
      }
      if (work_->gate.closing()) co_return;
      auto bulk = pick();
      work_->taken.notify();
      ++requests_;
      if (!bulk.items.empty()) co_await deliver(bulk);
      --requests_;
      work_->settled.notify();
    }
  }

  Bulk pick() {
    Bulk bulk;
    size_t bytes = 0;
    std::unordered_set<std::string> ids;
    while (!queue_.empty()) {
      const auto held = queue_.front();
      bulk.owners.push_back(held);
      for (; held->next < held->batch.size(); ++held->next) {
        const size_t size = held->batch[held->next].value.size() + kActionBytes;
        const bool full = bulk.items.size() >= actions_max_ || bytes + size > bulk_bytes_max_;
        if (full && !bulk.items.empty()) return bulk;
        auto item = item_of(*held, held->next);
        if (!item) continue;
        // Two changes of one document in one request: if the first had to be tried again, it would
        // come after the second.
        if (config_.ids_are_the_users() && item->id && !ids.insert(*item->id).second) return bulk;
        bytes += size;
        bulk.items.push_back(std::move(*item));
      }
      queued_bytes_ -= held->weight;
      queue_.pop_front();
    }
    return bulk;
  }

  // What is to be written of a record; nothing when its outcome has been given already.
  std::optional<Item> item_of(Held& held, size_t record) {
    const auto& message = held.batch[record];
    Item item;
    item.held = &held;
    item.record = record;
    // In a topic of bytes nothing tells an empty value from an absent one.
    const bool absent = message.null_value || message.value.empty();
    if (absent && config_.null_action == NullAction::ignore) {
      held.batch.ok(record);
      return std::nullopt;
    }
    if (absent && config_.null_action == NullAction::fail) {
      held.batch.fail(record, Verdict::reject,
                      Error(Code::invalid, "it has no value, and nullValueAction is FAIL"));
      return std::nullopt;
    }
    if (!absent && !looks_like_an_object(message.value)) {
      settle(item, {Meaning::malformed, "the payload is not a JSON object"});
      return std::nullopt;
    }
    auto id = id_of(held.batch.topic(), message, absent);
    if (!id) {
      settle(item, {Meaning::malformed, id.error().text()});
      return std::nullopt;
    }
    item.id = std::move(*id);
    item.remove = absent;
    const auto index = index_of(held.batch.topic(), message);
    if (!index) {
      settle(item, {Meaning::malformed, index.error().text()});
      return std::nullopt;
    }
    item.index = *index;
    if (config_.ids_are_the_users() && item.id) {
      if (!order_.may_go(*item.id, {held.batch.topic(), message.id})) {
        held.batch.fail(
            record, Verdict::retry,
            Error(Code::busy, "an earlier change of this document waits for its next try"));
        return std::nullopt;
      }
    }
    return item;
  }

  Result<std::optional<std::string>> id_of(const std::string& topic, const connect::Record& message,
                                           bool absent) const {
    if (!config_.primary_fields.empty() && !absent) {
      auto id = id_of_fields(message.value, config_.primary_fields);
      if (!id) return std::move(id).error();
      return std::optional(std::move(*id));
    }
    if (!config_.key_ignore && message.key) return std::optional(std::string(*message.key));
    if (absent) {
      return Error(Code::invalid,
                   "it has no value and no key: there is nothing to say which document to "
                   "delete");
    }
    if (guarantee_ == connect::Guarantee::effectively_once) {
      return std::optional(id_of_place(bus_id_, topic, message.id));
    }
    return std::optional<std::string>();
  }

  Result<Index*> index_of(const std::string& topic, const connect::Record& message) {
    if (fixed_index_ != nullptr) return fixed_index_;
    if (index_name_) {
      if (message.event_time == 0) {
        return Error(Code::invalid, "it has no event time, which indexName asks for");
      }
      return index_called(index_name_->at(message.event_time));
    }
    if (topic != last_topic_ || last_index_ == nullptr) {
      const auto name = index_of_topic(topic);
      if (!name) return name.error();
      last_topic_ = topic;
      last_index_ = index_called(*name);
    }
    return last_index_;
  }

  std::string body_of(std::span<const Item> items) const {
    size_t bytes = 0;
    for (const auto& item : items) {
      bytes += item.message().value.size() + kActionBytes + (item.id ? item.id->size() : 0);
    }
    std::string body;
    body.reserve(bytes);
    for (const auto& item : items) {
      append_action(body, item.remove ? "delete" : "index", item.index->quoted, item.id);
      if (item.remove) continue;
      append_document(body, item.message().value, config_.strip_non_printable);
      body += '\n';
    }
    return body;
  }

  // ---- from answers to outcomes

  // Sends all items. Where the request as a whole is refused, its halves are sent, until the one
  // that is not accepted stands alone. Returns early when it is cancelled: what has no outcome then
  // comes again.
  Task<void> deliver(Bulk& bulk) {
    std::vector<std::span<Item>> todo = {bulk.items};
    while (!todo.empty()) {
      const auto items = todo.back();
      todo.pop_back();
      const auto refused = co_await send(items);
      if (work_->gate.closing()) co_return;
      if (!refused) continue;
      if (items.size() == 1) {
        settle(items[0], *refused);
        continue;
      }
      const size_t half = items.size() / 2;
      todo.push_back(items.subspan(half));
      todo.push_back(items.first(half));
    }
  }

  // What is wrong with the request as a whole, when that may be for one of its documents; all
  // outcomes are given otherwise.
  Task<std::optional<Judgement>> send(std::span<Item> items) {
    if (config_.create_index) {
      const auto made = co_await make_indices(items);
      if (made.meaning != Meaning::ok) {
        for (auto& item : items) settle(item, made);
        co_return std::nullopt;
      }
    }
    auto body = body_of(items);
    const auto answer = co_await work_->target.bulk(std::move(body));
    if (!answer) {
      const auto& error = answer.error();
      if (error.cancelled() || error.code() == Code::closed) co_return std::nullopt;
      const bool for_good = error.code() == Code::permission || error.code() == Code::invalid;
      const Judgement judgement{for_good ? Meaning::fatal : Meaning::retry, error.text()};
      for (auto& item : items) settle(item, judgement);
      co_return std::nullopt;
    }
    if (answer->status >= 300 || answer->status < 200) {
      auto judgement = judge_request(answer->status, answer->body);
      judgement.words = work_->target.shown_url() + ": " + judgement.words;
      if (judgement.meaning == Meaning::malformed) co_return judgement;
      for (auto& item : items) settle(item, judgement);
      co_return std::nullopt;
    }
    const auto judged = judge_items(answer->body, items.size());
    for (size_t i = 0; i < items.size(); ++i) {
      if (judged) {
        settle(items[i], (*judged)[i]);
      } else {
        settle(items[i],
               {Meaning::retry, work_->target.shown_url() + ": " + judged.error().text()});
      }
    }
    co_return std::nullopt;
  }

  Task<Judgement> make_indices(std::span<Item> items) {
    for (const auto& item : items) {
      if (item.index->exists) continue;
      auto made = co_await work_->target.make_index(item.index->name);
      if (made.meaning != Meaning::ok) co_return made;
      item.index->exists = true;
    }
    co_return Judgement();
  }

  void settle(const Item& item, const Judgement& judgement) {
    auto& batch = item.held->batch;
    const bool ordered = config_.ids_are_the_users() && item.id;
    if (ordered) {
      const IdOrder::Place place{batch.topic(), batch[item.record].id};
      if (judgement.meaning == Meaning::retry) {
        order_.failed(*item.id, place);
      } else {
        order_.settled(*item.id, place);
      }
    }
    const auto where = [&](Code code) {
      Error error(code, judgement.words);
      if (item.index == nullptr) return error;
      return std::move(error).with("index " + item.index->name);
    };
    switch (judgement.meaning) {
      case Meaning::ok: batch.ok(item.record); return;
      case Meaning::retry:
        batch.fail(item.record, Verdict::retry, where(Code::unavailable));
        return;
      case Meaning::fatal: batch.fail(item.record, Verdict::fatal, where(Code::permission)); return;
      case Meaning::malformed: break;
    }
    switch (config_.malformed_action) {
      case MalformedAction::fail:
        batch.fail(item.record, Verdict::reject, where(Code::invalid));
        return;
      case MalformedAction::warn:
        log::warn("elastic_search", "message {} of {} is left out, as malformedDocAction says: {}",
                  batch[item.record].id.text(), batch.topic(), where(Code::invalid).text());
        batch.ok(item.record);
        return;
      case MalformedAction::ignore: batch.ok(item.record); return;
    }
  }

  ElasticConfig config_;
  connect::Guarantee guarantee_ = connect::Guarantee::at_least_once;
  std::string bus_id_;
  size_t actions_max_ = 0;
  size_t bulk_bytes_max_ = 0;

  std::optional<IndexName> index_name_;
  std::map<std::string, std::unique_ptr<Index>> indices_;
  Index* fixed_index_ = nullptr;
  std::string last_topic_;
  Index* last_index_ = nullptr;

  std::deque<std::shared_ptr<Held>> queue_;
  size_t queued_bytes_ = 0;
  size_t requests_ = 0;
  IdOrder order_;
  std::unique_ptr<Work> work_;
};

constexpr std::string_view kAliases[] = {"elastic-search"};
constexpr connect::Descriptor kDescriptors[] = {{
    .name = "elastic_search",
    .kind = connect::Kind::sink,
    .description = "Writes JSON documents to Elasticsearch or OpenSearch.",
    .aliases = kAliases,
    .fields = kFields,
    .effectively_once = true,
    .make_sink =
        [](const config::Given& given) {
          return connect::make<connect::Sink, ElasticSink, ElasticConfig>(kFields, given);
        },
}};

}  // namespace

std::span<const connect::Descriptor> descriptors() { return kDescriptors; }

}  // namespace hulse::connectors::elastic_search

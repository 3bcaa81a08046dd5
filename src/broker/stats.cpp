#include "broker/stats.h"

#include <boost/json.hpp>
#include <ctime>

#include "broker/subscription.h"

namespace hulse::broker {
namespace {

namespace json = boost::json;

json::object metadata(const std::map<std::string, std::string>& pairs) {
  json::object out;
  for (const auto& [key, value] : pairs) out[key] = value;
  return out;
}

double mean_size(const Meter& meter) {
  return meter.message_rate == 0 ? 0 : meter.byte_rate / meter.message_rate;
}

json::object producer_stats(const Producer& producer) {
  return {{"accessMode", pb::ProducerAccessMode_Name(producer.access)},
          {"msgRateIn", producer.in.message_rate},
          {"msgThroughputIn", producer.in.byte_rate},
          {"averageMsgSize", mean_size(producer.in)},
          {"chunkedMessageRate", 0.0},
          {"producerId", producer.id},
          {"supportsPartialProducer", false},
          {"producerName", producer.name},
          {"address", "/" + producer.link->address()},
          {"connectedSince", iso_time(producer.since)},
          {"clientVersion", producer.link->client_version()},
          {"metadata", metadata(producer.metadata)}};
}

json::object consumer_stats(const Consumer& consumer) {
  const uint64_t entries = consumer.entries_out;
  return {{"appId", consumer.link->role()},
          {"msgRateOut", consumer.out.message_rate},
          {"msgThroughputOut", consumer.out.byte_rate},
          {"bytesOutCounter", consumer.out.bytes},
          {"msgOutCounter", consumer.out.messages},
          {"msgRateRedeliver", consumer.redelivered.message_rate},
          {"messageAckRate", consumer.acked.message_rate},
          {"chunkedMessageRate", 0.0},
          {"consumerName", consumer.name},
          {"availablePermits", consumer.permits},
          {"unackedMessages", consumer.unacked},
          {"avgMessagesPerEntry", entries == 0 ? 0 : consumer.out.messages / entries},
          {"blockedConsumerOnUnackedMsgs", consumer.blocked},
          {"drainingHashesCount", 0},
          {"drainingHashesClearedTotal", 0},
          {"drainingHashesUnackedMessages", 0},
          {"address", "/" + consumer.link->address()},
          {"connectedSince", iso_time(consumer.since)},
          {"clientVersion", consumer.link->client_version()},
          {"lastAckedTimestamp", consumer.acked_ms},
          {"lastConsumedTimestamp", consumer.consumed_ms},
          {"lastConsumedFlowTimestamp", consumer.flow_ms},
          {"metadata", metadata(consumer.metadata)},
          {"lastAckedTime", iso_time(consumer.acked_ms)},
          {"lastConsumedTime", iso_time(consumer.consumed_ms)}};
}

json::object subscription_stats(Topic& topic, const Subscription& subscription) {
  json::array consumers;
  int64_t flow_ms = 0;
  for (const auto& consumer : subscription.consumers()) {
    consumers.push_back(consumer_stats(*consumer));
    flow_ms = std::max(flow_ms, consumer->flow_ms);
  }
  const auto& cursor = subscription.cursor();
  const uint64_t backlog = topic.backlog(cursor);
  const bool by_key = subscription.type() == pb::CommandSubscribe::Key_Shared;
  json::object properties;
  for (const auto& [key, value] : subscription.properties()) properties[key] = value;
  json::object out{
      {"msgRateOut", subscription.out().message_rate},
      {"msgThroughputOut", subscription.out().byte_rate},
      {"bytesOutCounter", subscription.out().bytes},
      {"msgOutCounter", subscription.out().messages},
      {"msgRateRedeliver", subscription.redelivered().message_rate},
      {"messageAckRate", subscription.acked().message_rate},
      {"chunkedMessageRate", 0.0},
      {"msgBacklog", backlog},
      {"backlogSize", topic.bytes_from(cursor.acked_until())},
      {"earliestMsgPublishTimeInBacklog", 0},
      {"msgBacklogNoDelayed", backlog - std::min(backlog, subscription.delayed())},
      {"blockedSubscriptionOnUnackedMsgs", subscription.blocked()},
      {"msgDelayed", subscription.delayed()},
      {"msgInReplay", subscription.in_replay()},
      {"unackedMessages", subscription.unacked_messages()},
      {"type", subscription.consumers().empty()
                   ? json::value("None")
                   : json::value(pb::CommandSubscribe::SubType_Name(subscription.type()))},
      {"msgRateExpired", subscription.expired().message_rate},
      {"totalMsgExpired", subscription.expired().messages},
      {"lastExpireTimestamp", subscription.expired_ms()},
      {"lastConsumedFlowTimestamp", flow_ms},
      {"lastConsumedTimestamp", subscription.consumed_ms()},
      {"lastAckedTimestamp", subscription.acked_ms()},
      {"lastMarkDeleteAdvancedTimestamp", subscription.acked_ms()},
      {"consumers", std::move(consumers)},
      {"isDurable", subscription.durable()},
      {"isReplicated", false},
      {"allowOutOfOrderDelivery", false},
      {"consumersAfterMarkDeletePosition", json::object()},
      {"drainingHashesCount", 0},
      {"drainingHashesClearedTotal", 0},
      {"drainingHashesUnackedMessages", 0},
      {"nonContiguousDeletedMessagesRanges", cursor.ranges()},
      {"nonContiguousDeletedMessagesRangesSerializedSize", 0},
      {"delayedMessageIndexSizeInBytes", 0},
      {"subscriptionProperties", std::move(properties)},
      {"filterProcessedMsgCount", 0},
      {"filterAcceptedMsgCount", 0},
      {"filterRejectedMsgCount", 0},
      {"filterRescheduledMsgCount", 0},
      {"durable", subscription.durable()},
      {"replicated", false}};
  if (subscription.active() != nullptr) out["activeConsumerName"] = subscription.active()->name;
  if (by_key) out["keySharedMode"] = "AUTO_SPLIT";
  return out;
}

// Adds the numbers of `from` to those of `to`; what is no number is taken over if it is missing.
void add_up(json::object& to, const json::object& from) {
  for (const auto& [key, value] : from) {
    auto* sum = to.if_contains(key);
    if (sum == nullptr) {
      to[key] = value;
    } else if (sum->is_double() || value.is_double()) {
      if (value.is_number() && sum->is_number())
        *sum = sum->to_number<double>() + value.to_number<double>();
    } else if (sum->is_number() && value.is_number()) {
      *sum = sum->to_number<int64_t>() + value.to_number<int64_t>();
    } else if (key == "type" && sum->is_string() && sum->get_string() == "None") {
      *sum = value;
    } else if (sum->is_array() && value.is_array()) {
      for (const auto& item : value.get_array()) sum->get_array().push_back(item);
    } else if (sum->is_object() && value.is_object() && key != "metadata" &&
               key != "subscriptionProperties") {
      add_up(sum->get_object(), value.get_object());
    }
  }
}

}  // namespace

std::string iso_time(int64_t ms) {
  const std::time_t seconds = ms / 1000;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  return fmt::format("{}.{:03}Z", text, ms % 1000);
}

std::string position(const MessageId& id) { return fmt::format("{}:{}", id.ledger, id.entry); }

json::object topic_stats(Topic& topic) {
  const auto& counters = topic.counters();
  const auto& policies = topic.policies();
  const auto& compaction = topic.compaction_state();
  json::array publishers;
  for (const auto& [name, producer] : topic.producers())
    publishers.push_back(producer_stats(*producer));
  json::object subscriptions;
  uint64_t holes = 0;
  for (const auto& [name, subscription] : topic.subscriptions()) {
    subscriptions[name] = subscription_stats(topic, *subscription);
    holes += subscription->cursor().ranges();
  }
  return {{"msgRateIn", counters.in.message_rate},
          {"msgThroughputIn", counters.in.byte_rate},
          {"msgRateOut", counters.out.message_rate},
          {"msgThroughputOut", counters.out.byte_rate},
          {"bytesInCounter", counters.in.bytes},
          {"msgInCounter", counters.in.messages},
          {"systemTopicBytesInCounter", 0},
          {"bytesOutCounter", counters.out.bytes},
          {"msgOutCounter", counters.out.messages},
          {"bytesOutInternalCounter", 0},
          {"averageMsgSize", mean_size(counters.in)},
          {"msgChunkPublished", counters.chunked},
          {"storageSize", topic.bytes_from(topic.first_index())},
          {"backlogSize", topic.bytes_from(topic.slowest())},
          {"backlogQuotaLimitSize", policies.quota_bytes},
          {"backlogQuotaLimitTime", policies.quota_seconds},
          {"oldestBacklogMessageAgeSeconds", -1},
          {"publishRateLimitedTimes", 0},
          {"earliestMsgPublishTimeInBacklogs", 0},
          {"offloadedStorageSize", 0},
          {"lastOffloadLedgerId", 0},
          {"lastOffloadSuccessTimeStamp", 0},
          {"lastOffloadFailureTimeStamp", 0},
          {"ongoingTxnCount", 0},
          {"abortedTxnCount", 0},
          {"committedTxnCount", 0},
          {"publishers", std::move(publishers)},
          {"waitingPublishers", topic.waiting_producers()},
          {"subscriptions", std::move(subscriptions)},
          {"replication", json::object()},
          {"deduplicationStatus", policies.deduplication ? "Enabled" : "Disabled"},
          {"topicEpoch", topic.record().epoch},
          {"nonContiguousDeletedMessagesRanges", holes},
          {"nonContiguousDeletedMessagesRangesSerializedSize", 0},
          {"delayedMessageIndexSizeInBytes", 0},
          {"compaction",
           {{"lastCompactionRemovedEventCount", compaction.removed},
            {"lastCompactionSucceedTimestamp", compaction.succeeded_ms},
            {"lastCompactionFailedTimestamp", compaction.failed_ms},
            {"lastCompactionDurationTimeInMills", compaction.took_ms}}},
          {"ownerBroker", topic.shared().broker_id}};
}

json::object partitioned_stats(const std::vector<std::shared_ptr<Topic>>& partitions,
                               bool per_partition) {
  json::object out;
  json::object each;
  for (const auto& partition : partitions) {
    auto stats = topic_stats(*partition);
    add_up(out, stats);
    if (per_partition) each[partition->text()] = std::move(stats);
  }
  out["metadata"] = json::object{{"partitions", partitions.size()}, {"deleted", false}};
  out["partitions"] = std::move(each);
  return out;
}

json::object internal_stats(Topic& topic) {
  const auto& record = topic.record();
  json::array ledgers;
  for (size_t i = 0; i < record.ledgers.size(); ++i) {
    const bool last = i + 1 == record.ledgers.size();
    const uint64_t end = last ? topic.end_index() : record.ledgers[i + 1].first_index;
    if (!last && end <= topic.first_index()) continue;  // its entries are gone
    const uint64_t entries = end - std::min(end, record.ledgers[i].first_index);
    ledgers.push_back(json::object{{"ledgerId", record.ledgers[i].id},
                                   {"entries", last ? 0 : entries},
                                   {"size", last ? 0 : record.ledgers[i].bytes},
                                   {"offloaded", false},
                                   {"underReplicated", false}});
  }
  json::object cursors;
  for (const auto& [name, subscription] : topic.subscriptions()) {
    const auto& cursor = subscription->cursor();
    const uint64_t next = std::max(cursor.acked_until(), topic.first_index());
    cursors[name] = json::object{
        {"markDeletePosition", position(topic.before(cursor.acked_until()))},
        {"readPosition", position(topic.message_id(subscription->read_index()))},
        {"waitingReadOp", subscription->read_index() >= topic.end_index()},
        {"pendingReadOps", 0},
        {"messagesConsumedCounter", cursor.acked_until() + cursor.acked_ahead()},
        {"cursorLedger", -1},
        {"cursorLedgerLastEntry", -1},
        {"individuallyDeletedMessages", fmt::format("[{} entries]", cursor.acked_ahead())},
        {"state", "Open"},
        {"active", !subscription->consumers().empty()},
        {"numberOfEntriesSinceFirstNotAckedMessage",
         topic.end_index() - std::min(topic.end_index(), next)},
        {"totalNonContiguousDeletedMessagesRange", cursor.ranges()},
        {"subscriptionHavePendingRead", false},
        {"subscriptionHavePendingReplayRead", false},
        {"properties", json::object()}};
  }
  const uint64_t entries = topic.end_index() - std::min(topic.end_index(), topic.first_index());
  const uint64_t current =
      topic.end_index() - std::min(topic.end_index(), record.ledgers.back().first_index);
  const auto& compacted = record.compacted;
  return {{"entriesAddedCounter", topic.end_index()},
          {"numberOfEntries", entries},
          {"totalSize", topic.bytes_from(topic.first_index())},
          {"currentLedgerEntries", current},
          {"currentLedgerSize", topic.bytes_from(record.ledgers.back().first_index)},
          // It begins where the one before it was closed.
          {"lastLedgerCreatedTimestamp",
           iso_time(record.ledgers.size() > 1 ? record.ledgers.end()[-2].closed_ms : 0)},
          {"waitingCursorsCount", 0},
          {"pendingAddEntriesCount", 0},
          {"lastConfirmedEntry", position(topic.last_id())},
          {"state", record.terminated ? "Terminated" : "LedgerOpened"},
          {"ledgers", std::move(ledgers)},
          {"cursors", std::move(cursors)},
          {"schemaLedgers", json::array()},
          {"compactedLedger",
           {{"ledgerId", compacted ? static_cast<int64_t>(compacted->id) : -1},
            {"entries", compacted ? static_cast<int64_t>(compacted->entries) : -1},
            {"size", compacted ? static_cast<int64_t>(compacted->bytes) : -1},
            {"offloaded", false},
            {"underReplicated", false}}}};
}

}  // namespace hulse::broker

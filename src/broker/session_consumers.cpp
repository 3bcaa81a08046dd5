// Session's commands of consumers.
#include "base/log.h"
#include "broker/session.h"
#include "broker/subscription.h"

namespace hulse::broker {
namespace {
constexpr std::string_view kPart = "broker";
}

void Session::on_subscribe(const pb::CommandSubscribe& command) {
  const auto refuse = [&](pb::ServerError code, const std::string& message) {
    error(command.request_id(), code, message);
  };
  if (consumer(command.consumer_id())) return success(command.request_id());
  if (command.subscription().empty())
    return refuse(pb::MetadataError, "the subscription has no name");
  if (const auto refused = forbid(Action::consume, command.topic(), command.subscription()))
    return refuse(refused->code, refused->message);
  if (command.read_compacted() && command.subtype() != pb::CommandSubscribe::Exclusive &&
      command.subtype() != pb::CommandSubscribe::Failover) {
    return refuse(pb::NotAllowedError,
                  "readCompacted is only possible on exclusive and failover subscriptions");
  }
  const auto found = broker_.topic(command.topic(), command.force_topic_creation());
  if (found.refusal) return refuse(found.refusal->code, found.refusal->message);
  if (command.has_schema() && is_kept(command.schema())) {
    gate_.spawn("schema of a consumer", check_consumer_schema(found.topic, command));
    return;
  }
  find_position(found.topic, command);
}

aio::Task<void> Session::check_consumer_schema(std::shared_ptr<Topic> topic,
                                               pb::CommandSubscribe command) {
  const auto self = shared_from_this();
  const std::string base = topic->name().base().text();
  const auto policies = topic->policies();
  Result<void> ok =
      broker_.schemas().readable(base, command.schema(), policies.schema_compatibility);
  if (broker_.schemas().latest(base) == nullptr) {
    // The first one gives the topic its schema.
    const auto version = co_await broker_.schemas().add(base, command.schema(), policies);
    if (!version) ok = version.error();
  }
  if (ended_) co_return;
  if (!ok) {
    error(command.request_id(), pb::IncompatibleSchema, ok.error().text());
    co_return;
  }
  find_position(topic, command);
}

void Session::find_position(const std::shared_ptr<Topic>& topic,
                            const pb::CommandSubscribe& command) {
  if (command.start_message_rollback_duration_sec() > 0 &&
      topic->find(command.subscription()) == nullptr) {
    gate_.spawn("subscribe at a time", subscribe_at_time(topic, command));
    return;
  }
  uint64_t position = command.initialposition() == pb::CommandSubscribe::Earliest
                          ? topic->first_readable(command.read_compacted())
                          : topic->end_index();
  if (!command.durable() && command.has_start_message_id()) {
    const auto& id = command.start_message_id();
    // At the id, as Apache Pulsar does: the command does not say whether the reader wants that
    // entry or what follows it (or which part of a batch), so the client passes over what it does
    // not want.
    position = topic->index_of(id.ledgerid(), id.entryid(), command.read_compacted());
  }
  subscribe(topic, command, position);
}

aio::Task<void> Session::subscribe_at_time(std::shared_ptr<Topic> topic,
                                           pb::CommandSubscribe command) {
  const auto self = shared_from_this();
  const uint64_t back_ms = command.start_message_rollback_duration_sec() * 1000;
  const auto now_ms = static_cast<uint64_t>(aio::wall_ms());
  const auto index = co_await topic->index_at(now_ms - std::min(now_ms, back_ms));
  if (!index) {
    error(command.request_id(), pb::PersistenceError, index.error().text());
    co_return;
  }
  subscribe(topic, command, *index);
}

void Session::subscribe(const std::shared_ptr<Topic>& topic, const pb::CommandSubscribe& command,
                        uint64_t position) {
  if (topic->stopped())
    return error(command.request_id(), pb::ServiceNotReady, topic->text() + " was unloaded");
  auto subscription = topic->find(command.subscription());
  // Asked before a subscription is made for one that is not let in.
  const auto full = subscription ? std::nullopt : topic->over_consumers();
  if (full) return error(command.request_id(), full->code, full->message);
  if (!subscription && command.durable() && !topic->policies().auto_subscribe) {
    return error(command.request_id(), pb::SubscriptionNotFound,
                 fmt::format("Subscription {} does not exist on {} and may not be created",
                             command.subscription(), topic->text()));
  }
  if (subscription && subscription->durable() != command.durable()) {
    return error(
        command.request_id(), pb::NotAllowedError,
        fmt::format("Subscription {} of {} exists and is {}durable", command.subscription(),
                    topic->text(), subscription->durable() ? "" : "not "));
  }
  auto made = std::make_shared<Consumer>();
  made->link = shared_from_this();
  made->topic = topic;
  made->id = command.consumer_id();
  made->name = command.consumer_name();
  made->priority = command.priority_level();
  made->reads_compacted = command.read_compacted();
  made->out_of_order = command.keysharedmeta().allowoutoforderdelivery();
  made->sticky =
      command.has_keysharedmeta() && command.keysharedmeta().keysharedmode() == pb::STICKY;
  for (const auto& range : command.keysharedmeta().hashranges()) {
    made->ranges.emplace_back(static_cast<uint32_t>(std::max(0, range.start())),
                              static_cast<uint32_t>(std::max(0, range.end())));
  }
  made->since = aio::wall_ms();
  for (const auto& pair : command.metadata()) made->metadata[pair.key()] = pair.value();
  if (command.has_consumer_epoch()) {
    made->epoch = command.consumer_epoch();
    made->has_epoch = true;
  }
  const auto join = [self = shared_from_this(), made, type = command.subtype(),
                     request_id = command.request_id()](const Result<void>& result) {
    if (self->ended_) return;
    if (!result) return self->error(request_id, pb::PersistenceError, result.error().text());
    const auto refusal = made->subscription->add(made, type, [&] {
      self->consumers_[made->id] = made;
      self->returning_.erase(made->id);
      self->success(request_id);
    });
    if (refusal) self->error(request_id, refusal->code, refusal->message);
  };
  if (subscription) {
    made->subscription = subscription;
    return topic->when_stored(subscription, join);
  }
  // `join` runs later, when the position is stored: by then the subscription is known.
  auto created = std::make_shared<std::function<void(const Result<void>&)>>();
  made->subscription = topic->create(command.subscription(), command.durable(), position,
                                     [created](const Result<void>& result) {
                                       if (*created) (*created)(result);
                                     });
  if (command.durable()) {
    *created = join;
  } else {
    join({});
  }
}

void Session::on_ack(const pb::CommandAck& command) {
  const auto known = consumer(command.consumer_id());
  const bool wants_answer = command.has_request_id();
  const auto answer = [self = shared_from_this(), consumer_id = command.consumer_id(),
                       request_id = command.request_id()](const Result<void>& result) {
    pb::BaseCommand response;
    response.set_type(pb::BaseCommand::ACK_RESPONSE);
    auto* ack = response.mutable_ackresponse();
    ack->set_consumer_id(consumer_id);
    ack->set_request_id(request_id);
    if (!result) {
      ack->set_error(pb::PersistenceError);
      ack->set_message(result.error().text());
    }
    self->send(response);
  };
  if (!known) {
    if (wants_answer) answer(Error(Code::not_found, "Consumer not found"));
    return;
  }
  if (command.has_validation_error()) {
    log::warn(kPart, "consumer {} of {} on {} could not read message {}:{} ({}) and skips it",
              known->name, address_, known->topic->text(), command.message_id(0).ledgerid(),
              command.message_id(0).entryid(),
              pb::CommandAck::ValidationError_Name(command.validation_error()));
  }
  known->subscription->ack(known, command, wants_answer ? Subscription::Done(answer) : nullptr);
}

void Session::on_unsubscribe(const pb::CommandUnsubscribe& command) {
  const auto known = consumer(command.consumer_id());
  if (!known) return error(command.request_id(), pb::MetadataError, "Consumer not found");
  const auto subscription = known->subscription;
  if (subscription->consumers().size() > 1 && !command.force()) {
    return error(
        command.request_id(), pb::MetadataError,
        fmt::format("Unconnected or shared consumer attempting to unsubscribe: {} others are "
                    "connected",
                    subscription->consumers().size() - 1));
  }
  const auto others = subscription->consumers();
  for (const auto& other : others) {
    if (other != known) other->link->drop_consumer(other->id);
  }
  consumers_.erase(known->id);
  subscription->remove(known);
  known->topic->remove(
      subscription->name(),
      [self = shared_from_this(), request_id = command.request_id()](const Result<void>& result) {
        if (!result) return self->error(request_id, pb::PersistenceError, result.error().text());
        self->success(request_id);
      });
}

void Session::on_seek(const pb::CommandSeek& command) {
  const auto known = consumer_or_returning(command.consumer_id());
  if (!known) return error(command.request_id(), pb::MetadataError, "Consumer not found");
  if (command.has_message_publish_time()) {
    gate_.spawn("seek to a time", seek_to_time(known, command));
    return;
  }
  seek(known, command.request_id(),
       known->topic->index_of(command.message_id().ledgerid(), command.message_id().entryid(),
                              known->reads_compacted));
}

aio::Task<void> Session::seek_to_time(std::shared_ptr<Consumer> consumer, pb::CommandSeek command) {
  const auto self = shared_from_this();
  const auto index = co_await consumer->topic->index_at(command.message_publish_time());
  if (!index) {
    error(command.request_id(), pb::PersistenceError, index.error().text());
    co_return;
  }
  seek(consumer, command.request_id(), *index);
}

void Session::seek(const std::shared_ptr<Consumer>& consumer, uint64_t request_id, uint64_t index) {
  consumer->subscription->seek(
      index, [self = shared_from_this(), request_id](const Result<void>& result) {
        if (!result) return self->error(request_id, pb::PersistenceError, result.error().text());
        self->success(request_id);
      });
}

aio::Task<void> Session::last_message_id(std::shared_ptr<Consumer> consumer, uint64_t request_id) {
  const auto self = shared_from_this();
  const auto topic = consumer->topic;
  MessageId last = topic->last_id();
  uint64_t index = topic->end_index() - 1;
  // What a reader of the compacted topic can still get when nothing came after the horizon.
  const auto compacted = topic->record().compacted;
  const bool from_compacted =
      consumer->reads_compacted && compacted && topic->end_index() <= compacted->horizon;
  if (from_compacted) {
    index = compacted->last_index;
    last = topic->message_id(index);
    if (compacted->entries == 0) last.entry = -1;
  }
  int batch_index = -1;
  if (last.entry >= 0) {
    const TailEntry* held = from_compacted ? nullptr : topic->in_tail(index);
    Bytes entry = held != nullptr ? held->entry : Bytes();
    if (held == nullptr) {
      const auto read = co_await topic->read(index, 1, 1, from_compacted);
      if (!read) {
        error(request_id, pb::PersistenceError, read.error().text());
        co_return;
      }
      if (!read->empty()) entry = read->front().entry;
    }
    const auto metadata = wire::parse_metadata(entry.view());
    if (metadata && metadata->has_num_messages_in_batch())
      batch_index = metadata->num_messages_in_batch() - 1;
  }
  pb::BaseCommand answer;
  answer.set_type(pb::BaseCommand::GET_LAST_MESSAGE_ID_RESPONSE);
  auto* response = answer.mutable_getlastmessageidresponse();
  response->set_request_id(request_id);
  auto* id = response->mutable_last_message_id();
  const bool empty = last.entry < 0;
  id->set_ledgerid(empty ? UINT64_MAX : static_cast<uint64_t>(last.ledger));
  id->set_entryid(empty ? UINT64_MAX : static_cast<uint64_t>(last.entry));
  id->set_partition(last.partition);
  id->set_batch_index(batch_index);
  const uint64_t acked = consumer->subscription->cursor().acked_until();
  auto* mark = response->mutable_consumer_mark_delete_position();
  if (acked > topic->first_index()) {
    const auto position = topic->message_id(acked - 1);
    mark->set_ledgerid(static_cast<uint64_t>(position.ledger));
    mark->set_entryid(static_cast<uint64_t>(position.entry));
  } else {
    mark->set_ledgerid(UINT64_MAX);
    mark->set_entryid(UINT64_MAX);
  }
  send(answer);
}

void Session::on_consumer_stats(const pb::CommandConsumerStats& command) {
  pb::BaseCommand answer;
  answer.set_type(pb::BaseCommand::CONSUMER_STATS_RESPONSE);
  auto* response = answer.mutable_consumerstatsresponse();
  response->set_request_id(command.request_id());
  const auto known = consumer(command.consumer_id());
  if (!known) {
    response->set_error_code(pb::ConsumerNotFound);
    response->set_error_message("Consumer not found");
  } else {
    response->set_consumername(known->name);
    response->set_availablepermits(static_cast<uint64_t>(std::max<int64_t>(0, known->permits)));
    response->set_unackedmessages(known->unacked);
    response->set_blockedconsumeronunackedmsgs(known->blocked);
    response->set_address(address_);
    response->set_type(pb::CommandSubscribe::SubType_Name(known->subscription->type()));
    response->set_msgbacklog(known->topic->backlog(known->subscription->cursor()));
  }
  send(answer);
}

}  // namespace hulse::broker

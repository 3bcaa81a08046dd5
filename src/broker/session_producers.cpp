// Session's commands of producers and schemas.
#include "broker/session.h"

namespace hulse::broker {

void Session::on_producer(const pb::CommandProducer& command) {
  if (const auto refused = forbid(Action::produce, command.topic()))
    return error(command.request_id(), refused->code, refused->message);
  const auto found = broker_.topic(command.topic(), true);
  if (found.refusal)
    return error(command.request_id(), found.refusal->code, found.refusal->message);
  if (command.has_schema() && is_kept(command.schema())) {
    gate_.spawn("schema of a producer", check_producer_schema(found.topic, command));
    return;
  }
  const auto base = found.topic->name().base().text();
  if (found.topic->policies().schema_validation && broker_.schemas().latest(base) != nullptr) {
    return error(
        command.request_id(), pb::IncompatibleSchema,
        "Producers cannot connect or send message without a schema to topics with a schema when "
        "SchemaValidationEnforced is enabled");
  }
  admit_producer(found.topic, command, "");
}

aio::Task<void> Session::check_producer_schema(std::shared_ptr<Topic> topic,
                                               pb::CommandProducer command) {
  const auto self = shared_from_this();
  const std::string base = topic->name().base().text();
  const auto policies = topic->policies();
  const auto version = co_await broker_.schemas().add(base, command.schema(), policies);
  if (ended_) co_return;
  if (!version) {
    error(command.request_id(),
          version.error().code() == Code::invalid ? pb::IncompatibleSchema : pb::PersistenceError,
          version.error().text());
    co_return;
  }
  admit_producer(topic, command, version_bytes(*version));
}

void Session::admit_producer(const std::shared_ptr<Topic>& topic,
                             const pb::CommandProducer& command,
                             const std::string& schema_version) {
  const uint64_t request_id = command.request_id();
  auto producer = std::make_shared<Producer>();
  producer->link = shared_from_this();
  producer->topic = topic;
  producer->id = command.producer_id();
  producer->name =
      command.producer_name().empty() ? broker_.next_producer_name() : command.producer_name();
  producer->epoch = command.epoch();
  producer->access = command.producer_access_mode();
  if (command.has_topic_epoch()) producer->topic_epoch = command.topic_epoch();
  producer->since = aio::wall_ms();
  for (const auto& pair : command.metadata()) producer->metadata[pair.key()] = pair.value();

  const auto tell = [self = shared_from_this(), producer, request_id, schema_version](bool ready) {
    pb::BaseCommand answer;
    answer.set_type(pb::BaseCommand::PRODUCER_SUCCESS);
    auto* success = answer.mutable_producer_success();
    success->set_request_id(request_id);
    success->set_producer_name(producer->name);
    success->set_last_sequence_id(producer->topic->last_sequence_id(producer->name));
    success->set_schema_version(schema_version);
    success->set_producer_ready(ready);
    if (ready && producer->topic_epoch) success->set_topic_epoch(*producer->topic_epoch);
    self->send(answer);
  };
  const auto admitted = [self = shared_from_this(), producer, request_id,
                         tell](const Result<void>& result) {
    if (result) return tell(true);
    producer->topic->remove_producer(producer);
    self->producers_.erase(producer->id);
    const Code code = result.error().code();
    self->error(request_id,
                code == Code::fenced        ? pb::ProducerFenced
                : code == Code::unavailable ? pb::ServiceNotReady
                                            : pb::PersistenceError,
                result.error().text());
  };
  const auto& initial = command.initial_subscription_name();
  // A subscription that was asked for is there before anything is sent.
  const auto ready = [topic, initial, admitted](const Result<void>& result) {
    if (!result || initial.empty()) return admitted(result);
    const auto known = topic->find(initial);
    if (known != nullptr) return topic->when_stored(known, admitted);
    topic->create(initial, true, topic->first_index(), admitted);
  };
  const auto before = producers_.find(producer->id);
  const auto previous = before == producers_.end() ? nullptr : before->second;
  bool waits = false;
  // Entered first: what admits it may call back at once.
  producers_[producer->id] = producer;
  closed_producers_.erase(producer->id);
  const auto refusal = topic->add_producer(producer, ready, waits);
  if (refusal) {
    if (previous) {
      producers_[producer->id] = previous;
    } else {
      producers_.erase(producer->id);
    }
    return error(request_id, refusal->code, refusal->message);
  }
  if (previous && (previous->topic != topic || previous->name != producer->name)) {
    previous->topic->remove_producer(previous);
  }
  if (waits) tell(false);
}

void Session::send_error(const pb::CommandSend& command, pb::ServerError code,
                         const std::string& message) {
  pb::BaseCommand answer;
  answer.set_type(pb::BaseCommand::SEND_ERROR);
  answer.mutable_send_error()->set_producer_id(command.producer_id());
  answer.mutable_send_error()->set_sequence_id(command.sequence_id());
  answer.mutable_send_error()->set_error(code);
  answer.mutable_send_error()->set_message(message);
  send(answer);
}

Result<void> Session::on_send(const pb::CommandSend& command, Bytes entry) {
  const auto known = producers_.find(command.producer_id());
  if (known == producers_.end()) {
    if (closed_producers_.contains(command.producer_id())) return {};
    return Error(Code::invalid,
                 fmt::format("SEND for the unknown producer {}", command.producer_id()));
  }
  // What comes before the entry is the broker's to say.
  entry = wire::without_broker_metadata(entry);
  // The limit is the payload's: clients cut a message into chunks that fill it, and metadata comes
  // on top.
  const auto metadata = wire::metadata_bytes(entry.view());
  const size_t payload =
      metadata ? static_cast<size_t>(entry.view().end() - metadata->end()) : entry.size();
  if (payload > broker_.options().message_bytes_max) {
    send_error(command, pb::NotAllowedError,
               fmt::format("the message has {} bytes, this broker takes {}", payload,
                           broker_.options().message_bytes_max));
    return {};
  }
  const auto intact = wire::verify_checksum(entry.view());
  if (!intact) {
    send_error(command, pb::ChecksumError, intact.error().text());
    return {};
  }
  if (command.has_txnid_most_bits()) {
    send_error(command, pb::NotAllowedError, "Transactions are not enabled.");
    return {};
  }
  unsynced_bytes_ += entry.size();
  broker_.shared().unsynced_bytes += entry.size();
  known->second->topic->publish(known->second, command, std::move(entry));
  return {};
}

void Session::on_get_schema(const pb::CommandGetSchema& command) {
  pb::BaseCommand answer;
  answer.set_type(pb::BaseCommand::GET_SCHEMA_RESPONSE);
  auto* response = answer.mutable_getschemaresponse();
  response->set_request_id(command.request_id());
  const auto name = wire::TopicName::parse(command.topic());
  const auto refuse = [&](pb::ServerError code, const std::string& message) {
    response->set_error_code(code);
    response->set_error_message(message);
    send(answer);
  };
  if (!name) return refuse(pb::InvalidTopicName, name.error().text());
  if (const auto refused = forbid(Action::lookup, command.topic()))
    return refuse(refused->code, refused->message);
  const StoredSchema* found = nullptr;
  if (command.has_schema_version()) {
    const auto version = parse_version(command.schema_version());
    if (!version) return refuse(pb::IncompatibleSchema, "Empty schema version");
    found = broker_.schemas().find(name->base().text(), *version);
  } else {
    found = broker_.schemas().latest(name->base().text());
  }
  if (found == nullptr) return refuse(pb::TopicNotFound, "Topic not found or no-schema");
  fill(*found, *response->mutable_schema());
  response->set_schema_version(version_bytes(found->version));
  send(answer);
}

aio::Task<void> Session::get_or_create_schema(pb::CommandGetOrCreateSchema command) {
  const auto self = shared_from_this();
  pb::BaseCommand answer;
  answer.set_type(pb::BaseCommand::GET_OR_CREATE_SCHEMA_RESPONSE);
  auto* response = answer.mutable_getorcreateschemaresponse();
  response->set_request_id(command.request_id());
  auto found = Broker::Found{nullptr, forbid(Action::produce, command.topic())};
  if (!found.refusal) found = broker_.topic(command.topic(), true);
  if (found.refusal) {
    response->set_error_code(found.refusal->code);
    response->set_error_message(found.refusal->message);
  } else {
    const std::string base = found.topic->name().base().text();
    const auto policies = found.topic->policies();
    const auto version = co_await broker_.schemas().add(base, command.schema(), policies);
    if (version) {
      response->set_schema_version(version_bytes(*version));
    } else {
      response->set_error_code(version.error().code() == Code::invalid ? pb::IncompatibleSchema
                                                                       : pb::PersistenceError);
      response->set_error_message(version.error().text());
    }
  }
  send(answer);
}

}  // namespace hulse::broker

// Session's questions about topics: how many partitions, which broker, which there are.
#include <boost/regex.hpp>

#include "aio/offload.h"
#include "broker/session.h"

namespace hulse::broker {
namespace {

constexpr size_t kPatternMax = 50;  // Pulsar's subscriptionPatternMaxLength

// Those whose name without domain and partition matches as a whole. Nothing when the pattern is no
// regular expression, or would take too long: then whoever asked has to look for itself.
std::optional<std::vector<std::string>> matching(const std::vector<std::string>& topics,
                                                 std::string_view pattern) {
  constexpr std::string_view kScheme = "://";
  const auto scheme = pattern.find(kScheme);
  if (scheme != std::string_view::npos) pattern.remove_prefix(scheme + kScheme.size());
  std::vector<std::string> out;
  try {
    const boost::regex regex(pattern.begin(), pattern.end());
    for (const auto& topic : topics) {
      const auto name = wire::TopicName::parse(topic);
      if (!name) continue;
      const std::string base = name->base().text();
      const auto bare = base.begin() + static_cast<ptrdiff_t>(base.find(kScheme) + kScheme.size());
      if (boost::regex_match(bare, base.end(), regex)) out.push_back(topic);
    }
  } catch (const std::exception&) {
    // regex_error, or runtime_error when Boost gives up instead of trying for ever.
    return std::nullopt;
  }
  return out;
}

}  // namespace

void Session::on_partitions(const pb::CommandPartitionedTopicMetadata& command) {
  pb::BaseCommand answer;
  answer.set_type(pb::BaseCommand::PARTITIONED_METADATA_RESPONSE);
  auto* response = answer.mutable_partitionmetadataresponse();
  response->set_request_id(command.request_id());
  const auto name = wire::TopicName::parse(command.topic());
  auto refusal = forbid(Action::lookup, command.topic());
  if (name && !refusal) refusal = broker_.refuse(*name);
  if (!name || refusal) {
    response->set_response(pb::CommandPartitionedTopicMetadataResponse::Failed);
    response->set_error(name ? refusal->code : pb::InvalidTopicName);
    response->set_message(name ? refusal->message : name.error().text());
  } else {
    response->set_response(pb::CommandPartitionedTopicMetadataResponse::Success);
    response->set_partitions(static_cast<uint32_t>(broker_.partitions(*name)));
  }
  send(answer);
}

void Session::on_lookup(const pb::CommandLookupTopic& command) {
  pb::BaseCommand answer;
  answer.set_type(pb::BaseCommand::LOOKUP_RESPONSE);
  auto* response = answer.mutable_lookuptopicresponse();
  response->set_request_id(command.request_id());
  const auto name = wire::TopicName::parse(command.topic());
  auto refusal = forbid(Action::lookup, command.topic());
  if (name && !refusal) refusal = broker_.refuse(*name);
  if (!name || refusal) {
    response->set_response(pb::CommandLookupTopicResponse::Failed);
    response->set_error(name ? refusal->code : pb::InvalidTopicName);
    response->set_message(name ? refusal->message : name.error().text());
  } else {
    response->set_response(pb::CommandLookupTopicResponse::Connect);
    response->set_brokerserviceurl(broker_.service_url());
    if (const auto tls = broker_.service_url_tls(); !tls.empty())
      response->set_brokerserviceurltls(tls);
    response->set_authoritative(true);
    // There is one broker: whatever way the client came is the way to it.
    response->set_proxy_through_service_url(true);
  }
  send(answer);
}

void Session::on_topics(const pb::CommandGetTopicsOfNamespace& command) {
  if (!broker_.authorization().sees(command.namespace_(), identity_.role)) {
    return error(command.request_id(), pb::AuthorizationError,
                 fmt::format("the role \"{}\" has no permission in {}", identity_.role,
                             command.namespace_()));
  }
  std::vector<std::string> topics;
  if (command.mode() != pb::CommandGetTopicsOfNamespace::NON_PERSISTENT)
    topics = broker_.topics(command.namespace_());
  if (command.topics_pattern().empty() || command.topics_pattern().size() > kPatternMax)
    return tell_topics(command, topics, false);
  gate_.spawn("topics by pattern", filter_topics(command, std::move(topics)));
}

aio::Task<void> Session::filter_topics(pb::CommandGetTopicsOfNamespace command,
                                       std::vector<std::string> topics) {
  const auto self = shared_from_this();
  // Anybody's expression over many names: not on the strand.
  const auto chosen = co_await aio::offload(broker_.shared().disk, [&topics, &command] {
    return matching(topics, command.topics_pattern());
  });
  tell_topics(command, chosen ? *chosen : topics, chosen.has_value());
}

void Session::tell_topics(const pb::CommandGetTopicsOfNamespace& command,
                          const std::vector<std::string>& topics, bool filtered) {
  pb::BaseCommand answer;
  answer.set_type(pb::BaseCommand::GET_TOPICS_OF_NAMESPACE_RESPONSE);
  auto* response = answer.mutable_gettopicsofnamespaceresponse();
  response->set_request_id(command.request_id());
  response->set_filtered(filtered);
  response->set_topics_hash(wire::topics_hash(topics));
  response->set_changed(command.topics_hash() != response->topics_hash());
  if (response->changed()) {
    for (const auto& topic : topics) response->add_topics(topic);
  }
  send(answer);
}

}  // namespace hulse::broker

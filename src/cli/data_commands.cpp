#include "cli/data_commands.h"

#include <boost/json.hpp>

#include "base/text.h"
#include "cli/admin_client.h"
#include "client/topic_finder.h"

namespace hulse::cli {

namespace json = boost::json;

std::optional<ComponentRef> parse_component_ref(std::string_view word) {
  ComponentRef ref;
  if (word.starts_with("sink:")) {
    word.remove_prefix(5);
  } else if (word.starts_with("source:")) {
    word.remove_prefix(7);
    ref.kind = connect::Kind::source;
  } else {
    return std::nullopt;
  }
  const auto parts = split(word, '/');
  if (parts.size() == 3) {
    ref.tenant = parts[0];
    ref.name_space = parts[1];
  }
  ref.name = parts.back();
  return ref;
}

AdminWords with_login(const AdminWords& admin, const LoginWords& login) {
  AdminWords out = admin;
  LoginWords& mine = out;
  if (!mine.auth_plugin && !mine.auth_params && mine.conf.empty()) {
    const auto trust = mine.trust_certs ? mine.trust_certs : login.trust_certs;
    mine = login;
    mine.trust_certs = trust;
  }
  return out;
}

Result<runtime::Component> fetch_component(const AdminWords& admin, const ComponentRef& ref) {
  const auto word = connect::to_string(ref.kind);
  const auto answer = call(admin, "GET",
                           fmt::format("/admin/v3/{}s/{}/{}/{}", word, url_encode(ref.tenant),
                                       url_encode(ref.name_space), url_encode(ref.name)));
  if (!answer) return answer.error();
  boost::system::error_code error;
  const auto config = json::parse(answer->body, error);
  if (error || !config.is_object())
    return Error(Code::corrupt, fmt::format("the server's answer is no {}", word));
  std::vector<std::string> notes;
  return runtime::parse_component(ref.kind, config.get_object(), notes);
}

aio::Task<Result<std::vector<std::string>>> find_topics(client::Client& client,
                                                        std::vector<std::string> topics,
                                                        std::string pattern) {
  auto finder = client::TopicFinder::make(
      client, {.topics = std::move(topics), .pattern = std::move(pattern)});
  if (!finder) co_return finder.error();
  co_return co_await (*finder)->find();
}

void add_data_commands(CLI::App& app, Action& action, const std::shared_ptr<AdminWords>& admin) {
  add_tap_command(app, action, admin);
  add_dead_letter_commands(app, action, admin);
  add_preview_command(app, action);
}

}  // namespace hulse::cli

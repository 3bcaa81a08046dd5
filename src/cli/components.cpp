// hulse sinks|sources|functions …: as pulsar-admin has them.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <charconv>
#include <iostream>
#include <map>

#include "aio/run.h"
#include "aio/signals.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/client_settings.h"
#include "cli/component_commands.h"
#include "cli/component_flags.h"
#include "cli/status_watch.h"
#include "runtime/local_run.h"

namespace hulse::cli {

namespace json = boost::json;

std::string Name::path() const {
  return fmt::format("/{}/{}/{}", url_encode(tenant), url_encode(name_space), url_encode(name));
}

void add_name(CLI::App& app, Name& name, const Group& group, bool with_instance) {
  app.add_option("--tenant", name.tenant, "Tenant of the " + group.word());
  app.add_option("--namespace", name.name_space, "Namespace of the " + group.word());
  app.add_option("--name", name.name, "Name of the " + group.word());
  if (group.kind == connect::Kind::function)
    app.add_option("--fqfn", name.fqfn, "tenant/namespace/name in one");
  if (with_instance) app.add_option("--instance-id", name.instance, "One instance, from 0 on");
}

Result<void> check_name(const Group& group, Name& name) {
  if (!name.fqfn.empty()) {
    const auto parts = split(name.fqfn, '/');
    if (parts.size() != 3)
      return Error(Code::invalid,
                   fmt::format("--fqfn: \"{}\" is not tenant/namespace/name", name.fqfn));
    name.tenant = parts[0];
    name.name_space = parts[1];
    name.name = parts[2];
  }
  if (!name.name.empty()) return {};
  return Error(Code::invalid,
               fmt::format("You must specify a name for the {} (--name)", group.word()));
}

CLI::App* add_ask(CLI::App& app, const Group& group, const char* names, const std::string& help,
                  bool with_instance, Ask ask) {
  const auto words = split(names, ',');
  auto* command = app.add_subcommand(std::string(words[0]), help);
  for (size_t i = 1; i < words.size(); ++i) command->alias(std::string(words[i]));
  auto name = std::make_shared<Name>();
  add_name(*command, *name, group, with_instance);
  add_admin_flags(*command, *group.admin);
  command->callback([=, &action = group.action] {
    action = [=]() -> Result<void> {
      const auto named = check_name(group, *name);
      return named ? ask(group, *name) : named;
    };
  });
  return command;
}

Result<void> print_json(const Group& group, const std::string& path) {
  const auto answer = call(*group.admin, "GET", path);
  if (!answer) return answer.error();
  boost::system::error_code error;
  const auto value = json::parse(answer->body, error);
  if (error) return Error(Code::corrupt, "the server's answer is not JSON: " + error.message());
  std::cout << pretty(value) << "\n";
  return {};
}

std::string with_instance(const Group& group, const Name& name, const char* what) {
  return group.base() + name.path() + (name.instance.empty() ? "" : "/" + name.instance) + "/" +
         what;
}

namespace {

// Flags of a local run that a later version takes: refused, not ignored.
constexpr const char* kNotYet[] = {"--secrets-provider-classname", "--secrets-provider-config",
                                   "--metrics-port-start", "--state-storage-service-url"};
// Of functions: how Java would run them, and where the web interface is, which nothing here needs.
constexpr const char* kUnused[] = {"--web-service-url,--webServiceUrl", "--runtime",
                                   "--instance-id-offset,--instanceIdOffset"};

// ---- localrun

struct LocalRun {
  ComponentWords component;
  ClientWords client;
  std::map<std::string, std::string> not_yet;
  std::map<std::string, std::string> unused;
  CLI::App* app = nullptr;
};

Result<void> local_run(LocalRun& words) {
  std::string problems;
  std::vector<std::string> notes;
  for (const auto& word : words.app->remaining())
    collect(problems, unknown_option(*words.app, word));
  for (const auto& [names, value] : words.not_yet) {
    if (!value.empty())
      collect(problems,
              fmt::format("{}: this version of Hulse does not have it yet", split(names, ',')[0]));
  }
  const auto object = gather(words.component, problems, notes);
  auto component = runtime::parse_component(words.component.kind, object, notes);
  // A configuration that could not be read is the cause; what it would have held is not missing.
  const bool unread = !problems.empty() && !component && object.empty();
  if (!component && !unread)
    collect(problems, with_flags(words.component, component.error().text()));
  auto client = client_options(words.client);
  if (!client) collect(problems, client.error().text());
  if (!problems.empty()) return Error(Code::invalid, problems);
  for (const auto& note : notes) log::info("localrun", "{}", note);
  aio::Threads threads(
      "worker", std::clamp<size_t>(component->parallelism, 1, std::thread::hardware_concurrency()));
  return aio::run(aio::until_signal(runtime::local_run(*component, *client, threads)));
}

void add_local_run(CLI::App& group, Action& action, connect::Kind kind) {
  auto words = std::make_shared<LocalRun>();
  words->component.kind = kind;
  auto* run = group.add_subcommand(
      "localrun",
      fmt::format("Run a {} in this process until it is stopped", connect::to_string(kind)));
  words->app = run;
  run->allow_extras();
  add_component_flags(*run, words->component);
  add_local_run_flags(*run, words->client);
  for (const char* names : kNotYet) run->add_option(names, words->not_yet[names])->group("");
  if (kind == connect::Kind::function) {
    for (const char* names : kUnused) run->add_option(names, words->unused[names])->group("");
  }
  run->callback([words, &action] { action = [words] { return local_run(*words); }; });
}

// ---- what is created on a server

// Lists that came in a header or a body.
void print_lines(const json::value& list, const char* before) {
  if (!list.is_array()) return;
  for (const auto& line : list.get_array()) {
    if (line.is_string()) std::cout << before << std::string_view(line.get_string()) << "\n";
  }
}

struct Edit {
  Group group;
  ComponentWords component;
  bool dry_run = false;
  bool update = false;
  std::string auth_data;  // --update-auth-data
  CLI::App* app = nullptr;
};

Result<void> edit(Edit& words) {
  std::string problems;
  std::vector<std::string> notes;
  for (const auto& word : words.app->remaining())
    collect(problems, unknown_option(*words.app, word));
  auto config = gather(words.component, problems, notes);
  Name name;
  const auto text = [&](const char* key, std::string& to) {
    const auto* value = config.if_contains(key);
    if (value != nullptr && value->is_string()) to = value->get_string();
  };
  text("tenant", name.tenant);
  text("namespace", name.name_space);
  text("name", name.name);
  if (words.group.kind == connect::Kind::function) {
    text("fqfn", name.fqfn);
    std::string class_name;
    text("className", class_name);
    if (name.name.empty()) name.name = class_name.substr(class_name.rfind('.') + 1);
  }
  const auto named = check_name(words.group, name);
  if (!named) collect(problems, named.error().text());
  if (!problems.empty()) return Error(Code::invalid, problems);
  for (const auto& note : notes) std::cerr << "note: " << note << "\n";
  // As pulsar-admin sends it: a type is the archive of a built-in.
  const std::string type = words.group.word() + "Type";
  if (const auto* given = config.if_contains(type); given && given->is_string()) {
    const char* code = words.group.kind == connect::Kind::function ? "jar" : "archive";
    if (config.contains(code)) {
      return Error(Code::invalid, fmt::format("Cannot specify both {1} and {0}-type (--{1} and "
                                              "--{0}-type)",
                                              words.group.word(), code));
    }
    config[code] = "builtin://" + std::string(given->get_string());
    config.erase(type);
  }
  Form form;
  form.add_json(words.group.word() + "Config", json::serialize(config));
  if (words.update) form.add_json("updateOptions", R"({"updateAuthData":false})");
  const std::string path = words.group.base() + name.path() + (words.dry_run ? "?dryRun=true" : "");
  const auto answer = call(*words.group.admin, words.update ? "PUT" : "POST", path, form);
  if (!answer) {
    if (answer.error().code() != Code::invalid) return answer.error();
    return Error(Code::invalid, with_flags(words.component, answer.error().text()));
  }
  if (words.dry_run) {
    std::cout << "Nothing is wrong with it; nothing was done (--dry-run)\n";
    boost::system::error_code error;
    const auto told = json::parse(answer->body, error);
    if (!error && told.is_object()) {
      for (const char* key : {"notes", "changes"}) {
        if (const auto* list = told.get_object().if_contains(key)) print_lines(*list, "  ");
      }
    }
    return {};
  }
  std::cout << (words.update ? "Updated successfully\n" : "Created successfully\n");
  for (const char* header : {"Hulse-Notes", "Hulse-Changes"}) {
    boost::system::error_code error;
    const auto list = json::parse(std::string(aio::find_header(answer->headers, header)), error);
    if (!error) print_lines(list, "  ");
  }
  return {};
}

void add_edit(CLI::App& app, const Group& group, bool update) {
  auto words = std::make_shared<Edit>(Edit{group, {group.kind}});
  auto* command =
      app.add_subcommand(update ? "update" : "create",
                         update ? fmt::format("Change a {}; what is not given stays", group.word())
                                : fmt::format("Create a {} on the server", group.word()));
  words->app = command;
  words->update = update;
  command->allow_extras();
  add_component_flags(*command, words->component);
  add_admin_flags(*command, *group.admin);
  command->add_flag("--dry-run", words->dry_run, "Only say what is wrong, or what would change");
  if (update)
    command->add_option("--update-auth-data", words->auth_data)->expected(0, 1)->group("");
  command->callback([words, &action = group.action] { action = [words] { return edit(*words); }; });
}

Result<void> available(const Group& group) {
  const bool function = group.kind == connect::Kind::function;
  const auto answer =
      call(*group.admin, "GET",
           fmt::format("{}/builtin{}s", group.base(), function ? "" : group.word()));
  if (!answer) return answer.error();
  boost::system::error_code error;
  const auto list = json::parse(answer->body, error);
  if (error || !list.is_array()) return Error(Code::corrupt, "the server's answer is no list");
  for (const auto& one : list.get_array()) {
    if (!one.is_object()) continue;
    for (const char* key : {"name", "description"}) {
      const auto* text = one.get_object().if_contains(key);
      if (text != nullptr && text->is_string())
        std::cout << std::string_view(text->get_string()) << "\n";
    }
    std::cout << "----------------------------------------\n";
  }
  return {};
}

void add_simple(CLI::App& app, const Group& group, const std::string& name, const std::string& help,
                std::function<Result<void>(const Group&)> act) {
  auto* command = app.add_subcommand(name, help);
  add_admin_flags(*command, *group.admin);
  command->callback([=, &action = group.action] { action = [=] { return act(group); }; });
}

void add_list(CLI::App& app, const Group& group) {
  auto name = std::make_shared<Name>();
  auto* command = app.add_subcommand("list", fmt::format("The {}s of a namespace", group.word()));
  command->add_option("--tenant", name->tenant, "Tenant");
  command->add_option("--namespace", name->name_space, "Namespace");
  add_admin_flags(*command, *group.admin);
  command->callback([=, &action = group.action] {
    action = [=]() -> Result<void> {
      const auto path = fmt::format("{}/{}/{}", group.base(), url_encode(name->tenant),
                                    url_encode(name->name_space));
      if (group.kind != connect::Kind::function) return print_json(group, path);
      // Line by line, as scripts know it.
      const auto answer = call(*group.admin, "GET", path);
      if (!answer) return answer.error();
      boost::system::error_code error;
      const auto names = json::parse(answer->body, error);
      if (error) return Error(Code::corrupt, "the server's answer is not JSON: " + error.message());
      print_lines(names, "");
      return {};
    };
  });
}

void add_delete(CLI::App& app, const Group& group) {
  const auto drop = std::make_shared<bool>(false);
  auto* command = add_ask(
      app, group, "delete", fmt::format("Stop and delete a {}", group.word()), false,
      [drop](const Group& of, const Name& name) -> Result<void> {
        const auto answer = call(*of.admin, "DELETE",
                                 of.base() + name.path() + (*drop ? "?dropSubscription=true" : ""));
        if (!answer) return answer.error();
        // The words scripts know.
        std::cout << (of.kind == connect::Kind::source ? "Delete source successfully\n"
                                                       : "Deleted successfully\n");
        return {};
      });
  const bool reads = connect::reads_topics(group.kind);
  command->add_flag(reads ? "--drop-subscription" : "--drop-offset", *drop,
                    fmt::format("Drop its {} now, not when it has not come back for a while",
                                reads ? "subscription" : "offset"));
}

// Ends well when it was stopped, with Code::timeout when the time is over.
aio::Task<Result<void>> pause(std::chrono::milliseconds time) {
  co_await aio::asio::this_coro::throw_if_cancelled(false);
  const bool slept = co_await aio::sleep(time);
  if (!slept) co_return Result<void>();
  co_return Error(Code::timeout, "");
}

// The table anew each time: over the old one on a terminal, below it in a pipe.
Result<void> watch_status(const Group& group, const Name& name, double seconds) {
  const bool terminal = ::isatty(STDOUT_FILENO) == 1;
  for (;;) {
    const auto answer = call(*group.admin, "GET", group.base() + name.path() + "/status");
    if (!answer) return answer.error();
    boost::system::error_code error;
    const auto status = json::parse(answer->body, error);
    if (error || !status.is_object())
      return Error(Code::corrupt, "the server's answer is no status");
    if (terminal) std::cout << "\x1b[H\x1b[2J";
    std::cout << status_table(
        fmt::format("{} {}/{}/{}", group.word(), name.tenant, name.name_space, name.name), status);
    if (!terminal) std::cout << "\n";
    std::cout.flush();
    if (!std::cout) return {};  // whoever read has gone
    const std::chrono::milliseconds interval(static_cast<int64_t>(seconds * 1000));
    if (aio::run(aio::until_signal(pause(interval)))) return {};
  }
}

void add_status(CLI::App& app, const Group& group) {
  const auto seconds = std::make_shared<std::string>();
  auto* command =
      add_ask(app, group, "status,getstatus", "Show what its instances do", true,
              [seconds](const Group& of, const Name& name) -> Result<void> {
                if (seconds->empty()) return print_json(of, with_instance(of, name, "status"));
                double every = 0;
                const auto* end = seconds->data() + seconds->size();
                const auto [until, failed] = std::from_chars(seconds->data(), end, every);
                if (failed != std::errc() || until != end || every < 0.1 || every > 3600)
                  return Error(Code::invalid, "--watch: seconds between two looks, from 0.1 on");
                return watch_status(of, name, every);
              });
  command
      ->add_option_function<std::string>(
          "--watch",
          [seconds](const std::string& given) { *seconds = given.empty() ? "2" : given; },
          "Show it as a table, again and again; every 2 seconds, or as many as are given")
      ->expected(0, 1);
}

// The name may stand without --name: hulse sinks replay NAME --from 2h
void add_replay(CLI::App& app, const Group& group) {
  struct Words {
    std::string from;
    std::string topic;
  };
  const auto words = std::make_shared<Words>();
  const auto name = std::make_shared<Name>();
  auto* command = app.add_subcommand("replay", "Go on from another place of its topics");
  command->add_option("NAME", name->name, "Name of the sink");
  add_name(*command, *name, group, false);
  command
      ->add_option("--from", words->from,
                   "earliest, a message (12:3), a time (2026-11-25T10:00:00Z) or how long ago (2h)")
      ->required();
  command->add_option("--topic", words->topic, "One of its topics or partitions; all if not given");
  add_admin_flags(*command, *group.admin);
  command->callback([=, &action = group.action] {
    action = [=]() -> Result<void> {
      const auto named = check_name(group, *name);
      if (!named) return named;
      auto path =
          fmt::format("{}{}/replay?from={}", group.base(), name->path(), url_encode(words->from));
      if (!words->topic.empty()) path += "&topic=" + url_encode(words->topic);
      const auto answer = call(*group.admin, "POST", path);
      if (!answer) return answer.error();
      boost::system::error_code error;
      const auto told = json::parse(answer->body, error);
      std::cout << "Goes on:\n";
      if (!error && told.is_object() && told.get_object().contains("from"))
        print_lines(told.get_object().at("from"), "  ");
      return {};
    };
  });
}

void add_kind(CLI::App& app, Action& action, connect::Kind kind,
              const std::shared_ptr<AdminWords>& admin) {
  const Group group{kind, admin, action};
  const std::string word = group.word();
  constexpr const char* kHelp[] = {"Bring records from other systems into topics",
                                   "Take records out of topics into other systems",
                                   "Make records of topics into records of topics"};
  auto* commands = app.add_subcommand(word + "s", kHelp[static_cast<size_t>(kind)]);
  commands->alias(word);
  commands->require_subcommand(1);
  commands->fallthrough();  // --admin-url and its kind stand anywhere
  add_local_run(*commands, action, kind);
  add_edit(*commands, group, false);
  add_edit(*commands, group, true);
  add_delete(*commands, group);
  add_list(*commands, group);
  add_ask(
      *commands, group, "get", "Show its configuration", false,
      [](const Group& of, const Name& name) { return print_json(of, of.base() + name.path()); });
  add_status(*commands, group);
  if (kind == connect::Kind::sink) add_replay(*commands, group);
  constexpr std::pair<const char*, const char*> kVerbs[] = {
      {"start", "Started"}, {"stop", "Stopped"}, {"restart", "Restarted"}};
  for (const auto& [verb, done] : kVerbs) {
    add_ask(*commands, group, verb, fmt::format("{} it, or one instance", verb), true,
            [path = verb, said = done](const Group& of, const Name& name) -> Result<void> {
              const auto answer = call(*of.admin, "POST", with_instance(of, name, path));
              if (!answer) return answer.error();
              std::cout << said << " successfully\n";
              return {};
            });
  }
  add_simple(*commands, group, "available-" + word + "s", "The built-in ones of the server",
             available);
  add_simple(*commands, group, "reload", "Make the server look for built-in ones again",
             [](const Group& of) -> Result<void> {
               constexpr const char* kPaths[] = {"reloadBuiltInSources", "reloadBuiltInSinks",
                                                 "builtins/reload"};
               const auto path =
                   fmt::format("{}/{}", of.base(), kPaths[static_cast<size_t>(of.kind)]);
               const auto answer = call(*of.admin, "POST", path);
               return answer ? Result<void>() : Result<void>(answer.error());
             });
  if (kind == connect::Kind::function) add_function_commands(*commands, group);
}

}  // namespace

void add_component_commands(CLI::App& app, Action& action,
                            const std::shared_ptr<AdminWords>& admin) {
  add_kind(app, action, connect::Kind::sink, admin);
  add_kind(app, action, connect::Kind::source, admin);
  add_kind(app, action, connect::Kind::function, admin);
}

}  // namespace hulse::cli

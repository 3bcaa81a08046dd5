// hulse functions …: the commands that sources and sinks do not have.
#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <chrono>
#include <fstream>
#include <iostream>

#include "aio/clock.h"
#include "aio/run.h"
#include "cli/component_commands.h"

namespace hulse::cli {
namespace {

namespace json = boost::json;

constexpr auto kWatch = std::chrono::seconds(1);

Result<std::string> read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (!in) return Error(Code::io, fmt::format("{}: it cannot be read", path));
  return bytes;
}

std::string state_path(const Group& group, const Name& name, const std::string& key) {
  return fmt::format("{}{}/state/{}", group.base(), name.path(), url_encode(key));
}

// ---- querystate, putstate

struct Query {
  std::string key;
  bool watch = false;
};

Result<void> query_state(const Group& group, const Name& name, const Query& query) {
  if (query.key.empty()) return Error(Code::invalid, "State key needs to be specified (--key)");
  const auto path = state_path(group, name, query.key);
  for (;;) {
    const auto shown = print_json(group, path);
    if (!query.watch) return shown;
    // A key that is not there yet may come.
    if (!shown && shown.error().code() != Code::not_found) return shown;
    if (!shown) std::cout << shown.error().text() << "\n";
    std::cout.flush();
    aio::run(aio::sleep(kWatch));
  }
}

Result<void> put_state(const Group& group, const Name& name, const std::string& text) {
  boost::system::error_code error;
  const auto state = json::parse(text, error);
  const auto* key = !error && state.is_object() ? state.get_object().if_contains("key") : nullptr;
  if (key == nullptr || !key->is_string()) {
    return Error(Code::invalid,
                 R"(--state: JSON is expected, such as {"key": "k", "stringValue": "v"})");
  }
  Form form;
  form.add_json("state", text);
  const auto answer =
      call(*group.admin, "POST", state_path(group, name, std::string(key->get_string())), form);
  return answer ? Result<void>() : Result<void>(answer.error());
}

// ---- upload, download

struct Transfer {
  std::string file;
  std::string path;
};

Result<void> upload(const Group& group, const Transfer& words) {
  if (words.file.empty() || words.path.empty())
    return Error(Code::invalid, "--source-file and --path are needed");
  const auto bytes = read_file(words.file);
  if (!bytes) return bytes.error().with("--source-file");
  Form form;
  form.add_file("data", words.file.substr(words.file.rfind('/') + 1), *bytes);
  form.add_text("path", words.path);
  const auto answer = call(*group.admin, "POST", group.base() + "/upload", form);
  if (!answer) return answer.error();
  std::cout << "Uploaded successfully\n";
  return {};
}

Result<void> download(const Group& group, const Name& name, const Transfer& words) {
  if (words.file.empty()) return Error(Code::invalid, "--destination-file is needed");
  const auto answer = call(*group.admin, "GET",
                           words.path.empty() ? group.base() + name.path() + "/download"
                                              : fmt::format("{}/download?path={}", group.base(),
                                                            url_encode(words.path)));
  if (!answer) return answer.error();
  std::ofstream out(words.file, std::ios::binary | std::ios::trunc);
  out.write(answer->body.data(), static_cast<std::streamsize>(answer->body.size()));
  out.close();
  if (!out) return Error(Code::io, fmt::format("{}: it cannot be written", words.file));
  std::cout << "Downloaded successfully\n";
  return {};
}

// ---- trigger

struct Trigger {
  std::string topic;
  std::string value;
  std::string file;
  CLI::Option* given_value = nullptr;
};

Result<void> trigger(const Group& group, const Name& name, const Trigger& words) {
  const bool has_value = words.given_value->count() > 0;
  if (!has_value && words.file.empty()) {
    return Error(Code::invalid,
                 "Either a trigger value or a trigger filepath needs to be specified "
                 "(--trigger-value, --trigger-file)");
  }
  if (has_value && !words.file.empty())
    return Error(Code::invalid, "--trigger-value and --trigger-file: only one of them");
  Form form;
  if (has_value) {
    form.add_text("data", words.value);
  } else {
    const auto bytes = read_file(words.file);
    if (!bytes) return bytes.error().with("--trigger-file");
    form.add_file("dataStream", "trigger", *bytes);
  }
  if (!words.topic.empty()) form.add_text("topic", words.topic);
  const auto answer = call(*group.admin, "POST", group.base() + name.path() + "/trigger", form);
  if (!answer) return answer.error();
  std::cout << answer->body << "\n";
  return {};
}

}  // namespace

void add_function_commands(CLI::App& app, const Group& group) {
  add_ask(app, group, "stats", "Show what its instances have counted", true,
          [](const Group& of, const Name& name) {
            return print_json(of, with_instance(of, name, "stats"));
          });

  const auto sent = std::make_shared<Transfer>();
  auto* uploaded = app.add_subcommand("upload", "Store a file on the server under a path");
  add_admin_flags(*uploaded, *group.admin);
  uploaded->add_option("--source-file,--sourceFile", sent->file, "The file");
  uploaded->add_option("--path", sent->path, "Path to store it under");
  uploaded->callback([sent, group, &action = group.action] {
    action = [sent, group] { return upload(group, *sent); };
  });

  const auto fetched = std::make_shared<Transfer>();
  const auto from = std::make_shared<Name>();
  auto* downloaded = app.add_subcommand("download", "Fetch a file that was uploaded");
  add_name(*downloaded, *from, group, false);
  add_admin_flags(*downloaded, *group.admin);
  downloaded->add_option("--destination-file,--destinationFile", fetched->file, "Where to put it");
  downloaded->add_option("--path", fetched->path, "Path it was stored under");
  downloaded->callback([fetched, from, group, &action = group.action] {
    action = [fetched, from, group]() -> Result<void> {
      const auto named = fetched->path.empty() ? check_name(group, *from) : Result<void>();
      return named ? download(group, *from, *fetched) : named;
    };
  });

  const auto query = std::make_shared<Query>();
  auto* querystate =
      add_ask(app, group, "querystate", "Show what it remembers under a key", false,
              [query](const Group& of, const Name& name) { return query_state(of, name, *query); });
  querystate->add_option("-k,--key", query->key, "Key of the state");
  querystate->add_flag("-w,--watch", query->watch, "Again each second");

  const auto state = std::make_shared<std::string>();
  auto* putstate =
      add_ask(app, group, "putstate", "Put a value into what it remembers", false,
              [state](const Group& of, const Name& name) { return put_state(of, name, *state); });
  putstate->add_option("-s,--state", *state, R"(JSON: {"key": "k", "stringValue": "v"})");

  const auto words = std::make_shared<Trigger>();
  auto* triggered =
      add_ask(app, group, "trigger", "Send it one message and show what comes out", false,
              [words](const Group& of, const Name& name) { return trigger(of, name, *words); });
  words->given_value =
      triggered->add_option("--trigger-value,--triggerValue", words->value, "The message to send");
  triggered->add_option("--trigger-file,--triggerFile", words->file, "File that holds the message");
  triggered->add_option("--topic", words->topic, "Which of its input topics");
}

}  // namespace hulse::cli

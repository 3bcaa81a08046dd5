// hulse apply -f DIR: makes what a server runs what the files say. Everything is checked before
// anything is changed; a second time nothing changes.
#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <iostream>
#include <set>

#include "cli/admin_client.h"
#include "cli/command_line.h"
#include "cli/component_files.h"

namespace hulse::cli {
namespace {

namespace json = boost::json;

struct Words {
  std::shared_ptr<AdminWords> admin;
  std::vector<std::string> paths;
  bool prune = false;
  bool dry_run = false;
};

// In paths; those of functions are in the plural.
std::string_view word_of(connect::Kind kind) {
  return kind == connect::Kind::function ? "functions" : connect::to_string(kind);
}

std::string path_of(const ComponentFile& file) {
  return fmt::format(
      "/admin/v3/{}/{}/{}/{}", word_of(file.kind), url_encode(file.text("tenant", "public")),
      url_encode(file.text("namespace", "default")), url_encode(file.text("name", "")));
}

enum class Act { create, update, nothing };

struct Step {
  ComponentFile file;
  Act act = Act::nothing;
  std::vector<std::string> changes;
};

Form form_of(const ComponentFile& file) {
  Form form;
  form.add_json(fmt::format("{}Config", connect::to_string(file.kind)),
                json::serialize(file.config));
  return form;
}

std::vector<std::string> lines_of(const std::string& body, const char* key) {
  std::vector<std::string> out;
  boost::system::error_code error;
  const auto value = json::parse(body, error);
  if (error || !value.is_object()) return out;
  const auto* list = value.get_object().if_contains(key);
  if (list == nullptr || !list->is_array()) return out;
  for (const auto& line : list->get_array()) {
    if (line.is_string()) out.emplace_back(line.get_string());
  }
  return out;
}

// What has to be done, by asking the server to do it without doing it.
Result<Step> plan(const Words& words, ComponentFile file) {
  if (file.text("name", "").empty()) return Error(Code::invalid, "name: required, but missing");
  Step step{std::move(file), Act::nothing, {}};
  const std::string path = path_of(step.file);
  const auto known = call(*words.admin, "GET", path);
  if (!known && known.error().code() != Code::not_found) return known.error();
  const auto tried =
      call(*words.admin, known ? "PUT" : "POST", path + "?dryRun=true", form_of(step.file));
  if (tried) {
    step.act = known ? Act::update : Act::create;
    step.changes = lines_of(tried->body, "changes");
    return step;
  }
  if (known && tried.error().text().find("Update contains no change") != std::string::npos)
    return step;
  return tried.error();
}

// Components of the namespaces the files speak of that no file describes.
Result<std::vector<std::pair<std::string, std::string>>> surplus(const Words& words,
                                                                 const std::vector<Step>& steps) {
  std::set<std::string> described;
  std::set<std::string> folders;
  for (const auto& step : steps) {
    const std::string path = path_of(step.file);
    described.insert(path);
    const auto place = path.substr(0, path.rfind('/'));
    const auto names = place.substr(place.find('/', std::string("/admin/v3/").size()));
    for (const auto kind : {connect::Kind::sink, connect::Kind::source, connect::Kind::function})
      folders.insert("/admin/v3/" + std::string(word_of(kind)) + names);
  }
  std::vector<std::pair<std::string, std::string>> out;
  for (const auto& folder : folders) {
    const auto answer = call(*words.admin, "GET", folder);
    if (!answer) return answer.error();
    boost::system::error_code error;
    const auto names = json::parse(answer->body, error);
    if (error || !names.is_array()) return Error(Code::corrupt, folder + ": the answer is no list");
    for (const auto& name : names.get_array()) {
      if (!name.is_string()) continue;
      const std::string path = folder + "/" + url_encode(std::string_view(name.get_string()));
      if (!described.contains(path))
        out.emplace_back(path, path.substr(std::string("/admin/v3/").size()));
    }
  }
  return out;
}

Result<void> apply(const Words& words) {
  std::string problems;
  std::vector<Step> steps;
  std::set<std::string> labels;
  for (const auto& path : words.paths) {
    const auto files = component_files(path);
    if (!files) return files.error();
    for (const auto& name : *files) {
      auto file = read_component_file(name);
      auto step = file ? plan(words, std::move(*file)) : Result<Step>(file.error());
      if (!step && step.error().code() != Code::invalid) return step.error();
      const std::string twice =
          step && !labels.insert(step->file.label()).second
              ? fmt::format("{} stands in another file, too", step->file.label())
              : "";
      if (step && twice.empty()) {
        steps.push_back(std::move(*step));
        continue;
      }
      std::string text = twice.empty() ? step.error().text() : twice;
      for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos; ++at)
        text.replace(at, 1, "\n" + name + ": ");
      if (!text.starts_with(name)) text = name + ": " + text;
      problems += problems.empty() ? text : "\n" + text;
    }
  }
  if (!problems.empty()) return Error(Code::invalid, problems + "\nnothing was changed");
  auto gone =
      words.prune ? surplus(words, steps) : std::vector<std::pair<std::string, std::string>>();
  if (!gone) return gone.error();
  for (const auto& step : steps) {
    const bool update = step.act == Act::update;
    if (step.act != Act::nothing && !words.dry_run) {
      const auto done =
          call(*words.admin, update ? "PUT" : "POST", path_of(step.file), form_of(step.file));
      if (!done) return done.error().with(step.file.path);
    }
    std::cout << step.file.label() << ": "
              << (step.act == Act::nothing ? "unchanged"
                  : update                 ? "updated"
                                           : "created")
              << "\n";
    for (const auto& change : step.changes) std::cout << "  " << change << "\n";
  }
  for (const auto& [path, label] : *gone) {
    if (!words.dry_run) {
      const auto done = call(*words.admin, "DELETE", path);
      if (!done) return done.error().with(label);
    }
    std::cout << label << ": deleted (no file describes it)\n";
  }
  if (words.dry_run) std::cout << "nothing was done (--dry-run)\n";
  return {};
}

}  // namespace

void add_apply_command(CLI::App& app, Action& action, const std::shared_ptr<AdminWords>& admin) {
  auto words = std::make_shared<Words>(Words{.admin = admin});
  auto* command = app.add_subcommand("apply", "Make what a server runs what the files say");
  command
      ->add_option("-f,--file", words->paths,
                   "A file of a SinkConfig, SourceConfig or FunctionConfig, or a folder of them")
      ->required();
  command->add_flag("--prune", words->prune,
                    "Delete what no file describes, in the namespaces the files speak of");
  command->add_flag("--dry-run", words->dry_run, "Only say what would change");
  add_admin_flags(*command, *admin);
  command->callback([words, &action] { action = [words] { return apply(*words); }; });
}

}  // namespace hulse::cli

// What the commands of sources, sinks and functions share. Internal to components.cpp and
// functions.cpp.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cli/admin_client.h"
#include "cli/command_line.h"
#include "connect/descriptor.h"

namespace hulse::cli {

// Of one group of commands.
struct Group {
  connect::Kind kind;
  std::shared_ptr<AdminWords> admin;
  Action& action;

  std::string word() const { return std::string(connect::to_string(kind)); }
  // As pulsar-admin spells them: functions alone in the plural.
  std::string base() const {
    return fmt::format("/admin/v3/{}{}", word(), kind == connect::Kind::function ? "s" : "");
  }
};

struct Name {
  std::string tenant = "public";
  std::string name_space = "default";
  std::string name;
  std::string fqfn;      // of functions: all three in one
  std::string instance;  // empty: all

  std::string path() const;
};

void add_name(CLI::App& app, Name& name, const Group& group, bool with_instance);
// Takes --fqfn apart.
Result<void> check_name(const Group& group, Name& name);

// A command that takes a name, asks once, and prints.
using Ask = std::function<Result<void>(const Group& group, const Name& name)>;
CLI::App* add_ask(CLI::App& app, const Group& group, const char* names, const std::string& help,
                  bool with_instance, Ask ask);

// GET, printed.
Result<void> print_json(const Group& group, const std::string& path);
// "/admin/v3/sink/t/n/x/0/status"
std::string with_instance(const Group& group, const Name& name, const char* what);

// functions.cpp: the commands that only functions have.
void add_function_commands(CLI::App& app, const Group& group);

}  // namespace hulse::cli

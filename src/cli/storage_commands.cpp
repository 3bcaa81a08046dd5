// hulse storage …: what a data directory holds, whether it is whole, and copies of it.
#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <iostream>

#include "aio/http_client.h"
#include "aio/run.h"
#include "cli/command_line.h"
#include "storage/backup.h"
#include "storage/inspect.h"

namespace hulse::cli {
namespace {

std::string in_words(uint64_t bytes) {
  if (bytes < 10'000) return fmt::format("{} B", bytes);
  if (bytes < 10'000'000) return fmt::format("{:.1f} kB", static_cast<double>(bytes) / 1e3);
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

Result<void> check(const std::string& directory, bool salvage) {
  const auto report = salvage ? storage::salvage(directory) : storage::check(directory);
  if (!report) return report.error();
  std::cout << fmt::format("{} segments, {}, {} records\n", report->segments,
                           in_words(report->bytes), report->records);
  for (const auto& note : report->notes) std::cout << note << '\n';
  for (const auto& finding : report->damage) {
    std::cout << fmt::format("DAMAGED {}\n", finding.where);
    for (const auto& lost : finding.lost) {
      std::cout << fmt::format("  {}: {}\n", salvage ? "lost" : "holds", lost);
    }
  }
  if (report->damage.empty()) {
    std::cout << "whole: every checksum is right\n";
    return {};
  }
  if (salvage) {
    std::cout << fmt::format(
        "skipped for good what is named above; the damaged files as they were are in {}\n",
        report->kept.empty() ? "(none: files were missing)" : report->kept);
    return {};
  }
  return Error(Code::corrupt,
               fmt::format("{} places are damaged. A broker serves everything else. Restore a "
                           "backup, or skip what is named: hulse storage check --salvage {}",
                           report->damage.size(), directory));
}

Result<void> stat(const std::string& directory) {
  const auto report = storage::stat(directory);
  if (!report) return report.error();
  std::cout << fmt::format("{} segments, {} on disk, {} of entries that are kept\n",
                           report->segments, in_words(report->bytes), in_words(report->live_bytes));
  for (const auto& topic : report->topics) {
    std::cout << fmt::format("{}: {} entries, {}\n", topic.name, topic.entries,
                             in_words(topic.bytes));
    for (const auto& subscription : topic.subscriptions) {
      std::cout << fmt::format("  subscription {} pins {}\n", subscription.name,
                               in_words(subscription.pinned_bytes));
    }
  }
  return {};
}

struct Words {
  std::string directory;
  std::string target;
  std::string token;
  bool salvage = false;
};

// The broker lends a directory of links; copying it is this program's, with its user's rights.
aio::Task<Result<void>> backup_broker(const Words& words) {
  const auto executor = co_await aio::asio::this_coro::executor;
  aio::HttpClient client(executor, {});
  aio::HttpCall call{.method = "POST"};
  call.url = words.directory + (words.directory.ends_with('/') ? "" : "/") +
             "admin/hulse/storage/snapshot";
  if (!words.token.empty()) call.headers.emplace_back("Authorization", "Bearer " + words.token);
  auto drop = call;
  drop.method = "DELETE";
  const auto answer = co_await client.send(std::move(call));
  if (!answer) {
    client.close();
    co_return answer.error();
  }
  boost::system::error_code error;
  const auto body = boost::json::parse(answer->body, error);
  const auto* path = !error && body.is_object() ? body.get_object().if_contains("path") : nullptr;
  if (answer->status != 200 || path == nullptr || !path->is_string()) {
    client.close();
    co_return Error(Code::unavailable,
                    fmt::format("the broker answers {}: {}", answer->status, answer->body));
  }
  const std::string snapshot(path->get_string());
  auto copied = storage::copy_directory(snapshot, words.target);
  if (!copied && copied.error().code() == Code::not_found) {
    copied = Error(Code::not_found, snapshot +
                                        ", the broker's snapshot, is not on this machine: "
                                        "run this command where the broker runs");
  }
  const auto dropped = co_await client.send(std::move(drop));
  client.close();
  if (!copied) co_return copied;
  if (!dropped) co_return dropped.error().with("the backup is complete; dropping the snapshot");
  co_return Result<void>();
}

Result<void> backup(const Words& words) {
  const bool online =
      words.directory.starts_with("http://") || words.directory.starts_with("https://");
  const auto done = online ? aio::run(backup_broker(words))
                           : storage::backup_directory(words.directory, words.target);
  if (!done) return done;
  std::cout << fmt::format("{} is a whole copy; hulse storage restore {} DIR brings it back\n",
                           words.target, words.target);
  return {};
}

Result<void> restore(const Words& words) {
  const auto done = storage::copy_directory(words.directory, words.target);
  if (!done) return done;
  std::cout << fmt::format("restored; hulse standalone --data-dir {} uses it\n", words.target);
  return {};
}

}  // namespace

void add_storage_commands(CLI::App& app, Action& action) {
  const auto words = std::make_shared<Words>();
  auto* group = app.add_subcommand("storage", "Look after the broker's data directory");
  group->require_subcommand(1);

  auto* checking = group->add_subcommand(
      "check", "Read everything and compare checksums; exit status 1 when something is damaged");
  checking->add_option("DIR", words->directory, "Data directory that no broker uses")->required();
  checking->add_flag("--salvage", words->salvage,
                     "Skip what is damaged, for good, so that the rest can be used");
  checking->callback(
      [words, &action] { action = [words] { return check(words->directory, words->salvage); }; });

  auto* stating =
      group->add_subcommand("stat", "Segments, topics, and what subscriptions keep from going");
  stating->add_option("DIR", words->directory, "Data directory that no broker uses")->required();
  stating->callback([words, &action] { action = [words] { return stat(words->directory); }; });

  auto* backing = group->add_subcommand("backup", "Copy the data of a broker, running or not");
  backing
      ->add_option("SOURCE", words->directory,
                   "Web address of a running broker (http://127.0.0.1:8080), or a data "
                   "directory that no broker uses")
      ->required();
  backing->add_option("TARGET", words->target, "Directory to make")->required();
  backing->add_option("--token", words->token, "Token of a super user, if the broker asks for one")
      ->envname("HULSE_TOKEN");
  backing->callback([words, &action] { action = [words] { return backup(*words); }; });

  auto* restoring = group->add_subcommand("restore", "Make a data directory of a backup");
  restoring->add_option("BACKUP", words->directory, "What backup made")->required();
  restoring->add_option("DIR", words->target, "Data directory to make")->required();
  restoring->callback([words, &action] { action = [words] { return restore(*words); }; });
}

}  // namespace hulse::cli

// hulse storage …: what a data directory holds, whether it is whole, and copies of it.
#include <CLI/CLI.hpp>
#include <iostream>

#include "cli/command_line.h"
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
  bool salvage = false;
};

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
}

}  // namespace hulse::cli

#include "recording_disk.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>

namespace hulse::storage {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kSizePart = UINT64_MAX;
constexpr uint64_t kNamesPart = UINT64_MAX - 1;

// Spreads a number over all bits (the finish of SplitMix64).
uint64_t mixed(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

}  // namespace

// What a file's bytes become.
struct RecordingDisk::DataChange {
  uint64_t sequence = 0;
  std::optional<uint64_t> size;  // instead of bytes at offset
  bool grows = false;            // to that size, and never shrinks
  uint64_t offset = 0;
  std::string bytes;
};

// What names of one directory become, together. Null takes a name away.
struct RecordingDisk::NameChange {
  uint64_t sequence = 0;
  std::vector<std::pair<std::string, Link>> names;
};

struct RecordingDisk::Node {
  uint64_t id = 0;
  bool directory = false;
  // Of a file.
  std::string durable;
  std::vector<DataChange> data_changes;
  // Of a directory.
  Names now;
  Names durable_names;
  std::vector<NameChange> name_changes;
};

struct RecordingDisk::Choice {
  Survives survives = Survives::nothing;
  uint64_t piece = 4096;
  uint64_t seed = 0;

  // How many of `count` changes have reached the disk, decided for each thing by itself.
  size_t of(size_t count, uint64_t node, uint64_t part) const {
    if (survives == Survives::nothing) return 0;
    if (survives == Survives::everything) return count;
    return mixed(mixed(seed ^ node) ^ part) % (count + 1);
  }
};

void write_image(const Image& image, const std::string& root) {
  fs::remove_all(root);
  fs::create_directories(root);
  for (const auto& path : image.directories) fs::create_directories(root + "/" + path);
  for (const auto& [path, content] : image.files) {
    std::ofstream out(root + "/" + path, std::ios::binary);
    out.write(content.data(), static_cast<std::streamsize>(content.size()));
    out.close();
    if (!out) throw fs::filesystem_error("writing " + path, std::error_code());
  }
}

RecordingDisk::RecordingDisk(std::string root, const Image& image)
    : root_(fs::path(std::move(root)).lexically_normal().string()), top_(make_node(true)) {
  const auto add = [&](const std::string& path, bool directory, const std::string& content) {
    Link at = top_;
    for (const auto& part : fs::path(path)) {
      auto& next = at->now[part.string()];
      if (!next) next = make_node(true);
      at->durable_names[part.string()] = next;
      at = next;
    }
    at->directory = directory;
    at->durable = content;
  };
  for (const auto& path : image.directories) add(path, true, "");
  for (const auto& [path, content] : image.files) add(path, false, content);
}

RecordingDisk::Link RecordingDisk::make_node(bool directory) {
  auto node = std::make_shared<Node>();
  node->id = ++nodes_;
  node->directory = directory;
  return node;
}

RecordingDisk::Link RecordingDisk::find(const std::string& path) const {
  const auto relative = fs::path(path).lexically_normal().lexically_relative(root_);
  if (relative.empty() || *relative.begin() == "..") return nullptr;
  Link at = top_;
  for (const auto& part : relative) {
    if (part.empty() || part == ".") continue;
    const auto next = at->now.find(part.string());
    if (next == at->now.end()) return nullptr;
    at = next->second;
  }
  return at;
}

std::pair<RecordingDisk::Link, std::string> RecordingDisk::parent_of(
    const std::string& path) const {
  const auto normal = fs::path(path).lexically_normal();
  return {find(normal.parent_path().string()), normal.filename().string()};
}

void RecordingDisk::set_name(const std::string& path, Link node) {
  const auto [directory, name] = parent_of(path);
  if (!directory) return;
  NameChange change{sequence_, {{name, std::move(node)}}};
  apply(change, directory->now);
  directory->name_changes.push_back(std::move(change));
}

void RecordingDisk::rename(const DiskChange& change) {
  const Link node = find(change.path);
  if (!node) return;  // a file that is not watched, as the tables' LOG
  const auto [from, name] = parent_of(change.path);
  const auto [to, new_name] = parent_of(change.target);
  if (from == to) {
    NameChange both{sequence_, {{name, nullptr}, {new_name, node}}};
    apply(both, from->now);
    from->name_changes.push_back(std::move(both));
    return;
  }
  set_name(change.target, node);
  set_name(change.path, nullptr);
}

void RecordingDisk::apply(const DataChange& change, std::string& content) {
  if (change.size) {
    content.resize(change.grows ? std::max<size_t>(content.size(), *change.size) : *change.size);
    return;
  }
  content.resize(std::max<size_t>(content.size(), change.offset + change.bytes.size()));
  content.replace(change.offset, change.bytes.size(), change.bytes);
}

void RecordingDisk::apply(const NameChange& change, Names& names) {
  for (const auto& [name, node] : change.names) {
    if (node) {
      names[name] = node;
    } else {
      names.erase(name);
    }
  }
}

void RecordingDisk::make_durable(Node& node, uint64_t up_to) {
  const auto covered = [&](const auto& change) { return change.sequence <= up_to; };
  for (const auto& change : node.data_changes) {
    if (covered(change)) apply(change, node.durable);
  }
  for (const auto& change : node.name_changes) {
    if (covered(change)) apply(change, node.durable_names);
  }
  std::erase_if(node.data_changes, covered);
  std::erase_if(node.name_changes, covered);
}

int RecordingDisk::before(const DiskChange& change) {
  if (!change.path.starts_with(root_)) return 0;
  const int refused = fail ? fail(change) : 0;
  if (refused != 0) return refused;
  const std::lock_guard lock(mutex_);
  sync_began_[std::this_thread::get_id()] = sequence_;
  return 0;
}

void RecordingDisk::after(const DiskChange& change) {
  if (!change.path.starts_with(root_)) return;
  {
    const std::lock_guard lock(mutex_);
    record(change);
  }
  const uint64_t count = ++count_;
  if (changed) changed(count);
}

// Under the lock.
void RecordingDisk::record(const DiskChange& change) {
  using Op = DiskChange::Op;
  ++sequence_;
  const Link node = find(change.path);
  switch (change.op) {
    case Op::create:
      if (node) {
        node->data_changes.push_back({.sequence = sequence_, .size = 0});
      } else {
        set_name(change.path, make_node(false));
      }
      return;
    case Op::make_directory: set_name(change.path, make_node(true)); return;
    case Op::write: {
      if (!node) return;
      DataChange data{.sequence = sequence_, .offset = change.offset};
      for (const auto& part : change.parts) {
        const size_t left = change.size - data.bytes.size();
        data.bytes.append(static_cast<const char*>(part.iov_base), std::min(left, part.iov_len));
      }
      node->data_changes.push_back(std::move(data));
      return;
    }
    case Op::truncate:
      if (node) node->data_changes.push_back({.sequence = sequence_, .size = change.size});
      return;
    case Op::allocate:
      if (node) {
        node->data_changes.push_back({.sequence = sequence_, .size = change.size, .grows = true});
      }
      return;
    case Op::sync:
    case Op::sync_directory:
      if (!node || (ignore_sync && ignore_sync(change))) return;
      make_durable(*node, sync_began_.at(std::this_thread::get_id()));
      return;
    case Op::rename: rename(change); return;
    case Op::link:
      if (node) set_name(change.target, node);
      return;
    case Op::remove:
      if (node) set_name(change.path, nullptr);
      return;
  }
}

std::string RecordingDisk::content_of(const Node& node, const Choice& choice) {
  const auto& changes = node.data_changes;
  if (choice.survives == Survives::everything) {
    std::string content = node.durable;
    for (const auto& change : changes) apply(change, content);
    return content;
  }
  std::string content = node.durable;
  const size_t sizes = choice.of(changes.size(), node.id, kSizePart);
  for (size_t i = 0; i < changes.size(); ++i) {
    const auto& change = changes[i];
    if (change.size) {
      if (i < sizes) apply(change, content);
      continue;
    }
    const uint64_t end = change.offset + change.bytes.size();
    if (i < sizes && content.size() < end) content.resize(end);
    for (uint64_t at = change.offset; at < std::min<uint64_t>(end, content.size());) {
      const uint64_t piece = at / choice.piece;
      const uint64_t stop = std::min({end, (piece + 1) * choice.piece, uint64_t{content.size()}});
      if (i < choice.of(changes.size(), node.id, piece)) {
        content.replace(at, stop - at, change.bytes, at - change.offset, stop - at);
      }
      at = stop;
    }
  }
  return content;
}

std::string RecordingDisk::content_in_order(const Node& node, const Choice& choice) {
  std::string content = node.durable;
  const size_t kept = choice.of(node.data_changes.size(), node.id, kSizePart);
  for (size_t i = 0; i < kept; ++i) apply(node.data_changes[i], content);
  if (kept == node.data_changes.size() || node.data_changes[kept].size) return content;
  auto begun = node.data_changes[kept];
  begun.bytes.resize(choice.of(begun.bytes.size(), node.id, kNamesPart));
  if (!begun.bytes.empty()) apply(begun, content);
  return content;
}

void RecordingDisk::collect(const Node& directory, const std::string& path, const Choice& choice,
                            std::map<const Node*, std::string>& contents, Image& image) const {
  Names names = directory.durable_names;
  const size_t kept = choice.of(directory.name_changes.size(), directory.id, kNamesPart);
  for (size_t i = 0; i < kept; ++i) apply(directory.name_changes[i], names);
  for (const auto& [name, node] : names) {
    const std::string below = path.empty() ? name : path + "/" + name;
    if (node->directory) {
      image.directories.insert(below);
      collect(*node, below, choice, contents, image);
      continue;
    }
    auto known = contents.find(node.get());
    if (known == contents.end()) {
      const bool ordered = in_order && in_order(below);
      known = contents
                  .emplace(node.get(),
                           ordered ? content_in_order(*node, choice) : content_of(*node, choice))
                  .first;
    }
    image.files[below] = known->second;
  }
}

Image RecordingDisk::lose_power(Survives survives, std::mt19937_64& random) const {
  const Choice choice{survives, random() % 2 == 0 ? uint64_t{512} : uint64_t{4096}, random()};
  Image image;
  std::map<const Node*, std::string> contents;
  const std::lock_guard lock(mutex_);
  collect(*top_, "", choice, contents, image);
  return image;
}

}  // namespace hulse::storage

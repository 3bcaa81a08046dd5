// A disk that knows what it would still hold if the power went now. It watches every change below
// one directory and keeps, beside the real files, what a sync has made durable and what is still
// on its way. Used by the tests of power loss and of failing disks.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "storage/disk.h"

namespace hulse::storage {

// Directories and files with their bytes; paths are relative to the root.
struct Image {
  std::set<std::string> directories;
  std::map<std::string, std::string> files;
};
// Into `root`, which it makes anew.
void write_image(const Image& image, const std::string& root);

// What survives of changes that no sync has covered. A file's name and its bytes do so
// independently; names of one directory go in the order of their changes; a piece of a file holds
// what it held at some moment since the last sync.
enum class Survives { nothing, everything, pieces };

class RecordingDisk : public DiskObserver {
 public:
  // Everything of `image` is below `root` and durable. `root` itself is taken to be.
  RecordingDisk(std::string root, const Image& image = {});

  // Set before the disk is used. Each may be called by any thread, several at once.
  std::function<bool(const DiskChange&)> ignore_sync;  // one that only looks like a sync
  std::function<int(const DiskChange&)> fail;          // an errno, or 0
  // Files whose bytes reach the disk from front to end, as a journalling file system appends; what
  // survives of the last write is its beginning. RocksDB relies on it for its MANIFEST.
  std::function<bool(const std::string&)> in_order;
  std::function<void(uint64_t)> changed;  // how many changes there were by now

  // Any thread.
  Image lose_power(Survives survives, std::mt19937_64& random) const;
  uint64_t changes() const { return count_; }

  int before(const DiskChange& change) override;
  void after(const DiskChange& change) override;

 private:
  struct Node;
  using Link = std::shared_ptr<Node>;  // a file may have two names
  using Names = std::map<std::string, Link>;
  struct DataChange;
  struct NameChange;
  struct Choice;

  Link make_node(bool directory);
  Link find(const std::string& path) const;
  std::pair<Link, std::string> parent_of(const std::string& path) const;
  void rename(const DiskChange& change);
  void set_name(const std::string& path, Link node);
  void record(const DiskChange& change);
  static void apply(const DataChange& change, std::string& content);
  static void apply(const NameChange& change, Names& names);
  void make_durable(Node& node, uint64_t up_to);
  static std::string content_of(const Node& node, const Choice& choice);
  static std::string content_in_order(const Node& node, const Choice& choice);
  void collect(const Node& directory, const std::string& path, const Choice& choice,
               std::map<const Node*, std::string>& contents, Image& image) const;

  const std::string root_;
  mutable std::mutex mutex_;
  uint64_t nodes_ = 0;
  Link top_;
  uint64_t sequence_ = 0;
  // Where the sync that a thread is in began: what comes meanwhile is not covered by it.
  std::map<std::thread::id, uint64_t> sync_began_;
  std::atomic<uint64_t> count_{0};
};

}  // namespace hulse::storage

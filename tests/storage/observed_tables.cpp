#include "observed_tables.h"

#include <rocksdb/file_system.h>

#include <cerrno>
#include <cstring>

namespace hulse::storage {
namespace {

using rocksdb::FileOptions;
using rocksdb::FSDirectory;
using rocksdb::FSWritableFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using Op = DiskChange::Op;

template <class Act>
IOStatus observed(DiskObserver& observer, const DiskChange& change, const Act& act) {
  const int refused = observer.before(change);
  if (refused == ENOSPC) return IOStatus::NoSpace(change.path, "No space left on device");
  if (refused != 0) return IOStatus::IOError(change.path, std::strerror(refused));
  auto done = act();
  if (done.ok()) observer.after(change);
  return done;
}

class ObservedFile : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  ObservedFile(std::unique_ptr<FSWritableFile> file, std::string path, uint64_t size,
               DiskObserver& observer)
      : FSWritableFileOwnerWrapper(std::move(file)),
        path_(std::move(path)),
        size_(size),
        observer_(observer) {}

  IOStatus Append(const rocksdb::Slice& data, const IOOptions& options,
                  IODebugContext* debug) override {
    return appended(data, [&] { return target()->Append(data, options, debug); });
  }
  IOStatus Append(const rocksdb::Slice& data, const IOOptions& options,
                  const rocksdb::DataVerificationInfo& info, IODebugContext* debug) override {
    return appended(data, [&] { return target()->Append(data, options, info, debug); });
  }
  IOStatus Truncate(uint64_t size, const IOOptions& options, IODebugContext* debug) override {
    auto done = observed(observer_, {.op = Op::truncate, .path = path_, .size = size},
                         [&] { return target()->Truncate(size, options, debug); });
    if (done.ok()) size_ = size;
    return done;
  }
  IOStatus Sync(const IOOptions& options, IODebugContext* debug) override {
    return observed(observer_, {.op = Op::sync, .path = path_},
                    [&] { return target()->Sync(options, debug); });
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* debug) override {
    return observed(observer_, {.op = Op::sync, .path = path_},
                    [&] { return target()->Fsync(options, debug); });
  }

 private:
  template <class Act>
  IOStatus appended(const rocksdb::Slice& data, const Act& act) {
    const iovec part{const_cast<char*>(data.data()), data.size()};
    auto done = observed(
        observer_,
        {.op = Op::write, .path = path_, .offset = size_, .size = data.size(), .parts = {&part, 1}},
        act);
    if (done.ok()) size_ += data.size();
    return done;
  }

  const std::string path_;
  uint64_t size_;
  DiskObserver& observer_;
};

class ObservedDirectory : public rocksdb::FSDirectoryWrapper {
 public:
  ObservedDirectory(std::unique_ptr<FSDirectory> directory, std::string path,
                    DiskObserver& observer)
      : FSDirectoryWrapper(std::move(directory)), path_(std::move(path)), observer_(observer) {}

  IOStatus Fsync(const IOOptions& options, IODebugContext* debug) override {
    return observed(observer_, {.op = Op::sync_directory, .path = path_},
                    [&] { return FSDirectoryWrapper::Fsync(options, debug); });
  }
  IOStatus FsyncWithDirOptions(const IOOptions& options, IODebugContext* debug,
                               const rocksdb::DirFsyncOptions& reason) override {
    return observed(observer_, {.op = Op::sync_directory, .path = path_}, [&] {
      return FSDirectoryWrapper::FsyncWithDirOptions(options, debug, reason);
    });
  }

 private:
  const std::string path_;
  DiskObserver& observer_;
};

class ObservedFileSystem : public rocksdb::FileSystemWrapper {
 public:
  explicit ObservedFileSystem(DiskObserver& observer)
      : FileSystemWrapper(rocksdb::FileSystem::Default()), observer_(observer) {}

  const char* Name() const override { return "observed"; }

  IOStatus NewWritableFile(const std::string& path, const FileOptions& options,
                           std::unique_ptr<FSWritableFile>* file, IODebugContext* debug) override {
    auto done = observed(observer_, {.op = Op::create, .path = path},
                         [&] { return target()->NewWritableFile(path, options, file, debug); });
    if (done.ok()) {
      *file = std::make_unique<ObservedFile>(std::move(*file), path, 0, observer_);
    }
    return done;
  }
  // Neither is used with the tables' options; silence here would be a hole in what is seen.
  IOStatus ReopenWritableFile(const std::string& path, const FileOptions&,
                              std::unique_ptr<FSWritableFile>*, IODebugContext*) override {
    return IOStatus::NotSupported("reopening " + path);
  }
  IOStatus ReuseWritableFile(const std::string& path, const std::string&, const FileOptions&,
                             std::unique_ptr<FSWritableFile>*, IODebugContext*) override {
    return IOStatus::NotSupported("reusing " + path);
  }
  IOStatus NewDirectory(const std::string& path, const IOOptions& options,
                        std::unique_ptr<FSDirectory>* directory, IODebugContext* debug) override {
    auto done = target()->NewDirectory(path, options, directory, debug);
    if (done.ok()) {
      *directory = std::make_unique<ObservedDirectory>(std::move(*directory), path, observer_);
    }
    return done;
  }
  IOStatus DeleteFile(const std::string& path, const IOOptions& options,
                      IODebugContext* debug) override {
    return observed(observer_, {.op = Op::remove, .path = path},
                    [&] { return target()->DeleteFile(path, options, debug); });
  }
  IOStatus Truncate(const std::string& path, size_t size, const IOOptions& options,
                    IODebugContext* debug) override {
    return observed(observer_, {.op = Op::truncate, .path = path, .size = size},
                    [&] { return target()->Truncate(path, size, options, debug); });
  }
  IOStatus CreateDir(const std::string& path, const IOOptions& options,
                     IODebugContext* debug) override {
    return observed(observer_, {.op = Op::make_directory, .path = path},
                    [&] { return target()->CreateDir(path, options, debug); });
  }
  IOStatus CreateDirIfMissing(const std::string& path, const IOOptions& options,
                              IODebugContext* debug) override {
    if (target()->FileExists(path, options, debug).ok()) return IOStatus::OK();
    return CreateDir(path, options, debug);
  }
  IOStatus DeleteDir(const std::string& path, const IOOptions& options,
                     IODebugContext* debug) override {
    return observed(observer_, {.op = Op::remove, .path = path},
                    [&] { return target()->DeleteDir(path, options, debug); });
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions& options,
                      IODebugContext* debug) override {
    return observed(observer_, {.op = Op::rename, .path = from, .target = to},
                    [&] { return target()->RenameFile(from, to, options, debug); });
  }
  IOStatus LinkFile(const std::string& from, const std::string& to, const IOOptions& options,
                    IODebugContext* debug) override {
    return observed(observer_, {.op = Op::link, .path = from, .target = to},
                    [&] { return target()->LinkFile(from, to, options, debug); });
  }

 private:
  DiskObserver& observer_;
};

}  // namespace

std::unique_ptr<rocksdb::Env> observed_tables_env(DiskObserver& observer) {
  return rocksdb::NewCompositeEnv(std::make_shared<ObservedFileSystem>(observer));
}

}  // namespace hulse::storage

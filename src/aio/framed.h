// Length-prefixed frames on a stream: a reader that hands out slices of what it read, and a writer
// that gathers what waits into one write. Used by client and broker.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "aio/event.h"
#include "aio/stream.h"
#include "aio/task.h"
#include "base/bytes.h"

namespace hulse::aio {

// Frames of `u32 big-endian size · bytes`. Lives on the stream's executor.
class FrameReader {
 public:
  FrameReader(Stream& stream, size_t frame_bytes_max)
      : stream_(stream), frame_bytes_max_(frame_bytes_max) {}
  ~FrameReader();
  FrameReader(const FrameReader&) = delete;
  FrameReader& operator=(const FrameReader&) = delete;

  // The next frame without its size. The slice shares a buffer with its neighbours. Code::too_large
  // when the other side announces a frame above the limit (the connection is of no use then),
  // Code::unavailable when it closed.
  Task<Result<Bytes>> next();

  void set_frame_bytes_max(size_t bytes) { frame_bytes_max_ = bytes; }

 private:
  size_t wanted() const;  // bytes from begin_ on that the frame at the front needs
  void make_room(size_t bytes);

  Stream& stream_;
  size_t frame_bytes_max_;
  std::shared_ptr<char[]> buffer_;
  size_t capacity_ = 0;  // counted among what all readers hold
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t read_size_ = 4 << 10;  // grows with what the other side sends, shrinks when it is quiet
};

// Lives on the stream's executor. run() is the one coroutine that writes.
class FrameWriter {
 public:
  FrameWriter(Stream& stream, Executor executor)
      : stream_(stream), queued_(executor), drained_(executor) {}

  // Never blocks; order is kept. Whoever sends a lot looks at queued_bytes() first.
  void send(std::string head, Bytes body = {});

  size_t queued_bytes() const { return queued_bytes_; }
  // Notified each time a write has ended.
  Event& drained() { return drained_; }

  // Writes what is sent until it fails or is cancelled.
  Task<Result<void>> run();

 private:
  struct Piece {
    std::string head;
    Bytes body;
  };
  Stream& stream_;
  std::deque<Piece> pieces_;
  size_t queued_bytes_ = 0;
  Event queued_;
  Event drained_;
};

}  // namespace hulse::aio

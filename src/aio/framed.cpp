#include "aio/framed.h"

#include <atomic>
#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>
#include <cstring>

namespace hulse::aio {
namespace {

constexpr size_t kReadSizeMin = 4 << 10;
constexpr size_t kReadSizeMax = 512 << 10;
// Of all readers together; above it they read in small pieces. A thousand busy connections would
// hold half a gigabyte.
constexpr size_t kReadBytesTotal = 64 << 20;
constexpr size_t kReadSizeScarce = 16 << 10;
constexpr size_t kWriteBytesMax = 1 << 20;
constexpr size_t kWritePiecesMax = 64;

std::atomic<size_t> g_read_bytes = 0;

}  // namespace

FrameReader::~FrameReader() { g_read_bytes -= capacity_; }

size_t FrameReader::wanted() const {
  if (end_ - begin_ < 4) return 4;
  return 4 + static_cast<size_t>(get_u32(buffer_.get() + begin_));
}

void FrameReader::make_room(size_t bytes) {
  const size_t held = end_ - begin_;
  if (g_read_bytes > kReadBytesTotal) {
    read_size_ = std::min(read_size_, kReadSizeScarce);
    // Gives a large one back when it has served.
    if (held == 0 && capacity_ > std::max(bytes, read_size_)) {
      buffer_.reset();
      g_read_bytes -= std::exchange(capacity_, 0);
      begin_ = end_ = 0;
    }
  }
  if (held == 0 && buffer_ && buffer_.use_count() == 1 &&
      capacity_ >= std::max(bytes, read_size_)) {
    // Nobody holds a slice any more; pairs with the release of the last one on another thread.
    std::atomic_thread_fence(std::memory_order_acquire);
    begin_ = end_ = 0;
    return;
  }
  if (buffer_ && capacity_ - begin_ >= bytes && capacity_ - end_ >= read_size_ / 4) return;
  const size_t capacity = std::max(bytes, read_size_);
  auto fresh = std::make_shared_for_overwrite<char[]>(capacity);
  if (held > 0) std::memcpy(fresh.get(), buffer_.get() + begin_, held);
  buffer_ = std::move(fresh);
  g_read_bytes += capacity - capacity_;
  capacity_ = capacity;
  begin_ = 0;
  end_ = held;
}

Task<Result<Bytes>> FrameReader::next() {
  for (;;) {
    const size_t size = wanted();
    if (size > frame_bytes_max_ + 4) {
      co_return Error(Code::too_large, "a frame of " + std::to_string(size - 4) +
                                           " bytes is above the limit of " +
                                           std::to_string(frame_bytes_max_));
    }
    if (size > 4 && end_ - begin_ >= size) {
      Bytes frame(buffer_, std::string_view(buffer_.get() + begin_ + 4, size - 4));
      begin_ += size;
      co_return frame;
    }
    if (size == 4 && end_ - begin_ >= 4) co_return Error(Code::corrupt, "a frame of no bytes");
    const bool stopped = co_await cancelled();
    if (stopped) co_return Error(Code::cancelled, "stopped");
    make_room(size);
    const size_t room = capacity_ - end_;
    const asio::mutable_buffer space(buffer_.get() + end_, room);
    const auto [error, got] = co_await stream_.read_some(space);
    if (error) co_return to_error(error);
    end_ += got;
    if (got == room) {
      read_size_ = std::min(read_size_ * 2, kReadSizeMax);
    } else if (got < read_size_ / 16) {
      read_size_ = std::max(read_size_ / 2, kReadSizeMin);
    }
  }
}

void FrameWriter::send(std::string head, Bytes body) {
  queued_bytes_ += head.size() + body.size();
  // Small answers travel together.
  if (!pieces_.empty() && pieces_.back().body.empty() && pieces_.back().head.size() < 4096) {
    pieces_.back().head += head;
    pieces_.back().body = std::move(body);
  } else {
    pieces_.push_back({std::move(head), std::move(body)});
  }
  queued_.notify();
}

Task<Result<void>> FrameWriter::run() {
  std::vector<Piece> writing;
  std::vector<asio::const_buffer> buffers;
  for (;;) {
    while (pieces_.empty()) {
      const bool woken = co_await queued_.wait();
      if (!woken && pieces_.empty()) co_return Error(Code::cancelled, "stopped");
    }
    writing.clear();
    buffers.clear();
    size_t bytes = 0;
    while (!pieces_.empty() && writing.size() < kWritePiecesMax && bytes < kWriteBytesMax) {
      bytes += pieces_.front().head.size() + pieces_.front().body.size();
      writing.push_back(std::move(pieces_.front()));
      pieces_.pop_front();
    }
    for (const auto& piece : writing) {
      buffers.push_back(asio::buffer(piece.head));
      if (!piece.body.empty())
        buffers.push_back(asio::buffer(piece.body.data(), piece.body.size()));
    }
    const bool stopped = co_await cancelled();
    if (stopped) co_return Error(Code::cancelled, "stopped");
    const auto [error, written] = co_await stream_.write(buffers);
    if (error) co_return to_error(error);
    queued_bytes_ -= written;
    drained_.notify();
  }
}

}  // namespace hulse::aio

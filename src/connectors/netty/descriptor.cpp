#include "connectors/netty/descriptor.h"

#include <unistd.h>

#include <boost/asio/posix/basic_stream_descriptor.hpp>

namespace hulse::connectors::netty {

Descriptor::~Descriptor() { ::close(fd_); }

aio::Task<bool> Descriptor::wait_readable() {
  using Watched = boost::asio::posix::basic_stream_descriptor<aio::Executor>;
  const auto executor = co_await boost::asio::this_coro::executor;
  Watched watched(executor, fd_);
  const auto [failed] = co_await watched.async_wait(Watched::wait_read, aio::as_values);
  watched.release();
  co_return !failed;
}

}  // namespace hulse::connectors::netty

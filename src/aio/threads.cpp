#include "aio/threads.h"

#include <pthread.h>

#include <boost/asio/executor_work_guard.hpp>

#include "base/assert.h"

namespace hulse::aio {

struct Threads::Loop {
  asio::io_context context{1};
  asio::executor_work_guard<Executor> work{context.get_executor()};
  std::thread thread;
};

Threads::Threads(const std::string& name, size_t count) {
  HULSE_ASSERT(count > 0);
  for (size_t i = 0; i < count; ++i) {
    auto loop = std::make_unique<Loop>();
    loop->thread = std::thread([context = &loop->context] { context->run(); });
    // The kernel keeps 15 characters.
    pthread_setname_np(loop->thread.native_handle(),
                       (name.substr(0, 12) + "-" + std::to_string(i)).c_str());
    loops_.push_back(std::move(loop));
  }
}

Threads::~Threads() { stop(); }

Executor Threads::next() { return at(next_.fetch_add(1, std::memory_order_relaxed)); }
Executor Threads::at(size_t index) { return loops_[index % loops_.size()]->context.get_executor(); }

void Threads::stop() {
  for (auto& loop : loops_) {
    if (!loop->thread.joinable()) continue;
    HULSE_ASSERT(loop->thread.get_id() != std::this_thread::get_id());
    loop->work.reset();
    asio::post(loop->context, [context = &loop->context] { context->stop(); });
    loop->thread.join();
  }
}

}  // namespace hulse::aio

// What tests of the client share, beside it and on a bus.
#pragma once

#include <optional>
#include <string>

#include "aio/event.h"
#include "client/producer.h"

namespace hulse::client {

// Sends and waits for the receipt. On the client's strand.
inline aio::Task<Result<MessageId>> send(Producer& producer, std::string text) {
  const auto executor = co_await aio::asio::this_coro::executor;
  aio::Event done(executor);
  std::optional<Result<MessageId>> result;
  const wire::Outgoing message{.value = text};
  producer.send({&message, 1}, [&](const Result<MessageId>& id) {
    result = id;
    done.notify();
  });
  while (!result) co_await done.wait();
  co_return *result;
}

}  // namespace hulse::client

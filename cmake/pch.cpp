// Gives the precompiled header a target to belong to, and is the one place where Asio's and Beast's
// function bodies are compiled: the header pulls Asio into every file, so every program needs them.
#include <boost/asio/impl/src.hpp>
#include <boost/asio/ssl/impl/src.hpp>
#include <boost/beast/src.hpp>

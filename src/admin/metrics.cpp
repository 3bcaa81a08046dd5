#include "admin/rest.h"
#include "metrics/page.h"

namespace hulse::admin {
namespace {

using metrics::Type;

// One row: the metric's name for a sink and for a source, and where its value is.
struct Row {
  std::string_view sink;
  std::string_view source;
  Type type;
  std::string_view help;
  uint64_t runtime::Counters::* value;
};

constexpr Row kRows[] = {
    {"pulsar_sink_received_total", "pulsar_source_received_total", Type::counter,
     "Records the instance has received.", &runtime::Counters::received},
    {"pulsar_sink_written_total", "pulsar_source_written_total", Type::counter,
     "Records the other side has confirmed.", &runtime::Counters::written},
    {"pulsar_sink_sink_exceptions_total", "pulsar_source_source_exceptions_total", Type::counter,
     "Everything that went wrong.", &runtime::Counters::failures},
    {"hulse_sink_dead_lettered_total", "hulse_source_dead_lettered_total", Type::counter,
     "Records that went to the dead letter topic.", &runtime::Counters::dead_lettered},
    {"hulse_sink_skipped_total", "hulse_source_skipped_total", Type::counter,
     "Records that were given up.", &runtime::Counters::skipped},
    {"hulse_sink_returned_total", "hulse_source_returned_total", Type::counter,
     "Records given back unfinished, by a stop or a kill.", &runtime::Counters::returned},
    {"hulse_sink_retries_total", "hulse_source_retries_total", Type::counter,
     "Records that were tried again.", &runtime::Counters::retries},
    {"hulse_sink_restarts_total", "hulse_source_restarts_total", Type::counter,
     "Times the instance was opened again.", &runtime::Counters::restarts},
    {"hulse_sink_in_flight", "hulse_source_in_flight", Type::gauge,
     "Records without an outcome yet.", &runtime::Counters::in_flight},
};

}  // namespace

aio::Task<std::string> metrics_of(runtime::Worker& worker) {
  const auto all = co_await worker.everything();
  metrics::Page page;
  for (const auto& one : all) {
    const auto& [name, kind, instance] = one;
    const bool sink = kind == connect::Kind::sink;
    const metrics::Labels labels{
        {"tenant", name.tenant},   {"namespace", name.tenant + "/" + name.name_space},
        {"name", name.name},       {"instance_id", std::to_string(instance.index)},
        {"cluster", "standalone"}, {"fqfn", name.text()}};
    const auto& status = instance.status;
    for (const auto& row : kRows) {
      page.add(sink ? row.sink : row.source, row.type, row.help, labels,
               status.counters.*row.value);
    }
    page.add(sink ? "pulsar_sink_last_invocation" : "pulsar_source_last_invocation", Type::gauge,
             "When it received its last record, in milliseconds since 1970.", labels,
             status.last_received_ms);
    page.add(sink ? "hulse_sink_running" : "hulse_source_running", Type::gauge,
             "1 while the instance runs.", labels, status.state == runtime::State::running ? 1 : 0);
  }
  co_return page.text();
}

}  // namespace hulse::admin

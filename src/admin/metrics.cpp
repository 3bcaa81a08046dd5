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

// What an instance measures, from its start on.
void show_meters(metrics::Page& page, bool sink, const metrics::Labels& labels,
                 const runtime::Meters& meters) {
  const auto gauge = [&](std::string_view of_sink, std::string_view of_source,
                         std::string_view help, double value) {
    page.add(sink ? of_sink : of_source, Type::gauge, help, labels, value);
  };
  gauge("hulse_sink_records_in_per_second", "hulse_source_records_in_per_second",
        "Records received a second, over the last ten seconds.", meters.records_in);
  gauge("hulse_sink_records_out_per_second", "hulse_source_records_out_per_second",
        "Records the other side confirmed a second, over the last ten seconds.",
        meters.records_out);
  gauge("hulse_sink_bytes_in_per_second", "hulse_source_bytes_in_per_second",
        "Bytes received a second, over the last ten seconds.", meters.bytes_in);
  page.add(sink ? "hulse_sink_batch_records" : "hulse_source_batch_records",
           "Records that came in one batch.", labels, meters.batch_records);
  page.add(sink ? "hulse_sink_write_seconds" : "hulse_source_write_seconds",
           sink ? "How long the target took for a batch." : "How long the broker took for a batch.",
           labels, meters.write_seconds);
  page.add(sink ? "hulse_sink_limited_seconds_total" : "hulse_source_limited_seconds_total",
           Type::counter, "Seconds that the rate limit held it back.", labels,
           static_cast<double>(meters.limited_ms) / 1000);
  auto by_class = labels;
  by_class.emplace_back("outcome", "");
  by_class.emplace_back("error", "");
  for (const auto& [kind, count] : meters.failures) {
    by_class[by_class.size() - 2].second = kind.first;
    by_class.back().second = to_string(kind.second);
    page.add(
        sink ? "hulse_sink_failures_total" : "hulse_source_failures_total", Type::counter,
        "Failures by what they led to (retry, split, reject, restart, fatal) and kind of error.",
        by_class, count);
  }
  if (!meters.lag) return;
  page.add("hulse_sink_lag_messages", Type::gauge,
           "What the sink's subscription has not acknowledged; instances of a shared subscription "
           "each see all of it.",
           labels, meters.lag->messages);
  page.add("hulse_sink_lag_bytes", Type::gauge, "The same in bytes, about.", labels,
           meters.lag->bytes);
  page.add("hulse_sink_lag_seconds", Type::gauge,
           "Since the oldest record without an outcome was published.", labels,
           static_cast<double>(meters.lag->age_ms) / 1000);
}

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
    show_meters(page, sink, labels, status.meters);
    page.add(sink ? "hulse_sink_running" : "hulse_source_running", Type::gauge,
             "1 while the instance runs.", labels, status.state == runtime::State::running ? 1 : 0);
  }
  co_return page.text();
}

}  // namespace hulse::admin

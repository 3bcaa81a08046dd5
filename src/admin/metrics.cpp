#include "admin/rest.h"
#include "metrics/page.h"

namespace hulse::admin {
namespace {

using metrics::Type;

// One row: the metric's name for a source, a sink and a function (empty: it has none), and where
// its value is.
struct Row {
  std::string_view names[3];
  Type type;
  std::string_view help;
  uint64_t runtime::Counters::* value;
};

constexpr Row kRows[] = {
    {{"pulsar_source_received_total", "pulsar_sink_received_total",
      "pulsar_function_received_total"},
     Type::counter,
     "Records the instance has received.",
     &runtime::Counters::received},
    {{"pulsar_source_written_total", "pulsar_sink_written_total",
      "pulsar_function_processed_successfully_total"},
     Type::counter,
     "Records the other side has confirmed.",
     &runtime::Counters::written},
    {{"pulsar_source_source_exceptions_total", "pulsar_sink_sink_exceptions_total",
      "pulsar_function_user_exceptions_total"},
     Type::counter,
     "Everything that went wrong.",
     &runtime::Counters::failures},
    {{"hulse_source_dead_lettered_total", "hulse_sink_dead_lettered_total",
      "hulse_function_dead_lettered_total"},
     Type::counter,
     "Records that went to the dead letter topic.",
     &runtime::Counters::dead_lettered},
    {{"hulse_source_skipped_total", "hulse_sink_skipped_total", "hulse_function_skipped_total"},
     Type::counter,
     "Records that were given up.",
     &runtime::Counters::skipped},
    {{"hulse_source_returned_total", "hulse_sink_returned_total", "hulse_function_returned_total"},
     Type::counter,
     "Records given back unfinished, by a stop or a kill.",
     &runtime::Counters::returned},
    {{"hulse_source_retries_total", "hulse_sink_retries_total", "hulse_function_retries_total"},
     Type::counter,
     "Records that were tried again.",
     &runtime::Counters::retries},
    {{"hulse_source_restarts_total", "hulse_sink_restarts_total", "hulse_function_restarts_total"},
     Type::counter,
     "Times the instance was opened again.",
     &runtime::Counters::restarts},
    {{"hulse_source_in_flight", "hulse_sink_in_flight", "hulse_function_in_flight"},
     Type::gauge,
     "Records without an outcome yet.",
     &runtime::Counters::in_flight},
};

// Names of one thing for a source, a sink and a function.
using Names = std::string_view[3];
constexpr Names kRecordsIn = {"hulse_source_records_in_per_second",
                              "hulse_sink_records_in_per_second",
                              "hulse_function_records_in_per_second"};
constexpr Names kRecordsOut = {"hulse_source_records_out_per_second",
                               "hulse_sink_records_out_per_second",
                               "hulse_function_records_out_per_second"};
constexpr Names kBytesIn = {"hulse_source_bytes_in_per_second", "hulse_sink_bytes_in_per_second",
                            "hulse_function_bytes_in_per_second"};
constexpr Names kBatchRecords = {"hulse_source_batch_records", "hulse_sink_batch_records",
                                 "hulse_function_batch_records"};
constexpr Names kWriteSeconds = {"hulse_source_write_seconds", "hulse_sink_write_seconds",
                                 "hulse_function_write_seconds"};
constexpr Names kLimitedSeconds = {"hulse_source_limited_seconds_total",
                                   "hulse_sink_limited_seconds_total",
                                   "hulse_function_limited_seconds_total"};
constexpr Names kFailures = {"hulse_source_failures_total", "hulse_sink_failures_total",
                             "hulse_function_failures_total"};
constexpr Names kLagMessages = {"", "hulse_sink_lag_messages", "hulse_function_lag_messages"};
constexpr Names kLagBytes = {"", "hulse_sink_lag_bytes", "hulse_function_lag_bytes"};
constexpr Names kLagSeconds = {"", "hulse_sink_lag_seconds", "hulse_function_lag_seconds"};

// What an instance measures, from its start on.
void show_meters(metrics::Page& page, size_t at, const metrics::Labels& labels,
                 const runtime::Meters& meters) {
  page.add(kRecordsIn[at], Type::gauge, "Records received a second, over the last ten seconds.",
           labels, meters.records_in);
  page.add(kRecordsOut[at], Type::gauge,
           "Records the other side confirmed a second, over the last ten seconds.", labels,
           meters.records_out);
  page.add(kBytesIn[at], Type::gauge, "Bytes received a second, over the last ten seconds.", labels,
           meters.bytes_in);
  page.add(kBatchRecords[at], "Records that came in one batch.", labels, meters.batch_records);
  page.add(kWriteSeconds[at], "How long the target, or the broker, took for a batch.", labels,
           meters.write_seconds);
  page.add(kLimitedSeconds[at], Type::counter, "Seconds that the rate limit held it back.", labels,
           static_cast<double>(meters.limited_ms) / 1000);
  auto by_class = labels;
  by_class.emplace_back("outcome", "");
  by_class.emplace_back("error", "");
  for (const auto& [kind, count] : meters.failures) {
    by_class[by_class.size() - 2].second = kind.first;
    by_class.back().second = to_string(kind.second);
    page.add(
        kFailures[at], Type::counter,
        "Failures by what they led to (retry, split, reject, restart, fatal, doubt) and kind of "
        "error.",
        by_class, count);
  }
  if (!meters.lag || kLagMessages[at].empty()) return;
  page.add(
      kLagMessages[at], Type::gauge,
      "What the subscription has not acknowledged; instances of a shared subscription each see "
      "all of it.",
      labels, meters.lag->messages);
  page.add(kLagBytes[at], Type::gauge, "The same in bytes, about.", labels, meters.lag->bytes);
  page.add(kLagSeconds[at], Type::gauge,
           "Since the oldest record without an outcome was published.", labels,
           static_cast<double>(meters.lag->age_ms) / 1000);
}

// Of the last minute.
struct RecentRow {
  std::string_view names[3];
  std::string_view help;
  uint64_t runtime::Recent::* value;
};

constexpr RecentRow kRecentRows[] = {
    {{"", "pulsar_sink_received_1min", "pulsar_function_received_1min"},
     "Records received in the last minute.",
     &runtime::Recent::received},
    {{"", "pulsar_sink_written_1min", "pulsar_function_processed_successfully_1min"},
     "Records confirmed in the last minute.",
     &runtime::Recent::written},
    {{"", "pulsar_sink_sink_exceptions_1min", "pulsar_function_user_exceptions_1min"},
     "What went wrong in the last minute.",
     &runtime::Recent::failures},
};

constexpr std::string_view kLastInvocation[] = {"pulsar_source_last_invocation",
                                                "pulsar_sink_last_invocation",
                                                "pulsar_function_last_invocation"};
constexpr std::string_view kRunning[] = {"hulse_source_running", "hulse_sink_running",
                                         "hulse_function_running"};

}  // namespace

aio::Task<std::string> metrics_of(runtime::Worker& worker) {
  const auto all = co_await worker.everything();
  metrics::Page page;
  for (const auto& one : all) {
    const auto& [name, kind, instance] = one;
    const auto at = static_cast<size_t>(kind);
    const metrics::Labels labels{
        {"tenant", name.tenant},   {"namespace", name.tenant + "/" + name.name_space},
        {"name", name.name},       {"instance_id", std::to_string(instance.index)},
        {"cluster", "standalone"}, {"fqfn", name.text()}};
    const auto& status = instance.status;
    for (const auto& row : kRows)
      page.add(row.names[at], row.type, row.help, labels, status.counters.*row.value);
    for (const auto& row : kRecentRows) {
      if (!row.names[at].empty())
        page.add(row.names[at], Type::gauge, row.help, labels, status.minute.*row.value);
    }
    if (kind == connect::Kind::function) {
      page.add("hulse_function_process_microseconds_total", Type::counter,
               "Time spent processing, each record counting that of its batch.", labels,
               std::chrono::duration_cast<std::chrono::microseconds>(status.latency.total).count());
    }
    page.add(kLastInvocation[at], Type::gauge,
             "When it received its last record, in milliseconds since 1970.", labels,
             status.last_received_ms);
    show_meters(page, at, labels, status.meters);
    page.add(kRunning[at], Type::gauge, "1 while the instance runs.", labels,
             status.state == runtime::State::running ? 1 : 0);
  }
  co_return page.text();
}

}  // namespace hulse::admin

"""/metrics in both formats, read by Prometheus' own parsers, and what packaging/ makes of it."""
import json
import re

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from fake_elasticsearch import Fake
from support import ROOT, http, wait_until
from test_worker import Admin

OPEN_METRICS = {"Accept": "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5"}
DASHBOARD, ALERTS = ROOT / "packaging/grafana/hulse.json", ROOT / "packaging/prometheus/alerts.yml"


@pytest.fixture(scope="module")
def page(module_workshop):
    """A standalone with a source and a sink that have lived a little: written, retried, rejected, waited."""
    broker = module_workshop.standalone()
    admin = Admin(module_workshop, broker)
    fake = Fake(lambda document, n: (503 if n == 2 else None) if document is None else 400 if n % 3 == 0 else 200)
    limit = ("--custom-runtime-options", '{"rateLimit": {"recordsPerSecond": 1000}}')
    admin("sources", "create", "--name", "people", "--source-type", "data-generator", "--destination-topic-name", "t",
          "--source-config", '{"sleepBetweenMessages": 20}', *limit)
    admin("sinks", "create", "--name", "keep", "--sink-type", "elastic_search", "--inputs", "t", "--sink-config",
          json.dumps({"elasticSearchUrl": fake.url, "indexName": "i"}), *limit)

    def lived():
        own = admin.status("sinks", "keep")["hulse"]
        return own["deadLettered"] > 0 and own["retries"] > 0 and own["written"] > 20 and "lag" in own
    wait_until(lived, "the sink has written, retried and rejected")
    yield lambda headers=None: http("GET", broker.web + "/metrics", headers=headers)[1].decode()
    fake.shutdown()


def samples(text, parser):
    return {(sample.name, sample.labels.get("name"), sample.labels.get("outcome"), sample.labels.get("le")): sample.value
            for family in parser(text) for sample in family.samples}


def test_prometheus_reads_it(page):
    text = page()
    families = list(prometheus(text))
    assert all(family.documentation for family in families if family.name.startswith("hulse_s"))
    assert {family.type for family in families} <= {"counter", "gauge", "histogram"}
    assert len({family.name for family in families}) == len(families), "each stands once"
    found = samples(text, prometheus)
    assert found["pulsar_sink_written_total", "keep", None, None] > 20
    assert found["hulse_sink_failures_total", "keep", "retry", None] > 0
    assert found["hulse_sink_failures_total", "keep", "reject", None] > 0
    assert found["hulse_sink_dead_lettered_total", "keep", None, None] > 0
    assert found["hulse_sink_lag_messages", "keep", None, None] >= 0
    assert found["hulse_source_records_out_per_second", "people", None, None] >= 0
    for name, who in (("hulse_sink_write_seconds", "keep"), ("hulse_source_batch_records", "people")):
        count = found[name + "_count", who, None, None]
        assert count > 0 and found[name + "_bucket", who, None, "+Inf"] == count
        bounds = [(float(le), value) for (n, w, _, le), value in found.items() if n == name + "_bucket" and w == who]
        assert [value for _, value in sorted(bounds)] == sorted(value for _, value in bounds), "they add up"


def test_open_metrics_is_what_its_parser_wants(page):
    text = page(OPEN_METRICS)
    assert text.endswith("# EOF\n")
    found = samples(text, open_metrics)
    assert found["pulsar_sink_written_total", "keep", None, None] > 20
    assert found["hulse_sink_write_seconds_count", "keep", None, None] > 0


@pytest.mark.parametrize("path", [DASHBOARD, ALERTS], ids=["dashboard", "alerts"])
def test_every_metric_of_packaging_exists(page, path):
    text = path.read_text()
    if path == DASHBOARD:
        panels = json.loads(text)["panels"]
        text = "\n".join(target["expr"] for panel in panels for target in panel.get("targets", []))
    else:
        text = "\n".join(re.findall(r"^\s+expr: (.*)$", text, re.MULTILINE))
    named = set(re.findall(r"\b(?:hulse|pulsar)_[a-z_]+", text))
    exist = {sample.name for family in prometheus(page()) for sample in family.samples}
    assert len(named) > 5 and named <= exist, named - exist

"""Sources and sinks that the standalone runs: created, changed, watched and deleted with the command line and the REST."""
import json
import re
import shlex
import socket

import pulsar
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support import ROOT, free_port, http, listens, wait_until

RECEIVE_MS = 30000


class Admin:
    """`hulse …` against one standalone."""

    def __init__(self, workshop, broker, *arguments):
        self.workshop, self.broker, self.arguments = workshop, broker, arguments

    def run(self, *words):
        return self.workshop.run("--admin-url", self.broker.web, *self.arguments, *words)

    def __call__(self, *words):
        done = self.run(*words)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def refused(self, *words):
        done = self.run(*words)
        assert done.returncode == 1, f"{words} went well: {done.stdout}"
        return done.stderr

    def status(self, kind, name, instance=0):
        answer = json.loads(self(kind, "status", "--name", name))
        return answer["instances"][instance]["status"]

    def wait_running(self, kind, name):
        wait_until(lambda: self.status(kind, name)["running"], f"{name} runs")


@pytest.fixture
def broker(workshop):
    return workshop.standalone()


@pytest.fixture
def admin(workshop, broker):
    return Admin(workshop, broker)


def sink(admin, name, topic, path, *arguments, verb="create"):
    return admin("sinks", verb, "--name", name, "--sink-type", "file", "--inputs", topic, "--subs-position", "Earliest",
                 "--sink-config", json.dumps({"path": str(path)}), *arguments)


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def values(path):
    return [json.loads(line)["value"] for line in lines(path)]


def remembered(connect, broker, instance):
    """What the worker has stored of an instance's counters: the last message of that key."""
    client = connect(broker.url)
    reader = client.create_reader("persistent://public/functions/hulse-instances", pulsar.MessageId.earliest)
    found = {"written": -1}
    while reader.has_message_available():
        message = reader.read_next(RECEIVE_MS)
        if message.partition_key() == instance:
            found = json.loads(message.data())
    client.close()
    return found


def test_a_sink_lives_from_create_to_delete(workshop, broker, admin, connect):
    out = workshop.folder / "out.jsonl"
    assert sink(admin, "f", "t", out).startswith("Created successfully")
    assert "Sink f already exists" in admin.refused("sinks", "create", "--name", "f", "--sink-type", "file", "--inputs",
                                                    "t", "--sink-config", json.dumps({"path": str(out)}))
    producer = connect(broker.url).create_producer("t")
    for i in range(10):
        producer.send(b"%d" % i)
    wait_until(lambda: len(lines(out)) == 10, "the sink has written")
    wait_until(lambda: admin.status("sinks", "f")["numWrittenToSink"] == 10, "the sink has counted")
    status = admin.status("sinks", "f")
    assert status["running"] and status["error"] == "" and status["numReadFromPulsar"] == 10
    assert json.loads(admin("sinks", "list")) == ["f"] and json.loads(admin("sources", "list")) == []
    config = json.loads(admin("sinks", "get", "--name", "f"))
    assert config["inputs"] == ["persistent://public/default/t"] and config["archive"] == "builtin://file"
    assert config["processingGuarantees"] == "ATLEAST_ONCE" and config["configs"] == {"path": str(out)}

    # A stopped one stays stopped over a restart, and goes on where it was.
    assert admin("sinks", "stop", "--name", "f") == "Stopped successfully\n"
    status = admin.status("sinks", "f")
    assert not status["running"] and status["hulse"]["state"] == "stopped" and status["numWrittenToSink"] == 10
    broker.kill()
    broker.start()
    assert admin.status("sinks", "f")["hulse"]["state"] == "stopped"
    connect(broker.url).create_producer("t").send(b"10")
    admin("sinks", "start", "--name", "f")
    wait_until(lambda: len(lines(out)) == 11, "it goes on")
    assert len(lines(out)) == 11

    assert admin("sinks", "restart", "--name", "f", "--instance-id", "0") == "Restarted successfully\n"
    admin.wait_running("sinks", "f")
    assert "no instance 7" in admin.refused("sinks", "restart", "--name", "f", "--instance-id", "7")
    # A number that no instance has, not even by what is left of it.
    status, answer = http("POST", f"{broker.web}/admin/v3/sinks/public/default/f/99999999999/stop")
    assert status == 400 and b"is no instance" in answer
    assert admin.status("sinks", "f")["running"]
    assert admin("sinks", "delete", "--name", "f") == "Deleted successfully\n"
    assert "Sink f doesn't exist" in admin.refused("sinks", "get", "--name", "f")
    assert json.loads(admin("sinks", "list")) == []


def test_a_kill_brings_everything_back_with_its_counters(workshop, broker, admin, connect):
    out = workshop.folder / "out.jsonl"
    admin("sources", "create", "--name", "people", "--source-type", "data-generator", "--destination-topic-name", "t")
    sink(admin, "f", "t", out)
    for _ in range(3):
        before = len(lines(out))
        wait_until(lambda: len(lines(out)) > before + 30, "records flow")
        counted = admin.status("sinks", "f")["numWrittenToSink"]
        wait_until(lambda: remembered(connect, broker, "public/default/f/0")["written"] >= counted, "the counters are stored")
        broker.kill()
        broker.start()
        admin.wait_running("sinks", "f")
        admin.wait_running("sources", "people")
        assert admin.status("sinks", "f")["numWrittenToSink"] >= counted
    admin("sources", "delete", "--name", "people")
    source = admin.refused("sources", "status", "--name", "people")
    assert "Source people doesn't exist" in source
    # Nothing that was published is missing in the file.
    reader = connect(broker.url).create_reader("t", pulsar.MessageId.earliest)
    published = set()
    while reader.has_message_available():
        published.add(reader.read_next(RECEIVE_MS).data().decode())
    wait_until(lambda: {json.dumps(json.loads(p)) for p in published} <= {json.dumps(json.loads(v)) if isinstance(v, str)
                                                                         else json.dumps(v) for v in values(out)},
               "the sink has written everything that was published")
    status = admin.status("sinks", "f")["hulse"]
    assert status["received"] == status["written"] + status["deadLettered"] + status["skipped"] + status["returned"] + \
        status["inFlight"]


def test_every_problem_is_told_and_nothing_is_half_created(admin):
    text = admin.refused("sinks", "create", "--name", "f", "--sink-type", "file", "--inputs", "a b://c",
                         "--parallelism", "many", "--sink-config", '{"pth": "/x"}')
    for part in ("pth: unknown key; did you mean path?", "parallelism: ", "path: required"):
        assert part in text, text
    assert json.loads(admin("sinks", "list")) == []
    text = admin.refused("sinks", "create", "--name", "f", "--sink-type", "fil", "--inputs", "t")
    assert "Invalid sink type 'fil' -- Available sinks are: [" in text
    assert "You must specify a name for the sink" in admin.refused("sinks", "create", "--sink-type", "file")
    assert "You must specify a name for the source" in admin.refused("sources", "stop")


def test_a_dry_run_does_nothing(workshop, admin):
    out = workshop.folder / "out.jsonl"
    assert "nothing was done" in sink(admin, "f", "t", out, "--dry-run")
    assert json.loads(admin("sinks", "list")) == []
    sink(admin, "f", "t", out)
    said = admin("sinks", "update", "--name", "f", "--parallelism", "2", "--dry-run")
    assert "parallelism: 1 -> 2" in said
    assert json.loads(admin("sinks", "get", "--name", "f"))["parallelism"] == 1


def test_an_update_changes_what_it_names_and_says_so(workshop, broker, admin, connect):
    first, second = workshop.folder / "first.jsonl", workshop.folder / "second.jsonl"
    sink(admin, "f", "t", first, "--custom-runtime-options", '{"onReject":"skip"}')
    producer = connect(broker.url).create_producer("t")
    producer.send(b"1")
    wait_until(lambda: len(lines(first)) == 1, "the first file is written")
    said = admin("sinks", "update", "--name", "f", "--sink-config", json.dumps({"path": str(second)}))
    assert said.startswith("Updated successfully\n") and "configs.path" in said and "first.jsonl" in said
    config = json.loads(admin("sinks", "get", "--name", "f"))
    assert config["customRuntimeOptions"] == '{"onReject":"skip"}', "what was not given stays"
    producer.send(b"2")
    wait_until(lambda: len(lines(second)) == 1, "the second file is written")
    assert len(lines(first)) == 1
    assert "Update contains no change" in admin.refused("sinks", "update", "--name", "f", "--parallelism", "1")
    text = admin.refused("sinks", "update", "--name", "f", "--inputs", "other")
    assert "Input Topics cannot be altered (t -> other)" in text
    assert "Sink g doesn't exist" in admin.refused("sinks", "update", "--name", "g", "--parallelism", "2")
    # What it cannot be changed to leaves it as it is.
    assert "pth: unknown key" in admin.refused("sinks", "update", "--name", "f", "--sink-config", '{"pth": "x"}')
    producer.send(b"3")
    wait_until(lambda: len(lines(second)) == 2, "it still runs")


def test_a_sink_that_comes_back_goes_on_where_it_was(workshop, broker, admin, connect):
    out = workshop.folder / "out.jsonl"
    sink(admin, "f", "t", out)
    producer = connect(broker.url).create_producer("t")
    producer.send(b"before")
    wait_until(lambda: len(lines(out)) == 1, "it has written")
    admin("sinks", "delete", "--name", "f")
    producer.send(b"between")
    assert "goes on where the deleted sink" in sink(admin, "f", "t", out)
    wait_until(lambda: len(lines(out)) == 2, "what came meanwhile is written, and nothing twice")
    # With its subscription dropped it is a new one: --subs-position counts.
    admin("sinks", "delete", "--name", "f", "--drop-subscription")
    status, answer = http("GET", f"{broker.web}/admin/v2/persistent/public/default/t/subscriptions")
    assert status == 200 and json.loads(answer) == []
    producer.send(b"nobody reads this")
    admin("sinks", "create", "--name", "f", "--sink-type", "file", "--inputs", "t", "--subs-position", "Latest",
          "--sink-config", json.dumps({"path": str(out)}))
    admin.wait_running("sinks", "f")
    producer.send(b"after")
    wait_until(lambda: len(lines(out)) == 3, "it has written")
    assert [v for v in lines(out) if "nobody" in v] == []
    # One that reads something else is another sink: it takes over neither position nor counters.
    assert admin.status("sinks", "f")["numWrittenToSink"] > 0
    admin("sinks", "delete", "--name", "f")
    assert "goes on where" not in sink(admin, "f", "u", workshop.folder / "other.jsonl")
    admin.wait_running("sinks", "f")
    assert admin.status("sinks", "f")["numWrittenToSink"] == 0
    status, answer = http("GET", f"{broker.web}/admin/v2/persistent/public/default/t/subscriptions")
    assert json.loads(answer) == []


def test_the_subscription_of_a_deleted_sink_goes_when_its_time_is_over(workshop, connect):
    broker = workshop.standalone(arguments=("--deleted-sink-subscription-seconds", "1"))
    admin = Admin(workshop, broker)
    sink(admin, "f", "t", workshop.folder / "out.jsonl")
    admin.wait_running("sinks", "f")
    subscriptions = f"{broker.web}/admin/v2/persistent/public/default/t/subscriptions"
    assert json.loads(http("GET", subscriptions)[1]) == ["public/default/f"]
    admin("sinks", "delete", "--name", "f")
    wait_until(lambda: json.loads(http("GET", subscriptions)[1]) == [], "the subscription goes")


def test_components_that_fail_do_not_keep_the_broker_from_serving(workshop, broker, admin, connect):
    out = workshop.folder / "no" / "such" / "folder" / "out.jsonl"
    sink(admin, "f", "t", out)
    wait_until(lambda: admin.status("sinks", "f")["hulse"]["state"] in ("failed", "retrying"), "the sink cannot open")
    status = admin.status("sinks", "f")
    assert not status["running"] and "folder" in status["error"] and "folder" in \
        status["latestSinkExceptions"][0]["exceptionString"]
    broker.kill()
    broker.start()
    producer = connect(broker.url).create_producer("t")
    producer.send(b"1")
    # Once the cause is gone, it is started and has lost nothing.
    out.parent.mkdir(parents=True)
    admin("sinks", "restart", "--name", "f")
    wait_until(lambda: len(lines(out)) == 1, "the sink has written")


def test_the_forms_of_other_tools_are_understood(workshop, broker):
    out = workshop.folder / "out.jsonl"
    base = f"{broker.web}/admin/v3/sink/public/default/f"
    config = {"archive": "builtin://file", "inputs": ["t"], "configs": {"path": str(out)}}
    status, answer = http("POST", base, json.dumps(config).encode(), {"Content-Type": "application/json"})
    assert (status, answer) == (204, b"")
    form = ('--x\r\nContent-Disposition: form-data; name="sinkConfig"\r\n\r\n{"parallelism": 2}\r\n'
            '--x\r\nContent-Disposition: form-data; name="other"\r\n\r\n1\r\n--x--')
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    status, answer = http("PUT", base, form.encode(), headers)
    assert status == 400 and 'a part \\"other\\"' in answer.decode()
    assert http("PUT", base, form.replace("other", "updateOptions").encode(), headers)[0] == 204
    for path, kind in (("cluster", list), ("cluster/leader", dict), ("assignments", dict), ("connectors", list)):
        status, answer = http("GET", f"{broker.web}/admin/v2/worker/{path}")
        assert status == 200 and isinstance(json.loads(answer), kind) and json.loads(answer), path
    status, answer = http("GET", f"{broker.web}/admin/v3/sinks/builtinsinks/file/configdefinition")
    assert "path" in [field["fieldName"] for field in json.loads(answer)]
    assert http("GET", f"{broker.web}/admin/v3/sinks/builtinsinks/none/configdefinition")[0] == 404


def test_metrics_are_what_prometheus_reads(workshop, broker, admin, connect):
    out = workshop.folder / "out.jsonl"
    sink(admin, "f", "t", out)
    admin("sources", "create", "--name", "people", "--source-type", "data-generator", "--destination-topic-name", "p")
    connect(broker.url).create_producer("t").send(b"1")
    wait_until(lambda: admin.status("sinks", "f")["numWrittenToSink"] == 1, "the sink has written")
    admin.wait_running("sources", "people")
    families = {}
    for family in text_string_to_metric_families(http("GET", broker.web + "/metrics")[1].decode()):
        assert family.name not in families, f"{family.name} stands in two places"
        assert family.documentation and family.type in ("counter", "gauge", "histogram"), family.name
        families[family.name] = family.samples
    written = families["pulsar_sink_written"][0]
    assert written.value == 1 and written.labels == {
        "tenant": "public", "namespace": "public/default", "name": "f", "instance_id": "0", "cluster": "standalone",
        "fqfn": "public/default/f"}
    assert families["hulse_sink_running"][0].value == 1 and families["hulse_source_running"][0].value == 1
    published = {sample.labels["topic"]: sample.value for sample in families["pulsar_in_messages"]}
    assert published["persistent://public/default/t"] == 1


def test_the_guides_commands_run_as_printed(workshop, broker):
    """docs/guide/components.md: its first block, with paths and ports of this test."""
    text = (ROOT / "docs/guide/components.md").read_text()
    block = re.search(r"^    bin/hulse sources create.*?(?=^\S)", text, re.MULTILINE | re.DOTALL)[0]
    port, out = free_port(), workshop.folder / "lines.jsonl"
    for old, new in (("10999", str(port)), ("/tmp/lines.jsonl", str(out))):
        assert old in block
        block = block.replace(old, new)
    commands = block.replace("\\\n", " ").strip().splitlines()
    assert len(commands) == 3
    environment = {"PULSAR_CLIENT_CONF": str(workshop.file("client.conf", f"webServiceUrl={broker.web}\n"))}
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "bin/hulse"
        done = workshop.run(*words[1:], env=environment)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    wait_until(lambda: listens(port), "the source listens")
    Admin(workshop, broker).wait_running("sinks", "keep")  # it begins at Latest
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"one\ntwo\n")
    wait_until(lambda: values(out) == ["one", "two"], "both lines are in the file")


def test_the_tenants_administrators_manage_what_runs_in_it(workshop):
    key = workshop.folder / "key"
    assert workshop.run("tokens", "create-secret-key", "--output", key).returncode == 0

    def token(role):
        done = workshop.run("tokens", "create", "--secret-key", key, "--subject", role)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()
    broker = workshop.standalone(arguments=(
        "--authentication-enabled", "--authorization-enabled", "--super-user-roles", "root",
        "--token-secret-key", f"file://{key}"))

    def admin_of(role):
        return Admin(workshop, broker, "--auth-plugin", "token", "--auth-params", f"token:{token(role)}")
    root, anna, otto = admin_of("root"), admin_of("anna"), admin_of("otto")
    body = json.dumps({"adminRoles": ["anna"], "allowedClusters": ["standalone"]}).encode()
    headers = {"Authorization": f"Bearer {token('root')}", "Content-Type": "application/json"}
    assert http("PUT", f"{broker.web}/admin/v2/tenants/acme", body, headers)[0] == 204
    assert http("PUT", f"{broker.web}/admin/v2/namespaces/acme/crm", b"", headers)[0] == 204
    out = workshop.folder / "out.jsonl"
    words = ("--tenant", "acme", "--namespace", "crm", "--name", "f")
    create = ("sinks", "create", *words, "--sink-type", "file", "--inputs", "persistent://acme/crm/t",
              "--sink-config", json.dumps({"path": str(out)}))
    assert "administrator" in otto.refused(*create)
    anna(*create)
    wait_until(lambda: json.loads(anna("sinks", "status", *words))["numRunning"] == 1, "the sink runs in a secured broker")
    assert "administrator" in otto.refused("sinks", "get", *words)
    assert "file" in otto("sinks", "available-sinks")
    assert json.loads(root("sinks", "list", "--tenant", "acme", "--namespace", "crm")) == ["f"]
    plain = workshop.run("--admin-url", broker.web, "sinks", "list")
    assert plain.returncode == 1 and "who you are" in plain.stderr

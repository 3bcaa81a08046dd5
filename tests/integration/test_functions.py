"""Functions that the standalone runs: their life, their state, triggering, dead letters, exact counting."""
import base64
import json
import shutil

import pulsar
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support import http, wait_until
from test_cluster import bus, workers  # noqa: F401: fixtures
from test_worker import RECEIVE_MS, Admin


@pytest.fixture
def broker(workshop):
    return workshop.standalone()


@pytest.fixture
def admin(workshop, broker):
    return Admin(workshop, broker)


def function(admin, name, inputs, output, *arguments, verb="create", counter="seen"):
    out = ["--output", output] if output else []
    return admin("functions", verb, "--name", name, "--function-type", "identity", "--inputs", inputs, *out,
                 "--subs-position", "Earliest", "--user-config", json.dumps({"counterKey": counter}), *arguments)


def counted(admin, name, key="seen"):
    done = admin.run("functions", "querystate", "--name", name, "--key", key)
    return json.loads(done.stdout)["numberValue"] if done.returncode == 0 else None


def everything(connect, broker, topic):
    reader = connect(broker.url).create_reader(topic, pulsar.MessageId.earliest)
    messages = []
    while reader.has_message_available():
        messages.append(reader.read_next(RECEIVE_MS))
    return messages


def test_a_function_lives_from_create_to_delete(broker, admin, connect):
    assert function(admin, "f", "in", "out").startswith("Created successfully")
    assert "Function f already exists" in admin.refused(
        "functions", "create", "--name", "f", "--function-type", "identity", "--inputs", "in")
    # Names are shared by all kinds.
    assert "already exists" in admin.refused("sinks", "create", "--name", "f", "--sink-type", "data-generator",
                                             "--inputs", "in")
    client = connect(broker.url)
    consumer = client.subscribe("out", "s", initial_position=pulsar.InitialPosition.Earliest)
    producer = client.create_producer("in")
    for i in range(10):
        producer.send(b"%d" % i, partition_key=f"k{i}", properties={"n": str(i)}, event_timestamp=1000 + i)
    for i in range(10):
        message = consumer.receive(RECEIVE_MS)
        consumer.acknowledge(message)
        assert (message.data(), message.partition_key(), message.event_timestamp()) == (b"%d" % i, f"k{i}", 1000 + i)
        properties = message.properties()
        assert properties["n"] == str(i) and properties["__pfn_input_topic__"] == "persistent://public/default/in"
        assert base64.b64decode(properties["__pfn_input_msg_id__"])
    admin.wait_running("functions", "f")
    wait_until(lambda: admin.status("functions", "f")["numSuccessfullyProcessed"] == 10, "it has counted")
    status = admin.status("functions", "f")
    assert status["numReceived"] == 10 and status["averageLatency"] > 0 and status["lastInvocationTime"] > 0
    assert status["numUserExceptions"] == 0 and status["latestUserExceptions"] == []
    stats = json.loads(admin("functions", "stats", "--name", "f"))
    assert stats["receivedTotal"] == 10 and stats["processedSuccessfullyTotal"] == 10
    assert stats["avgProcessLatency"] > 0 and stats["1min"]["userExceptionsTotal"] == 0
    assert stats["instances"][0]["metrics"]["receivedTotal"] == 10
    one = json.loads(admin("functions", "stats", "--name", "f", "--instance-id", "0"))
    assert one["receivedTotal"] == 10 and one["userMetrics"] == {}
    assert "no instance 3" in admin.refused("functions", "stats", "--name", "f", "--instance-id", "3")
    assert counted(admin, "f") == 10

    assert admin("functions", "list") == "f\n"
    config = json.loads(admin("functions", "get", "--fqfn", "public/default/f"))
    assert config["inputs"] == ["persistent://public/default/in"] and config["jar"] == "builtin://identity"
    assert config["output"] == "persistent://public/default/out" and config["userConfig"] == {"counterKey": "seen"}
    assert config["processingGuarantees"] == "ATLEAST_ONCE" and config["forwardSourceMessageProperty"] is True

    page = http("GET", broker.web + "/metrics")[1].decode()
    rows = {sample.name: sample.value for family in text_string_to_metric_families(page) for sample in family.samples
            if sample.labels.get("name") == "f"}
    assert rows["pulsar_function_received_total"] == 10
    assert rows["pulsar_function_processed_successfully_total"] == 10 and rows["hulse_function_running"] == 1

    assert admin("functions", "stop", "--name", "f") == "Stopped successfully\n"
    assert not admin.status("functions", "f")["running"]
    producer.send(b"10")
    assert admin("functions", "start", "--name", "f") == "Started successfully\n"
    assert consumer.receive(RECEIVE_MS).data() == b"10"
    assert admin("functions", "restart", "--name", "f", "--instance-id", "0") == "Restarted successfully\n"
    changed = admin("functions", "update", "--name", "f", "--parallelism", "2")
    assert changed.startswith("Updated successfully") and "parallelism: 1 -> 2" in changed
    assert "Update contains no change" in admin.refused("functions", "update", "--name", "f", "--parallelism", "2")
    assert "Input Topics cannot be altered" in admin.refused("functions", "update", "--name", "f", "--inputs", "other")
    assert json.loads(admin("functions", "status", "--name", "f"))["numInstances"] == 2

    assert admin("functions", "delete", "--name", "f", "--drop-subscription") == "Deleted successfully\n"
    assert "Function f doesn't exist" in admin.refused("functions", "get", "--name", "f")
    assert "Function f doesn't exist" in admin.refused("functions", "querystate", "--name", "f", "--key", "seen")
    # Its state went with it.
    function(admin, "f", "in", "out")
    assert "key 'nothing' doesn't exist." in admin.refused("functions", "querystate", "--name", "f", "--key", "nothing")
    wait_until(lambda: counted(admin, "f") is None or counted(admin, "f") <= 11, "it does not count on from before")


def test_a_kill_brings_the_function_and_its_state_back(broker, admin, connect):
    function(admin, "f", "in", "out")
    sent = 0
    for _ in range(3):
        producer = connect(broker.url).create_producer("in")
        for _ in range(200):
            producer.send_async(b"%d" % sent, None)
            sent += 1
        producer.flush()
        wait_until(lambda: (counted(admin, "f") or 0) > sent - 200, "it counts")
        broker.kill()
        broker.start()
        admin.wait_running("functions", "f")
    # Everything came through; what was under way at a kill may have come twice, and counts twice.
    wait_until(lambda: {m.data() for m in everything(connect, broker, "out")} == {b"%d" % i for i in range(sent)},
               "all records are there")
    wait_until(lambda: counted(admin, "f") >= sent, "all are counted")


def test_two_instances_count_exactly(broker, admin, connect):
    function(admin, "f", "in", "out", "--parallelism", "2")
    producer = connect(broker.url).create_producer("in", batching_enabled=True, batching_max_messages=20,
                                                  block_if_queue_full=True)
    total = 3000
    for i in range(total):
        producer.send_async(b"%d" % i, None)
    producer.flush()
    wait_until(lambda: counted(admin, "f") == total, "all are counted")
    instances = json.loads(admin("functions", "status", "--name", "f"))["instances"]
    shares = [one["status"]["numReceived"] for one in instances]
    assert sum(shares) == total and min(shares) > 0, shares
    assert len(everything(connect, broker, "out")) == total
    assert counted(admin, "f") == total


def test_records_that_never_succeed_go_to_the_dead_letters(broker, admin, connect):
    # A value that is no number under the counter's key makes every record fail.
    function(admin, "f", "in", "out", "--max-message-retries", "2", "--dead-letter-topic", "dead",
             "--custom-runtime-options", json.dumps({"retry.initialMs": 1}))
    admin("functions", "putstate", "--name", "f", "--state", json.dumps({"key": "seen", "stringValue": "no number"}))
    connect(broker.url).create_producer("in").send(b"unlucky")
    dead = connect(broker.url).subscribe("dead", "dead-letters", initial_position=pulsar.InitialPosition.Earliest)
    letter = dead.receive(RECEIVE_MS)
    assert letter.data() == b"unlucky" and "is no number" in letter.properties()["HULSE_REASON"]
    wait_until(lambda: admin.status("functions", "f")["hulse"]["deadLettered"] == 1, "it is counted")
    status = admin.status("functions", "f")
    assert status["numUserExceptions"] > 0 and "is no number" in status["latestUserExceptions"][0]["exceptionString"]
    assert everything(connect, broker, "out") == []


def test_trigger_sends_one_message_and_shows_what_comes_out(workshop, broker, admin):
    function(admin, "f", "in,in2", "out")
    admin.wait_running("functions", "f")
    assert "more than 1 input topics" in admin.refused("functions", "trigger", "--name", "f", "--trigger-value", "x")
    assert "unidentified topic" in admin.refused("functions", "trigger", "--name", "f", "--topic", "other",
                                                 "--trigger-value", "x")
    assert admin("functions", "trigger", "--name", "f", "--topic", "in2", "--trigger-value", "hello") == "hello\n"
    path = workshop.file("value.txt", "from a file")
    assert admin("functions", "trigger", "--name", "f", "--topic", "in", "--trigger-file", path) == "from a file\n"
    assert "trigger value" in admin.refused("functions", "trigger", "--name", "f")
    assert "Function g doesn't exist" in admin.refused("functions", "trigger", "--name", "g", "--trigger-value", "x")
    admin("functions", "stop", "--name", "f")
    assert "is not ready" in admin.refused("functions", "trigger", "--name", "f", "--topic", "in", "--trigger-value", "x")
    # Without an output topic there is nothing to wait for.
    function(admin, "silent", "in3", None)
    admin.wait_running("functions", "silent")
    assert admin("functions", "trigger", "--name", "silent", "--trigger-value", "x") == "\n"
    wait_until(lambda: counted(admin, "silent") == 1, "it was processed")


def test_trigger_finds_its_answer_in_partitions(broker, admin):
    for topic in ("in", "out"):
        status, _ = http("PUT", f"{broker.web}/admin/v2/persistent/public/default/{topic}/partitions", b"3",
                         {"Content-Type": "application/json"})
        assert status == 204
    function(admin, "f", "in", "out")
    admin.wait_running("functions", "f")
    for i in range(4):
        assert admin("functions", "trigger", "--name", "f", "--trigger-value", f"v{i}") == f"v{i}\n"


def test_state_is_put_and_queried(workshop, broker, admin):
    function(admin, "f", "in", "out")
    admin("functions", "putstate", "--name", "f", "--state", json.dumps({"key": "k", "stringValue": "grüße"}))
    assert json.loads(admin("functions", "querystate", "--name", "f", "-k", "k"))["stringValue"] == "grüße"
    coded = base64.b64encode(b"\xff\x00").decode()
    admin("functions", "putstate", "--name", "f", "--state", json.dumps({"key": "b", "byteValue": coded}))
    stored = json.loads(admin("functions", "querystate", "--name", "f", "-k", "b"))
    assert stored["byteValue"] == coded and stored["key"] == "b" and stored["version"] > 0
    base = f"{broker.web}/admin/v3/functions/public/default/f/state/k"
    status, answer = http("POST", base, b'{"key":"other","stringValue":"x"}', {"Content-Type": "application/json"})
    assert status == 400 and b"Path key doesn't match key in json" in answer
    status, answer = http("POST", base, b'{"key":"k","numberValue":1}', {"Content-Type": "application/json"})
    assert status == 400 and b"counters" in answer
    assert http("GET", f"{broker.web}/admin/v3/functions/public/default/nosuch/state/k")[0] == 404
    watching = workshop.start("--admin-url", broker.web, "functions", "querystate", "--name", "f", "-k", "later", "-w")
    watching.wait_for("key 'later' doesn't exist.")
    admin("functions", "putstate", "--name", "f", "--state", json.dumps({"key": "later", "stringValue": "now"}))
    watching.wait_for('"stringValue": "now"')
    watching.stop()
    # A restart of the function and of the server keeps it.
    admin("functions", "restart", "--name", "f")
    broker.kill()
    broker.start()
    assert json.loads(admin("functions", "querystate", "--name", "f", "-k", "k"))["stringValue"] == "grüße"


def test_what_cannot_be_is_refused_with_every_problem(broker, admin):
    text = admin.refused("functions", "create", "--name", "f", "--function-type", "identity", "--inputs", "in",
                         "--output", "in", "--user-config", '{"countrKey": "x"}', "--dead-letter-topic", "d",
                         "--processing-guarantees", "EFFECTIVELY_ONCE")
    for part in ("did you mean counterKey?", "is an input as well", "max retries", "EFFECTIVELY_ONCE yet"):
        assert part in text, text
    assert "Available functions are: [identity]" in admin.refused(
        "functions", "create", "--name", "f", "--function-type", "nosuch", "--inputs", "in")
    assert "not Java, Python or Go code" in admin.refused(
        "functions", "create", "--name", "f", "--jar", "my.jar", "--classname", "org.example.My", "--inputs", "in")
    assert admin("functions", "list") == ""
    assert "identity" in admin("functions", "available-functions")
    assert admin("functions", "reload") == ""


def test_a_function_runs_beside_a_broker(workshop, broker, connect):
    run = broker.localrun("functions", "--name", "f", "--function-type", "identity", "--inputs", "in", "--output", "out",
                          "--subs-position", "Earliest", "--runtime", "THREAD")
    run.wait_for("running: .*identity -> out")
    client = connect(broker.url)
    consumer = client.subscribe("out", "s", initial_position=pulsar.InitialPosition.Earliest)
    client.create_producer("in").send(b"x")
    assert consumer.receive(RECEIVE_MS).data() == b"x"
    _, status = run.stop()
    assert status == 0


def test_apply_and_check_take_functions(workshop, admin):
    folder = workshop.folder / "components"
    folder.mkdir()
    path = folder / "copy.yaml"
    path.write_text("name: copy\nfunctionType: identity\ninputs: [in]\noutput: out\n")
    assert "function public/default/copy (identity) is as it should be" in workshop.run("check", folder).stdout
    assert "function public/default/copy: created" in admin("apply", "-f", folder)
    assert "function public/default/copy: unchanged" in admin("apply", "-f", folder)
    path.write_text("name: copy\nfunctionType: identity\ninputs: [in]\noutput: other\n")
    assert "output: " in admin("apply", "-f", folder)
    shutil.move(path, workshop.folder / "copy.yaml")
    (folder / "sink.yaml").write_text(f"name: s\nsinkType: file\ninputs: [in]\nconfigs: {{path: {workshop.folder}/x}}\n")
    assert "deleted (no file describes it)" in admin("apply", "-f", folder, "--prune")
    assert admin("functions", "list") == ""


def test_log_lines_go_to_the_log_topic(workshop, broker, admin, connect):
    function(admin, "f", "in", "out", "--log-topic", "logs")
    out = workshop.folder / "out.jsonl"
    admin("sinks", "create", "--name", "s", "--sink-type", "file", "--inputs", "in", "--sink-config",
          json.dumps({"path": str(out)}), "--log-topic", "logs")
    consumer = connect(broker.url).subscribe("logs", "s", initial_position=pulsar.InitialPosition.Earliest)
    seen = {}
    while len(seen) < 2:
        message = consumer.receive(RECEIVE_MS)
        if "running" in message.data().decode():
            seen[message.properties()["fqn"]] = message.properties()
    assert seen["public/default/f"] == {"loglevel": "INFO", "instance": "0", "fqn": "public/default/f"}
    assert seen["public/default/s"]["loglevel"] == "INFO"
    # What goes wrong is there as it is in the log.
    admin("functions", "putstate", "--name", "f", "--state", json.dumps({"key": "seen", "stringValue": "no number"}))
    connect(broker.url).create_producer("in").send(b"x")
    while True:
        message = consumer.receive(RECEIVE_MS)
        if "is no number" in message.data().decode():
            assert message.properties()["loglevel"] == "WARN"
            break


def test_uploads_are_kept_and_replaced(workshop, broker, admin):
    path = workshop.folder / "package.bin"
    for size in (3 * 1024 * 1024 + 17, 12 * 1024 * 1024, 0, 5):
        content = bytes(i * 7 % 251 for i in range(1024)) * (size // 1024) + b"x" * (size % 1024)
        path.write_bytes(content)
        assert admin("functions", "upload", "--source-file", path, "--path", "a/b ü/p.jar") == "Uploaded successfully\n"
        fetched = workshop.folder / "fetched"
        assert admin("functions", "download", "--destination-file", fetched, "--path", "a/b ü/p.jar") == \
            "Downloaded successfully\n"
        assert fetched.read_bytes() == content
    broker.kill()
    broker.start()
    admin("functions", "download", "--destination-file", fetched, "--path", "a/b ü/p.jar")
    assert fetched.read_bytes() == b"xxxxx"
    assert "nothing was uploaded to other" in admin.refused("functions", "download", "--destination-file", fetched,
                                                            "--path", "other")


def test_archives_that_are_sent_along_are_known_by_their_names(workshop, broker, admin):
    def create(kind, name, file_name, config, size=100):
        boundary = "xyz"
        body = (f'--{boundary}\r\nContent-Disposition: form-data; name="{kind}Config"\r\nContent-Type: application/json\r\n'
                f'\r\n{json.dumps(config)}\r\n--{boundary}\r\nContent-Disposition: form-data; name="data"; '
                f'filename="{file_name}"\r\nContent-Type: application/octet-stream\r\n\r\n').encode()
        body += b"\0" * size + f"\r\n--{boundary}--\r\n".encode()
        plural = {"sink": "sinks", "function": "functions"}[kind]
        return http("POST", f"{broker.web}/admin/v3/{plural}/public/default/{name}", body,
                    {"Content-Type": f"multipart/form-data; boundary={boundary}"})

    sink = {"inputs": ["t"], "configs": {"path": str(workshop.folder / "x")}}
    # Larger than what other requests may be.
    assert create("sink", "s", "pulsar-io-file-2.8.1.nar", sink, size=20 << 20)[0] == 204
    status, answer = create("sink", "s2", "my-own.nar", sink)
    assert status == 400 and b"no built-in sink replaces this archive" in answer
    status, answer = create("function", "f", "my-own.jar", {"inputs": ["t"], "className": "org.example.My"})
    assert status == 400 and b"not Java, Python or Go code" in answer


def test_what_is_too_large_is_refused_with_the_limit(workshop):
    broker = workshop.standalone(arguments=("--max-upload-size-mb", "8"))
    form = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(9 << 20)}
    status, answer = http("POST", f"{broker.web}/admin/v3/functions/upload", b"y" * (9 << 20), form)
    assert status == 413 and b"8388608 bytes" in answer


def test_workers_share_a_function_and_its_state(workers, connect):  # noqa: F811
    first, second = workers.add(), workers.add()
    workers.wait_members(first, second)
    one, other = workers.admin(first), workers.admin(second)
    function(one, "f", f"in-{workers.mark}", f"out-{workers.mark}", "--parallelism", "2")

    def shares():
        return [one["status"] for one in json.loads(other("functions", "status", "--name", "f"))["instances"]]
    wait_until(lambda: all(share["running"] for share in shares()), "both instances run")
    assert {share["workerId"] for share in shares()} == {first.name, second.name}
    producer = connect(workers.url).create_producer(f"in-{workers.mark}", batching_enabled=True, batching_max_messages=20,
                                                    block_if_queue_full=True)
    total = 2000
    for i in range(total):
        producer.send_async(b"%d" % i, None)
    producer.flush()
    for admin in (one, other):
        wait_until(lambda: counted(admin, "f") == total, "all are counted, whoever is asked")
        assert admin("functions", "trigger", "--name", "f", "--trigger-value", "hello") == "hello\n"
        total += 1
    # What the other worker's instance has done is told, too.
    wait_until(lambda: json.loads(one("functions", "stats", "--name", "f"))["receivedTotal"] == total, "all are told")
    assert json.loads(one("functions", "stats", "--name", "f"))["avgProcessLatency"] > 0
    first.kill()
    wait_until(lambda: all(share["running"] and share["workerId"] == second.name for share in shares()),
               "the other one has taken over")
    assert other("functions", "trigger", "--name", "f", "--trigger-value", "again") == "again\n"
    assert counted(other, "f") >= total + 1

"""Seeing and hands on the data: status --watch, tap, deadletters, preview, replay, rate limits."""
import json
import time

import pulsar
import pytest

from fake_elasticsearch import Fake
from support import http, wait_until
from test_worker import Admin, lines, sink, values

RECEIVE_MS = 30000


@pytest.fixture
def broker(workshop):
    return workshop.standalone()


@pytest.fixture
def admin(workshop, broker):
    return Admin(workshop, broker)


@pytest.fixture
def fake():
    fake = Fake(lambda document, n: None if document is None else 400 if document.get("bad") else 200)
    yield fake
    fake.shutdown()


def elastic(admin, fake, name, topic, *arguments):
    return admin("sinks", "create", "--name", name, "--sink-type", "elastic_search", "--inputs", topic, "--subs-position",
                 "Earliest", "--sink-config", json.dumps({"elasticSearchUrl": fake.url, "indexName": "i"}), *arguments)


def publish(connect, broker, topic, documents, **settings):
    producer = connect(broker.url).create_producer(topic, **settings)
    ids = [producer.send(json.dumps(document).encode() if not isinstance(document, bytes) else document)
           for document in documents]
    producer.close()
    return ids


def subscriptions(broker, topic):
    return json.loads(http("GET", f"{broker.web}/admin/v2/persistent/public/default/{topic}/subscriptions")[1])


# ---- status

def test_status_says_lag_rates_and_the_target_s_own_words(broker, admin, connect, fake):
    elastic(admin, fake, "e", "t")
    publish(connect, broker, "t", [{"n": 1}, {"n": 2, "bad": True}])
    wait_until(lambda: admin.status("sinks", "e")["hulse"]["deadLettered"] == 1, "the bad one is rejected")
    own = admin.status("sinks", "e")["hulse"]
    error = own["lastErrors"][0]
    assert error["topic"] == "persistent://public/default/t" and error["messageId"] and error["attempt"] == 1
    assert "status 400 as told" in error["words"]
    wait_until(lambda: admin.status("sinks", "e")["hulse"]["lag"] == {"messages": 0, "bytes": 0, "ageMs": 0}, "no lag")
    # Nobody takes what comes now: it is behind by just that.
    admin("sinks", "stop", "--name", "e")
    publish(connect, broker, "t", [{"n": i} for i in range(20)])
    fake.judge = lambda document, n: 503 if document is None else 200
    admin("sinks", "start", "--name", "e")
    wait_until(lambda: admin.status("sinks", "e")["hulse"].get("lag", {}).get("messages") == 20, "it is 20 behind")
    lag = admin.status("sinks", "e")["hulse"]["lag"]
    assert lag["bytes"] > 0 and lag["ageMs"] > 0
    fake.judge = lambda document, n: None if document is None else 200
    wait_until(lambda: admin.status("sinks", "e")["hulse"]["lag"]["messages"] == 0, "it has caught up")
    wait_until(lambda: admin.status("sinks", "e")["hulse"]["rates"]["recordsOutPerSecond"] > 0, "it had a speed")


def test_watch_repeats_the_table_in_a_pipe(workshop, broker, admin):
    sink(admin, "f", "t", workshop.folder / "out")
    process = workshop.start("--admin-url", broker.web, "sinks", "status", "--name", "f", "--watch", "0.1")
    wait_until(lambda: process.output().count("sink public/default/f") >= 3, "three tables")
    assert process.stop()[1] == 0, "stopped by hand it ends well"
    blocks = process.output()[:process.output().rindex("\n\n")].split("\n\n")
    assert all("instance" in block and "in/s" in block for block in blocks) and "\x1b" not in process.output()
    assert any(" running " in block for block in blocks)
    assert "--watch" in admin.refused("sinks", "status", "--name", "f", "--watch", "never")


# ---- rate limit

def test_a_rate_limit_holds_and_can_be_changed(workshop, broker, admin, connect):
    out = workshop.folder / "out"
    publish(connect, broker, "t", [b"%d" % i for i in range(400)])
    began = time.monotonic()
    sink(admin, "f", "t", out, "--custom-runtime-options", json.dumps({"rateLimit": {"recordsPerSecond": 50}}))
    wait_until(lambda: len(lines(out)) >= 100, "a hundred are through")
    assert time.monotonic() - began > 1.5, "two seconds at 50 a second, less the first"
    assert len(lines(out)) < 350
    limit = admin.status("sinks", "f")["hulse"]["rateLimit"]
    assert limit["recordsPerSecond"] == 50 and limit["waitedMs"] > 500
    said = admin("sinks", "update", "--name", "f", "--custom-runtime-options", "{}")
    assert "Updated" in said
    wait_until(lambda: len(set(values(out))) == 400, "without a limit the rest is there soon", 20)
    assert "rateLimit" not in admin.status("sinks", "f")["hulse"]


def test_a_source_can_be_slowed_down(broker, admin):
    admin("sources", "create", "--name", "g", "--source-type", "data-generator", "--destination-topic-name", "people",
          "--source-config", '{"sleepBetweenMessages": 0}', "--custom-runtime-options",
          '{"rateLimit": {"recordsPerSecond": 500}}')
    wait_until(lambda: admin.status("sources", "g")["numWritten"] >= 1000, "a thousand are written")
    status = admin.status("sources", "g")
    assert status["hulse"]["rateLimit"]["waitedMs"] > 500 and status["numWritten"] < 10_000


# ---- tap

def test_tap_shows_and_covers_and_leaves_no_trace(workshop, broker, admin, connect):
    producer = connect(broker.url).create_producer("t")
    producer.send(json.dumps({"user": "ann", "password": "hunter2", "nested": {"cardNumber": "4111"}}).encode(),
                  properties={"trace": "7", "Authorization": "Bearer hidden"}, partition_key="k1")
    producer.send(b"text with token=abc")
    producer.send(b"\xff\xfe")
    shown = workshop.run("tap", "t", "--url", broker.url, "--from", "earliest", "-n", "3")
    assert shown.returncode == 0, shown.stderr
    assert '{"user":"ann","password":"********","nested":{"cardNumber":"********"}}' in shown.stdout
    assert "text with token=********" in shown.stdout and "2 bytes: ff fe" in shown.stdout
    assert "key=k1" in shown.stdout and "trace=7" in shown.stdout and "Authorization=********" in shown.stdout
    for secret in ("hunter2", "4111", "abc", "hidden"):
        assert secret not in shown.stdout
    wait_until(lambda: subscriptions(broker, "t") == [], "no subscription is left")

    # Live, from what a sink reads; from every partition.
    http("PUT", f"{broker.web}/admin/v2/persistent/public/default/p/partitions", b"2",
         {"Content-Type": "application/json"})
    sink(admin, "f", "p", workshop.folder / "out")
    tap = workshop.start("--admin-url", broker.web, "tap", "sink:f", "--url", broker.url, "-n", "4")
    producer = connect(broker.url).create_producer(
        "p", message_routing_mode=pulsar.PartitionsRoutingMode.RoundRobinDistribution)

    def four_came():
        producer.send(b"live", partition_key=str(time.monotonic()))
        return not tap.running()
    wait_until(four_came, "four records were shown")
    assert tap.wait() == 0 and tap.output().count("live") == 4


# ---- dead letters

def letters(workshop, broker, admin, deed, *words):
    done = workshop.run("--admin-url", broker.web, "deadletters", deed, "--url", broker.url, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_dead_letters_are_looked_at_brought_back_and_dropped(workshop, broker, admin, connect, fake):
    elastic(admin, fake, "e", "t")
    documents = [{"n": i, "bad": i % 2 == 0, "text": f"text {i}"} for i in range(10)]
    origins = publish(connect, broker, "t", documents)
    wait_until(lambda: admin.status("sinks", "e")["hulse"]["deadLettered"] == 5, "five are rejected")

    def deed(*words):
        return letters(workshop, broker, admin, *words)
    listed = deed("list", "--name", "e")
    assert "5 of 5 dead letters" in listed and listed.count("status 400 as told") == 5
    assert "persistent://public/default/t" in listed
    assert deed("list", "--name", "e") == listed, "looking changes nothing"
    shown = deed("show", "--name", "e", "--text", "text 4")
    assert '"text":"text 4"' in shown and "1 of 5 dead letters" in shown and "reason:" in shown
    assert "0 of 5" in deed("list", "--name", "e", "--reason", "no such reason")
    assert "5 of 5" in deed("list", "--name", "e", "--since", "1h") and "0 of 5" in deed("list", "--name", "e",
                                                                                          "--until", "1h")
    origin = origins[6]
    assert "1 of 5" in deed("list", "--name", "e", "--id", f"{origin.ledger_id()}:{origin.entry_id()}:-1")

    assert "1 of 5 dead letters would be replayed" in deed("replay", "--name", "e", "--text", "text 4", "--dry-run")
    assert "5 of 5" in deed("list", "--name", "e")
    fake.judge = lambda document, n: None if document is None else 200
    assert "1 of 5 dead letters replayed" in deed("replay", "--name", "e", "--text", "text 4")
    wait_until(lambda: [d for d in fake.stored if d["n"] == 4], "it is written now")
    assert "4 of 4" in deed("list", "--name", "e")
    # Somewhere else; and by the topic's name, without a server's word.
    topic = "persistent://public/default/t-e-DLQ"
    assert "1 of 4 dead letters replayed" in deed("replay", "--topic", topic, "--text", "text 6", "--to", "elsewhere")
    consumer = connect(broker.url).subscribe("elsewhere", "s", initial_position=pulsar.InitialPosition.Earliest)
    message = consumer.receive(RECEIVE_MS)
    assert json.loads(message.data())["n"] == 6 and "HULSE_REASON" not in message.properties()
    assert message.properties()["REAL_TOPIC"] == "persistent://public/default/t"

    assert "say --all" in workshop.run("deadletters", "drop", "--topic", topic, "--url", broker.url).stderr
    assert "1 of 1 dead letters would be dropped" in deed("drop", "--topic", topic, "-n", "1", "--dry-run")
    assert "1 of 3 dead letters dropped" in deed("drop", "--topic", topic, "--text", "text 8")
    assert "2 of 2 dead letters dropped" in deed("drop", "--topic", topic, "--all")
    assert "0 of 0" in deed("list", "--topic", topic)
    # What is not there is not made by looking.
    missing = workshop.run("deadletters", "list", "--topic", "nothing-DLQ", "--url", broker.url)
    assert missing.returncode == 1 and "does not exist" in missing.stderr
    assert http("GET", f"{broker.web}/admin/v2/persistent/public/default/nothing-DLQ/stats")[0] == 404


def test_what_cannot_be_replayed_stays(workshop, broker, admin, connect, fake):
    elastic(admin, fake, "e", "t")
    publish(connect, broker, "t", [{"bad": True}])
    wait_until(lambda: admin.status("sinks", "e")["hulse"]["deadLettered"] == 1, "it is rejected")
    admin("sinks", "delete", "--name", "e", "--drop-subscription")
    status, text = http("POST", f"{broker.web}/admin/v2/persistent/public/default/t/terminate")
    assert status == 200, text
    done = workshop.run("deadletters", "replay", "--topic", "t-e-DLQ", "--url", broker.url)
    assert done.returncode == 1 and "replaying letter" in done.stderr, done.stderr
    assert "0 of 1 dead letters replayed" in done.stdout
    assert "1 of 1" in letters(workshop, broker, admin, "list", "--topic", "t-e-DLQ")


# ---- preview

def test_preview_shows_the_request_and_touches_nothing(workshop, broker, connect):
    publish(connect, broker, "t", [{"n": 1}, b"not JSON", {"n": 3}])
    file = workshop.file("sink.json", {"name": "x", "inputs": ["t"], "sinkType": "elastic_search", "configs": {
        "elasticSearchUrl": "http://127.0.0.1:1", "indexName": "docs", "token": "env:NOT_SET_AND_NOT_NEEDED"}})
    done = workshop.run("preview", file, "--broker-service-url", broker.url)
    assert done.returncode == 0, done.stderr
    assert '{"index":{"_index":"docs"' in done.stdout.replace(" ", "") and '{"n": 1}' in done.stdout
    assert "it would be rejected: " in done.stdout
    assert "3 records of 1 topics; nothing was written" in done.stdout
    assert "1 records" in workshop.run("preview", file, "-n", "1", "--broker-service-url", broker.url).stdout
    wait_until(lambda: subscriptions(broker, "t") == [], "no subscription is left")
    out = workshop.folder / "out"
    done = workshop.run("preview", "--sink-type", "file", "--name", "x", "--inputs", "t", "--sink-config",
                        json.dumps({"path": str(out)}), "--broker-service-url", broker.url)
    assert '"value":"not JSON"' in done.stdout and not out.exists()
    done = workshop.run("preview", "--sink-type", "data-generator", "--name", "x", "--inputs", "t",
                        "--broker-service-url", broker.url)
    assert 'RECV: {"n": 3}' in done.stdout


# ---- replay

def test_replay_goes_on_from_a_place(workshop, broker, admin, connect):
    out = workshop.folder / "out"
    keep = connect(broker.url).subscribe("t", "keep")  # holds what the sink has acknowledged
    ids = publish(connect, broker, "t", [b"%d" % i for i in range(5)], batching_enabled=False)
    sink(admin, "f", "t", out)
    wait_until(lambda: len(lines(out)) == 5, "it has read all")
    said = admin("sinks", "replay", "f", "--from", "earliest")
    assert "persistent://public/default/t: at message" in said
    wait_until(lambda: values(out) == [str(i) for i in range(5)] * 2, "all again, in order")
    message = f"{ids[3].ledger_id()}:{ids[3].entry_id()}"
    assert message in admin("sinks", "replay", "--name", "f", "--from", message)
    wait_until(lambda: values(out)[10:] == ["3", "4"], "the last two again")
    between = int(time.time() * 1000)
    wait_until(lambda: time.time() * 1000 > between + 50, "the clock has moved on")
    publish(connect, broker, "t", [b"5"], batching_enabled=False)
    wait_until(lambda: values(out)[12:] == ["5"], "it reads on")
    admin("sinks", "replay", "f", "--from", str(between))
    wait_until(lambda: values(out)[13:] == ["5"], "what was published since")
    assert "behind its last message" in admin("sinks", "replay", "f", "--from", "latest")
    assert admin.status("sinks", "f")["running"] or wait_until(lambda: admin.status("sinks", "f")["running"], "it runs")
    assert "neither earliest" in admin.refused("sinks", "replay", "f", "--from", "somewhere")
    assert "doesn't exist" in admin.refused("sinks", "replay", "nobody", "--from", "earliest")
    # A stopped one is moved and stays stopped.
    admin("sinks", "stop", "--name", "f")
    admin("sinks", "replay", "f", "--from", "earliest")
    assert admin.status("sinks", "f")["hulse"]["state"] == "stopped"
    admin("sinks", "start", "--name", "f")
    wait_until(lambda: values(out)[14:] == [str(i) for i in range(6)], "all of it")
    keep.close()


def test_replay_refuses_what_is_gone(workshop, broker, admin, connect):
    out = workshop.folder / "out"
    sink(admin, "f", "t", out)
    ids = publish(connect, broker, "t", [b"%d" % i for i in range(5)], batching_enabled=False)
    wait_until(lambda: len(lines(out)) == 5, "it has read all")
    # Nobody holds what is acknowledged; a fresh ledger lets the broker trim the old one.
    wait_until(lambda: admin.status("sinks", "f")["hulse"].get("lag", {}).get("messages") == 0, "all is acknowledged")
    admin("sinks", "stop", "--name", "f")
    http("PUT", f"{broker.web}/admin/v2/persistent/public/default/t/unload")
    publish(connect, broker, "t", [b"5"], batching_enabled=False)
    message = f"{ids[0].ledger_id()}:{ids[0].entry_id()}"
    refused = admin.refused("sinks", "replay", "f", "--from", message)
    assert "is not stored any more" in refused, refused

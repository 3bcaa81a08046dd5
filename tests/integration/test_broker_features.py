"""What the embedded broker does beyond producing and consuming: with the PyPI client and its web interface."""
import concurrent.futures
import json
import os
import subprocess
import time

import pulsar
import pytest

from support import http, wait_until

RECEIVE_MS = 30000
EARLIEST = pulsar.InitialPosition.Earliest


def admin(standalone, method, path, body=None):
    """Status and JSON of a request to the web interface."""
    status, answer = http(method, f"{standalone.web}/admin/v2/{path}",
                          None if body is None else json.dumps(body).encode(), {"Content-Type": "application/json"})
    return status, json.loads(answer) if answer else None


def path_of(topic):
    return "persistent/public/default/" + topic.rsplit("/", 1)[-1]


@pytest.fixture
def namespace(standalone):
    """A namespace of its own, for policies."""
    name = f"public/n{time.monotonic_ns()}"
    assert admin(standalone, "PUT", f"namespaces/{name}")[0] == 204
    return name


def receive_all(consumer, count):
    got = []
    for _ in range(count):
        message = consumer.receive(RECEIVE_MS)
        got.append(message)
        consumer.acknowledge(message)
    return got


def test_key_shared_keeps_each_key_with_one_consumer_and_in_order(standalone, connect, topic):
    consumers = [connect(standalone.url).subscribe(topic, "s", consumer_type=pulsar.ConsumerType.KeyShared,
                                                   consumer_name=f"c{i}", receiver_queue_size=50) for i in range(3)]
    producer = connect(standalone.url).create_producer(topic, batching_enabled=True,
                                                       batching_type=pulsar.BatchingType.KeyBased)
    for i in range(600):
        producer.send_async(str(i).encode(), lambda *_: None, partition_key=f"key-{i % 20}")
    producer.flush()
    seen = [{} for _ in consumers]
    left = 600
    while left:
        for at, consumer in enumerate(consumers):
            try:
                message = consumer.receive(50)
            except pulsar.Timeout:
                continue
            consumer.acknowledge(message)
            seen[at].setdefault(message.partition_key(), []).append(int(message.data()))
            left -= 1
    keys = [key for consumer in seen for key in consumer]
    assert len(keys) == len(set(keys)) == 20, "a key had two consumers"
    for consumer in seen:
        assert consumer, "a consumer had no key"
        for key, numbers in consumer.items():
            assert numbers == sorted(numbers), key


def test_key_shared_order_holds_when_a_consumer_joins(standalone, connect, topic):
    first = connect(standalone.url).subscribe(topic, "s", consumer_type=pulsar.ConsumerType.KeyShared, consumer_name="a")
    producer = connect(standalone.url).create_producer(topic, batching_enabled=False)
    for i in range(100):
        producer.send(str(i).encode(), partition_key=f"key-{i % 10}")
    held = [first.receive(RECEIVE_MS) for _ in range(100)]
    second = connect(standalone.url).subscribe(topic, "s", consumer_type=pulsar.ConsumerType.KeyShared, consumer_name="b")
    for i in range(100, 200):
        producer.send(str(i).encode(), partition_key=f"key-{i % 10}")
    # Keys that moved wait until what the first one holds of them is acknowledged.
    with pytest.raises(pulsar.Timeout):
        second.receive(300)
    for message in held:
        first.acknowledge(message)
    got = {}
    left = 100
    while left:
        for consumer in (first, second):
            try:
                message = consumer.receive(50)
            except pulsar.Timeout:
                continue
            consumer.acknowledge(message)
            got.setdefault(message.partition_key(), []).append(int(message.data()))
            left -= 1
    for key, numbers in got.items():
        assert numbers == sorted(numbers), key


def test_exclusive_producers_and_those_that_wait(standalone, connect, topic):
    mode = pulsar.ProducerAccessMode
    client = connect(standalone.url)
    first = client.create_producer(topic, access_mode=mode.Exclusive)
    first.send(b"mine")
    with pytest.raises(Exception, match="(?i)fenced"):
        connect(standalone.url).create_producer(topic, access_mode=mode.Exclusive)
    with pytest.raises(Exception, match="(?i)busy"):
        connect(standalone.url).create_producer(topic)
    second = connect(standalone.url).create_producer(topic, access_mode=mode.ExclusiveWithFencing)
    second.send(b"taken over")
    with pytest.raises(Exception):
        first.send(b"not any more")
    second.close()
    connect(standalone.url).create_producer(topic).send(b"for all")


def test_a_producer_that_waits_outlasts_an_unload(standalone, connect, topic):
    mode = pulsar.ProducerAccessMode
    first = connect(standalone.url).create_producer(topic, access_mode=mode.Exclusive)
    client = connect(standalone.url)
    with concurrent.futures.ThreadPoolExecutor() as threads:
        waits = threads.submit(client.create_producer, topic, access_mode=mode.WaitForExclusive)

        def waiting():
            return admin(standalone, "GET", path_of(topic) + "/stats")[1]["waitingPublishers"] == 1
        wait_until(waiting, "one producer waits")
        assert admin(standalone, "PUT", path_of(topic) + "/unload")[0] == 204
        first.close()  # both came back, either may have been the first
        waits.result(60).send(b"mine now")


def test_a_delayed_message_waits_for_a_shared_subscription(standalone, connect, topic):
    from datetime import timedelta
    client = connect(standalone.url)
    consumer = client.subscribe(topic, "s", consumer_type=pulsar.ConsumerType.Shared)
    producer = client.create_producer(topic, batching_enabled=False)
    began = time.monotonic()
    producer.send(b"later", deliver_after=timedelta(milliseconds=1500))
    producer.send(b"now")
    assert consumer.receive(RECEIVE_MS).data() == b"now"
    assert consumer.receive(RECEIVE_MS).data() == b"later"
    assert time.monotonic() - began >= 1.4


def test_deduplication_holds_over_a_kill(workshop, connect):
    broker = workshop.standalone()
    assert admin(broker, "PUT", "namespaces/public/dedup")[0] == 204
    assert admin(broker, "POST", "namespaces/public/dedup/deduplication", True)[0] == 204
    topic = "persistent://public/dedup/t"
    connect(broker.url).subscribe(topic, "keeps", initial_position=EARLIEST).close()

    def produce(numbers):
        client = connect(broker.url)
        producer = client.create_producer(topic, producer_name="me", batching_enabled=False)
        last = producer.last_sequence_id()
        for number in numbers:
            producer.send(str(number).encode(), sequence_id=number)
        producer.close()
        return last
    assert produce(range(50)) == -1
    assert produce(range(30, 60)) == 49
    broker.kill()
    broker.start()
    assert produce(range(40, 80)) == 59
    reader = connect(broker.url).create_reader(topic, pulsar.MessageId.earliest)
    got = []
    while reader.has_message_available():
        got.append(int(reader.read_next(RECEIVE_MS).data()))
    assert got == list(range(80))


def test_partitioned_topics(standalone, connect, topic):
    path = path_of(topic)
    assert admin(standalone, "PUT", f"{path}/partitions", 4)[0] == 204
    assert admin(standalone, "PUT", f"{path}/partitions", 4)[0] == 409
    assert admin(standalone, "GET", f"{path}/partitions") == (200, {"partitions": 4, "deleted": False})
    client = connect(standalone.url)
    assert len(client.get_topic_partitions(topic)) == 4
    consumer = client.subscribe(topic, "s", initial_position=EARLIEST)
    producer = client.create_producer(topic)
    for i in range(100):
        producer.send(str(i).encode(), partition_key=f"k{i}")
    got = receive_all(consumer, 100)
    assert sorted(int(m.data()) for m in got) == list(range(100))
    assert len({m.topic_name() for m in got}) == 4
    # Growing keeps the subscription: a new partition has it from its first message on.
    assert admin(standalone, "POST", f"{path}/partitions", 6)[0] == 204
    assert admin(standalone, "GET", f"{path}-partition-5/subscriptions") == (200, ["s"])
    status, stats = admin(standalone, "GET", f"{path}/partitioned-stats")
    assert status == 200 and stats["metadata"]["partitions"] == 6
    assert admin(standalone, "DELETE", f"{path}/partitions")[0] == 412
    client.close()
    assert admin(standalone, "DELETE", f"{path}/partitions?force=true")[0] == 204
    assert admin(standalone, "GET", f"{path}/partitions") == (200, {"partitions": 0, "deleted": False})


def test_properties_of_topics(standalone, topic):
    path = path_of(topic)
    asked = {"partitions": 2, "properties": {"owner": "data", "tier": "1"}}
    assert admin(standalone, "PUT", f"{path}/partitions", {"partitions": 2, "properties": {"tier": 1}})[0] == 400
    assert admin(standalone, "PUT", f"{path}/partitions", asked)[0] == 204
    assert admin(standalone, "GET", f"{path}/partitions") == (200, {**asked, "deleted": False})
    assert admin(standalone, "PUT", f"{path}/properties", {"tier": "2", "colour": "blue"})[0] == 204
    assert admin(standalone, "DELETE", f"{path}/properties?key=owner")[0] == 204
    assert admin(standalone, "GET", f"{path}/properties") == (200, {"tier": "2", "colour": "blue"})
    assert admin(standalone, "DELETE", f"{path}/partitions")[0] == 204
    assert admin(standalone, "GET", f"{path}/properties")[0] == 404
    # One without partitions has them too, and they go with it.
    assert admin(standalone, "PUT", path, {"owner": "data"})[0] == 204
    assert admin(standalone, "GET", f"{path}/properties") == (200, {"owner": "data"})
    assert admin(standalone, "DELETE", path)[0] == 204
    assert admin(standalone, "PUT", path)[0] == 204
    assert admin(standalone, "GET", f"{path}/properties") == (200, {})


def test_a_pattern_finds_its_topics(standalone, connect, topic):
    client = connect(standalone.url)
    base = topic.rsplit("/", 1)[-1]
    for i in range(3):
        client.create_producer(f"{base}-{i}").send(str(i).encode())
    import re
    consumer = client.subscribe(re.compile(f"persistent://public/default/{base}-.*"), "s", initial_position=EARLIEST)
    assert sorted(m.data() for m in receive_all(consumer, 3)) == [b"0", b"1", b"2"]


def test_tenants_and_namespaces(standalone, connect):
    name = f"t{time.monotonic_ns()}"
    assert admin(standalone, "GET", f"tenants/{name}")[0] == 404
    assert admin(standalone, "PUT", f"tenants/{name}", {"adminRoles": ["me"], "allowedClusters": ["standalone"]})[0] == 204
    assert admin(standalone, "GET", f"tenants/{name}")[1]["adminRoles"] == ["me"]
    assert admin(standalone, "PUT", f"namespaces/{name}/n")[0] == 204
    assert admin(standalone, "PUT", f"namespaces/{name}/n")[0] == 409
    assert admin(standalone, "GET", f"namespaces/{name}") == (200, [f"{name}/n"])
    assert admin(standalone, "POST", f"namespaces/{name}/n/messageTTL", 60)[0] == 204
    assert admin(standalone, "GET", f"namespaces/{name}/n/messageTTL") == (200, 60)
    assert admin(standalone, "POST", f"namespaces/{name}/n/messageTTL", "long")[0] == 400
    assert admin(standalone, "GET", f"namespaces/{name}/n")[1]["message_ttl_in_seconds"] == 60
    connect(standalone.url).create_producer(f"persistent://{name}/n/t").send(b"x")
    assert admin(standalone, "DELETE", f"tenants/{name}")[0] == 409
    assert admin(standalone, "DELETE", f"namespaces/{name}/n")[0] == 409
    assert admin(standalone, "DELETE", f"namespaces/{name}/n?force=true")[0] == 204
    assert admin(standalone, "DELETE", f"tenants/{name}")[0] == 204
    with pytest.raises(Exception):
        connect(standalone.url).create_producer(f"persistent://{name}/n/t")


def test_what_time_outlives_is_skipped(standalone, connect, namespace):
    topic = f"persistent://{namespace}/t"
    path = f"persistent/{namespace}/t"
    client = connect(standalone.url)
    client.subscribe(topic, "s").close()
    producer = client.create_producer(topic)
    producer.send(b"old")
    published = time.monotonic()
    wait_until(lambda: time.monotonic() - published > 1.1, "the first message is older than a second")
    producer.send(b"new")
    assert admin(standalone, "POST", f"{path}/subscription/s/expireMessages/1")[0] == 204
    assert client.subscribe(topic, "s").receive(RECEIVE_MS).data() == b"new"


def test_subscriptions_by_hand(standalone, connect, topic):
    path = path_of(topic)
    client = connect(standalone.url)
    producer = client.create_producer(topic, batching_enabled=False)
    for i in range(10):
        producer.send(str(i).encode(), properties={"n": str(i)})
    assert admin(standalone, "PUT", f"{path}/subscription/made", {"ledgerId": -1, "entryId": -1})[0] == 204
    assert admin(standalone, "PUT", f"{path}/subscription/made")[0] == 409
    status, body = http("GET", f"{standalone.web}/admin/v2/{path}/subscription/made/position/3")
    assert (status, body) == (200, b"2")
    assert admin(standalone, "POST", f"{path}/subscription/made/skip/4")[0] == 204
    consumer = client.subscribe(topic, "made")
    assert consumer.receive(RECEIVE_MS).data() == b"4"
    assert admin(standalone, "DELETE", f"{path}/subscription/made")[0] == 412
    consumer.close()
    assert admin(standalone, "GET", f"{path}/stats")[1]["subscriptions"]["made"]["msgBacklog"] == 6
    assert admin(standalone, "POST", f"{path}/subscription/made/skip_all")[0] == 204
    assert admin(standalone, "GET", f"{path}/stats")[1]["subscriptions"]["made"]["msgBacklog"] == 0
    assert admin(standalone, "POST", f"{path}/subscription/made/resetcursor/0")[0] == 204
    assert admin(standalone, "GET", f"{path}/stats")[1]["subscriptions"]["made"]["msgBacklog"] == 10
    assert admin(standalone, "DELETE", f"{path}/subscription/made")[0] == 204
    assert admin(standalone, "GET", f"{path}/subscriptions") == (200, [])


def test_unload_terminate_delete(standalone, connect, topic):
    path = path_of(topic)
    client = connect(standalone.url)
    consumer = client.subscribe(topic, "s")
    producer = client.create_producer(topic, batching_enabled=False)
    producer.send(b"one")
    # Clients come back by themselves, and nothing is lost or repeated.
    assert consumer.receive(RECEIVE_MS).data() == b"one"
    assert admin(standalone, "PUT", f"{path}/unload")[0] == 204
    producer.send(b"two")
    got = {consumer.receive(RECEIVE_MS).data() for _ in range(2)}  # "one" was not acknowledged
    assert got == {b"one", b"two"}
    assert admin(standalone, "DELETE", path)[0] == 412
    assert admin(standalone, "POST", f"{path}/terminate")[0] == 200
    with pytest.raises(Exception, match="(?i)terminated"):
        producer.send(b"three")

    def closed():
        # The client may be connecting again just now, since a send was refused.
        try:
            consumer.close()
        except pulsar.NotConnected:
            return False
        except pulsar.AlreadyClosed:
            return True
        return True
    wait_until(closed, "the consumer is closed")
    assert admin(standalone, "DELETE", f"{path}?force=true")[0] == 204
    assert admin(standalone, "GET", f"{path}/stats")[0] == 404
    # A new topic of the name begins with nothing.
    fresh = connect(standalone.url).create_reader(topic, pulsar.MessageId.earliest)
    assert not fresh.has_message_available()


def test_a_deleted_topic_s_place_is_not_used_again(workshop, connect):
    """Positions and storage of a deleted topic never come back with another one, restarts included."""
    broker = workshop.standalone()
    for round in range(3):
        client = connect(broker.url)
        producer = client.create_producer("t", batching_enabled=False)
        ids = [producer.send(str(i).encode()) for i in range(5)]
        reader = client.create_reader("t", pulsar.MessageId.earliest)
        got = [reader.read_next(RECEIVE_MS).data() for _ in range(5)]
        assert got == [str(i).encode() for i in range(5)]
        assert not reader.has_message_available()
        client.close()
        assert admin(broker, "DELETE", "persistent/public/default/t?force=true")[0] == 204
        broker.kill()
        broker.start()
        assert ids


def test_chunks_of_a_large_message(standalone, connect, topic):
    client = connect(standalone.url)
    consumer = client.subscribe(topic, "s", initial_position=EARLIEST)
    producer = client.create_producer(topic, chunking_enabled=True, batching_enabled=False)
    large = bytes(range(256)) * 60_000
    producer.send(large)
    producer.send(b"small")
    assert consumer.receive(RECEIVE_MS).data() == large
    assert consumer.receive(RECEIVE_MS).data() == b"small"


class Person(pulsar.schema.Record):
    name = pulsar.schema.String()
    age = pulsar.schema.Integer()


class PersonWithMail(pulsar.schema.Record):
    name = pulsar.schema.String()
    age = pulsar.schema.Integer()
    mail = pulsar.schema.String(default=None, required_default=True)


class PersonOfAnotherAge(pulsar.schema.Record):
    name = pulsar.schema.String()
    age = pulsar.schema.Map(pulsar.schema.String())


@pytest.mark.parametrize("kind", [pulsar.schema.AvroSchema, pulsar.schema.JsonSchema], ids=["avro", "json"])
def test_schemas_are_kept_and_checked(workshop, connect, kind):
    broker = workshop.standalone()
    path = "schemas/public/default/people"
    client = connect(broker.url)
    assert admin(broker, "GET", f"{path}/schema")[0] == 404
    consumer = client.subscribe("people", "s", schema=kind(Person), initial_position=EARLIEST)
    producer = client.create_producer("people", schema=kind(Person))
    producer.send(Person(name="Ada", age=36))
    got = consumer.receive(RECEIVE_MS)
    assert (got.value().name, got.value().age) == ("Ada", 36)
    # The same again is the same version; a field more is the next one (fields may be null by default).
    client.create_producer("people", schema=kind(Person)).close()
    newer = client.create_producer("people", schema=kind(PersonWithMail))
    newer.send(PersonWithMail(name="Grace", age=85, mail="g@example.org"))
    got = consumer.receive(RECEIVE_MS)
    assert got.value().name == "Grace"
    status, versions = admin(broker, "GET", f"{path}/schemas")
    assert status == 200 and [v["version"] for v in versions["getSchemaResponses"]] == [0, 1]
    assert versions["getSchemaResponses"][0]["type"] == ("AVRO" if kind is pulsar.schema.AvroSchema else "JSON")
    with pytest.raises(Exception, match="(?i)incompatible"):
        client.create_producer("people", schema=kind(PersonOfAnotherAge))
    with pytest.raises(Exception, match="(?i)incompatible"):
        client.create_producer("people", schema=pulsar.schema.StringSchema())
    client.close()
    broker.kill()
    broker.start()
    assert admin(broker, "GET", f"{path}/schema")[1]["version"] == 1
    with pytest.raises(Exception, match="(?i)incompatible"):
        connect(broker.url).create_producer("people", schema=kind(PersonOfAnotherAge))


def test_a_text_schema(standalone, connect, topic):
    client = connect(standalone.url)
    producer = client.create_producer(topic, schema=pulsar.schema.StringSchema())
    consumer = client.subscribe(topic, "s", schema=pulsar.schema.StringSchema(), initial_position=EARLIEST)
    producer.send("größer")
    assert consumer.receive(RECEIVE_MS).value() == "größer"


def test_a_source_and_a_sink_on_partitioned_topics(standalone, connect, topic):
    import socket

    from support import free_port, listens
    assert admin(standalone, "PUT", f"{path_of(topic)}/partitions", 3)[0] == 204
    out = standalone.workshop.folder / "partitions.txt"
    sink = standalone.sink("file", topic, {"path": str(out), "format": "raw"}, name="p-sink")
    port = free_port()
    source = standalone.source("netty", topic, {"host": "127.0.0.1", "port": port, "framing": "line"}, name="p-source")
    wait_until(lambda: listens(port) or not source.running(), "the source listens")
    for round in range(6):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"".join(b"%d-%d\n" % (round, i) for i in range(500)))
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)
    lines = lambda: out.read_bytes().split(b"\n")[:-1] if out.exists() else []
    wait_until(lambda: len(lines()) >= 3000, "every line is in the file")
    assert sorted(lines()) == sorted(b"%d-%d" % (r, i) for r in range(6) for i in range(500))
    used = [admin(standalone, "GET", f"{path_of(topic)}-partition-{i}/stats")[1]["msgInCounter"] for i in range(3)]
    assert all(used), used
    for process in (source, sink):
        assert process.stop()[1] == 0, process.output()


def test_a_sink_writes_a_message_that_came_in_chunks_whole(standalone, connect, topic):
    out = standalone.workshop.folder / "chunks.txt"
    sink = standalone.sink("file", topic, {"path": str(out), "format": "raw"}, name="chunks")
    producer = connect(standalone.url).create_producer(topic, chunking_enabled=True, batching_enabled=False)
    large = b"x" * 12_000_000
    producer.send(large)
    producer.send(b"small")
    wait_until(lambda: out.exists() and out.read_bytes() == large + b"\nsmall\n", "both messages are written")
    assert sink.stop()[1] == 0, sink.output()


def test_what_a_sink_cannot_read_goes_to_the_dead_letters(standalone, connect, topic):
    """An encrypted message must not be lost, nor written as if it were one that can be read."""
    folder = standalone.workshop.folder
    private, public = folder / "private.pem", folder / "public.pem"
    subprocess.run(["openssl", "genrsa", "-out", private, "2048"], check=True, capture_output=True)
    subprocess.run(["openssl", "rsa", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    out = folder / "encrypted.txt"
    sink = standalone.sink("file", topic, {"path": str(out), "format": "raw"}, name="encrypted")
    client = connect(standalone.url)
    keys = pulsar.CryptoKeyReader(str(public), str(private))
    client.create_producer(topic, encryption_key="k", crypto_key_reader=keys).send(b"secret")
    client.create_producer(topic).send(b"plain")
    letters = client.subscribe(f"{topic}-encrypted-DLQ", "dead-letters", initial_position=EARLIEST)
    assert "encrypted" in letters.receive(RECEIVE_MS).properties()["HULSE_REASON"]
    wait_until(lambda: out.exists() and out.read_bytes() == b"plain\n", "the readable message is written")
    assert sink.stop()[1] == 0, sink.output()


def test_a_subscription_with_too_much_unacknowledged_waits(standalone, connect, namespace):
    topic = f"persistent://{namespace}/t"
    status, text = admin(standalone, "POST", f"namespaces/{namespace}/maxUnackedMessagesPerSubscription", 20)
    assert status == 204, text
    client = connect(standalone.url)
    consumers = [client.subscribe(topic, "s", pulsar.ConsumerType.Shared) for _ in range(2)]
    producer = client.create_producer(topic, batching_enabled=False)
    for i in range(60):
        producer.send(b"%d" % i)
    held = []

    def take():
        for consumer in consumers:
            try:
                held.append((consumer, consumer.receive(200)))
            except pulsar.Timeout:
                pass
        return held
    wait_until(lambda: len(take()) == 20, "twenty are handed out")
    assert len(take()) == 20, "no more than that"
    stats = admin(standalone, "GET", f"persistent/{namespace}/t/stats")[1]
    assert stats["subscriptions"]["s"]["blockedSubscriptionOnUnackedMsgs"] is True
    seen = set()

    def acknowledge_all():
        for consumer, message in held:
            seen.add(message.data())
            consumer.acknowledge(message)
        held.clear()
        take()
        return len(seen) == 60
    wait_until(acknowledge_all, "all sixty came")


def test_a_backlog_quota_counts_what_was_there_before_a_restart(workshop, connect):
    broker = workshop.standalone()
    quota = {"limitSize": 100_000, "limitTime": -1, "policy": "producer_exception"}
    client = connect(broker.url)
    client.subscribe("q", "s").close()
    producer = client.create_producer("q", batching_enabled=False)
    for _ in range(20):
        producer.send(os.urandom(10_000))
    client.close()
    assert admin(broker, "POST", "namespaces/public/default/backlogQuota", quota)[0] == 204
    broker.kill()
    broker.start()
    client = connect(broker.url, operation_timeout_seconds=3)
    with pytest.raises(pulsar.PulsarException) as refused:
        client.create_producer("q")
    assert "Quota" in str(refused.value)
    stats = admin(broker, "GET", "persistent/public/default/q/stats")[1]
    assert 200_000 <= stats["backlogSize"] <= 220_000
    assert stats["subscriptions"]["s"]["backlogSize"] == stats["backlogSize"] == stats["storageSize"]
    # Half is still too much; what is consumed counts no more.
    consumer = client.subscribe("q", "s")
    for _ in range(20):
        consumer.acknowledge(consumer.receive(RECEIVE_MS))

    def accepted():
        try:
            return client.create_producer("q")
        except pulsar.PulsarException:
            return None
    wait_until(accepted, "producers are let in again")

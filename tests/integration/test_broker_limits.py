"""Limits that a namespace sets for its topics, and what the broker says of topics and entries to those who ask."""
import struct
import time

import pulsar
import pytest

from support import stays_true, wait_until
import wire
from test_broker_features import EARLIEST, RECEIVE_MS, admin, namespace, path_of  # noqa: F401 (a fixture)

SHARED = pulsar.ConsumerType.Shared


def let_in(attempt, what):
    """What attempt() makes, once the broker has noticed that there is room."""
    def one():
        try:
            return attempt()
        except pulsar.PulsarException:
            return None
    return wait_until(one, what)


def test_producers_of_a_topic_are_bounded(standalone, connect, namespace):  # noqa: F811
    topic = f"persistent://{namespace}/t"
    assert admin(standalone, "POST", f"namespaces/{namespace}/maxProducersPerTopic", 2)[0] == 204
    clients = [connect(standalone.url) for _ in range(3)]
    producers = [client.create_producer(topic) for client in clients[:2]]
    with pytest.raises(pulsar.ProducerBusy):
        clients[2].create_producer(topic)
    clients[2].create_producer(topic + "-other").send(b"each topic has its own")
    producers[0].close()
    let_in(lambda: clients[2].create_producer(topic), "a place that was left is given away").send(b"in")
    assert admin(standalone, "DELETE", f"namespaces/{namespace}/maxProducersPerTopic")[0] == 204
    clients[0].create_producer(topic).send(b"no limit any more")


def test_consumers_of_a_topic_are_bounded(standalone, connect, namespace):  # noqa: F811
    topic = f"persistent://{namespace}/t"
    assert admin(standalone, "POST", f"namespaces/{namespace}/maxConsumersPerTopic", 2)[0] == 204
    client = connect(standalone.url)
    first = client.subscribe(topic, "a")
    reader = client.create_reader(topic, pulsar.MessageId.earliest)
    with pytest.raises(pulsar.ConsumerBusy):
        client.subscribe(topic, "b")
    stats = admin(standalone, "GET", f"persistent/{namespace}/t/stats")[1]
    assert "b" not in stats["subscriptions"], "one that is not let in leaves nothing behind"
    reader.close()
    second = let_in(lambda: client.subscribe(topic, "b"), "the reader's place is given away")
    client.create_producer(topic).send(b"x")
    for consumer in (first, second):
        assert consumer.receive(RECEIVE_MS).data() == b"x"


def test_consumers_of_a_subscription_are_bounded(standalone, connect, namespace):  # noqa: F811
    topic = f"persistent://{namespace}/t"
    assert admin(standalone, "POST", f"namespaces/{namespace}/maxConsumersPerSubscription", 1)[0] == 204
    client = connect(standalone.url)
    first = client.subscribe(topic, "a", consumer_type=SHARED)
    with pytest.raises(pulsar.ConsumerBusy):
        client.subscribe(topic, "a", consumer_type=SHARED)
    client.subscribe(topic, "b", consumer_type=SHARED)
    first.close()
    let_in(lambda: client.subscribe(topic, "a", consumer_type=SHARED), "the place that was left is given away")


@pytest.fixture
def hasty(workshop):
    """A broker that looks for unused topics each second."""
    return workshop.standalone(arguments=["--broker-delete-inactive-topics-frequency-seconds", "1"])


def set_inactive(broker, mode, seconds=2, on=True):
    policy = {"inactiveTopicDeleteMode": mode, "maxInactiveDurationSeconds": seconds, "deleteWhileInactive": on}
    assert admin(broker, "POST", "namespaces/public/default/inactiveTopicPolicies", policy)[0] == 204


def topics(broker):
    return {name.rsplit("/", 1)[-1] for name in admin(broker, "GET", "persistent/public/default")[1]}


def test_topics_without_subscriptions_are_deleted_when_nobody_uses_them(hasty, connect):
    client = connect(hasty.url)
    for name in ("left", "subscribed", "read"):
        client.create_producer(name).send(b"x")
    consumer = client.subscribe("subscribed", "s", initial_position=EARLIEST)
    client.close()
    client = connect(hasty.url)
    reader = client.create_reader("read", pulsar.MessageId.earliest)
    producer = client.create_producer("produced")
    del consumer
    set_inactive(hasty, "delete_when_no_subscriptions", on=False)
    stays_true(lambda: "left" in topics(hasty), "it is off", 4)
    set_inactive(hasty, "delete_when_no_subscriptions")
    began = time.monotonic()
    wait_until(lambda: "left" not in topics(hasty), "the unused topic is deleted")
    assert time.monotonic() - began >= 1.9, "not before its time"
    stays_true(lambda: topics(hasty) == {"subscribed", "read", "produced"}, "the others are used", 4)
    producer.send(b"y")
    assert reader.read_next(RECEIVE_MS).data() == b"x"
    # It is gone with what was in it, and stays so; it may come again.
    hasty.kill()
    hasty.start()
    assert "left" not in topics(hasty)
    again = connect(hasty.url).subscribe("left", "s", initial_position=EARLIEST)
    with pytest.raises(pulsar.Timeout):
        again.receive(300)


def test_topics_that_were_consumed_are_deleted_if_the_policy_says_so(hasty, connect):
    set_inactive(hasty, "delete_when_subscriptions_caught_up")
    client = connect(hasty.url)
    for name in ("behind", "consumed", "connected"):
        consumer = client.subscribe(name, "s")
        producer = client.create_producer(name)
        producer.send(b"x")
        if name != "behind":
            consumer.acknowledge(consumer.receive(RECEIVE_MS))
        if name != "connected":
            consumer.close()
        producer.close()
    wait_until(lambda: "consumed" not in topics(hasty), "the consumed topic is deleted")
    stays_true(lambda: topics(hasty) == {"behind", "connected"}, "the others are used", 4)


def test_retention_outlasts_disuse(hasty, connect):
    retention = {"retentionTimeInMinutes": 1, "retentionSizeInMB": -1}
    assert admin(hasty, "POST", "namespaces/public/default/retention", retention)[0] == 204
    set_inactive(hasty, "delete_when_no_subscriptions", seconds=1)
    connect(hasty.url).create_producer("kept").close()
    stays_true(lambda: "kept" in topics(hasty), "it is to be retained for a minute", 5)
    assert admin(hasty, "DELETE", "namespaces/public/default/retention")[0] == 204
    wait_until(lambda: "kept" not in topics(hasty), "it is deleted when nothing keeps it")


def test_a_seek_to_a_time_finds_what_was_published_in_that_millisecond(standalone, connect, topic):
    client = connect(standalone.url)
    consumer = client.subscribe(topic, "s", initial_position=EARLIEST)
    client.create_producer(topic).send(b"x")
    published = consumer.receive(RECEIVE_MS).publish_timestamp()
    consumer.seek(published + 1)
    with pytest.raises(pulsar.Timeout):
        consumer.receive(500)
    consumer.seek(published)
    assert consumer.receive(RECEIVE_MS).data() == b"x"


def test_a_seek_is_answered_before_the_reader_is_back_from_the_last_one(standalone, connect, topic):
    producer = connect(standalone.url).create_producer(topic)
    ids = [producer.send(str(i).encode()) for i in range(5)]

    def fields(message_id):
        return [(1, message_id.ledger_id()), (2, message_id.entry_id())]
    with wire.Connection(standalone.port) as reader:
        subscribe = [(1, topic), (2, "reader-x"), (3, 0), (4, 7), (5, 1), (8, 0), (9, fields(ids[0]))]
        reader.ask(wire.SUBSCRIBE, subscribe, wire.SUCCESS)
        reader.ask(wire.SEEK, [(1, 7), (2, 2), (3, fields(ids[1]))], wire.CLOSE_CONSUMER)
        reader.expect(wire.SUCCESS)
        # As Go's client may: it has not subscribed again yet.
        assert reader.ask(wire.SEEK, [(1, 7), (2, 3), (3, fields(ids[3]))], wire.SUCCESS)[1] == [3]
        last = wire.decode(reader.ask(wire.GET_LAST_MESSAGE_ID, [(1, 7), (2, 4)], wire.LAST_MESSAGE_ID)[1][0])
        assert (last[1][0], last[2][0]) == (ids[4].ledger_id(), ids[4].entry_id())
        reader.ask(wire.SUBSCRIBE, [*subscribe[:4], (5, 5), *subscribe[5:]], wire.SUCCESS)
        reader.send(wire.FLOW, [(1, 7), (2, 10)])
        got = wire.decode(reader.expect(wire.MESSAGE)[0][2][0])
        assert (got[1][0], got[2][0]) == (ids[3].ledger_id(), ids[3].entry_id()), "the second seek holds"
        # One that was never there is still unknown.
        reader.expect(wire.MESSAGE)
        assert b"Consumer not found" in reader.ask(wire.SEEK, [(1, 8), (2, 6), (4, 1)], wire.ERROR)[3]


def test_the_list_of_topics_is_filtered_and_told_once(standalone, connect, namespace):  # noqa: F811
    prefix = f"persistent://{namespace}/"
    assert admin(standalone, "PUT", f"persistent/{namespace}/lines/partitions", 2)[0] == 204
    client = connect(standalone.url)
    for name in ("orders", "orders-eu"):
        client.create_producer(prefix + name).close()
    lines = [f"{prefix}lines-partition-{i}".encode() for i in range(2)]
    orders = [(prefix + name).encode() for name in ("orders", "orders-eu")]
    with wire.Connection(standalone.port) as connection:
        def ask(*more):
            """Topics, and whether they are filtered and changed, and the hash."""
            got = connection.ask(wire.GET_TOPICS, [(1, 9), (2, namespace), *more], wire.TOPICS)
            assert got[1] == [9]
            return got.get(2, []), got[3] == [1], got[5] == [1], got[4][0]
        topics, filtered, changed, seen = ask()
        assert (sorted(topics), filtered, changed) == (lines + orders, False, True)
        assert ask((5, seen)) == ([], False, False, seen), "they are told once"
        topics, filtered, changed, part = ask((4, f"{namespace}/orders.*"), (5, seen))
        assert (topics, filtered, changed) == (orders, True, True)
        assert ask((4, f"persistent://{namespace}/orders.*"), (5, part)) == ([], True, False, part)
        # The whole name, without the partition.
        assert ask((4, f"{namespace}/order"))[:2] == ([], True)
        assert ask((4, f"{namespace}/lines"))[:2] == (lines, True)
        # What cannot be evaluated here is left to the client.
        assert ask((4, f"{namespace}/(orders"))[:2] == (lines + orders, False)
        assert ask((4, f"{namespace}/" + "(a|b)" * 10))[:2] == (lines + orders, False)
        assert ask((3, 1)) == ([], False, True, b"00000000"), "there are no topics that are not persistent"
        client.create_producer(prefix + "orders-us").close()
        topics, filtered, changed, now = ask((4, f"{namespace}/orders.*"), (5, part))
        assert (len(topics), filtered, changed) == (3, True, True) and now != part


def entries(broker, topic, count, flags, name):
    """The broker's notes (None where an entry has none) of a reader's first entries, from the earliest on, and the rest."""
    got = []
    with wire.Connection(broker.port, flags) as reader:
        reader.ask(wire.SUBSCRIBE, [(1, topic), (2, name), (3, 0), (4, 1), (5, 1), (8, 0), (13, 1)], wire.SUCCESS)
        reader.send(wire.FLOW, [(1, 1), (2, 1000)])
        for _ in range(count):
            entry = reader.expect(wire.MESSAGE)[1]
            notes = None
            if entry.startswith(b"\x0e\x02"):
                size = struct.unpack(">I", entry[2:6])[0]
                notes, entry = wire.decode(entry[6:6 + size]), entry[6 + size:]
            assert entry.startswith(b"\x0e\x01"), "the producer's own bytes begin with the checksum"
            got.append((notes, entry))
    return got


def test_entries_are_noted_for_clients_that_know_it(workshop, connect, topic):
    package = "org.apache.pulsar.common.intercept."
    both = f"{package}AppendIndexMetadataInterceptor,{package}AppendBrokerTimestampMetadataInterceptor"
    noting = ["--broker-entry-metadata-interceptors", both]
    broker = workshop.standalone()
    client = connect(broker.url)
    client.create_producer(topic, batching_enabled=False).send(b"before")
    client.close()
    broker.arguments = noting
    broker.kill()
    broker.start()
    client = connect(broker.url)
    began = int(time.time() * 1000)
    producer = client.create_producer(topic, batching_enabled=False)
    for i in range(2):
        producer.send(str(i).encode())
    batch = client.create_producer(topic, batching_enabled=True, batching_max_publish_delay_ms=10000)
    for i in range(3):
        batch.send_async(str(i).encode(), lambda *_: None)
    batch.flush()
    client.close()
    told = entries(broker, topic, 4, [2], "knows")
    assert told[0][0] is None, "what was there before has no notes"
    assert [notes[2] for notes, _ in told[1:]] == [[0], [1], [4]], "a batch has the index of its last message"
    for notes, _ in told[1:]:
        assert began <= notes[1][0] <= time.time() * 1000
    plain = entries(broker, topic, 4, [], "does not")
    assert all(notes is None for notes, _ in plain)
    assert [entry for _, entry in plain] == [entry for _, entry in told]
    # The count goes on after a kill and after an unload, also when everything is on disk only.
    broker.kill()
    broker.start()
    client = connect(broker.url)
    client.create_producer(topic, batching_enabled=False).send(b"5")
    assert admin(broker, "PUT", f"{path_of(topic)}/unload")[0] == 204
    client.create_producer(topic, batching_enabled=False).send(b"6")
    assert [notes[2] for notes, _ in entries(broker, topic, 6, [2], "again")[4:]] == [[5], [6]]
    # A client library reads the entries either way, and a time is looked for by the broker's clock.
    consumer = client.subscribe(topic, "s", initial_position=EARLIEST)
    assert [consumer.receive(RECEIVE_MS).data() for _ in range(8)] == \
        [b"before", b"0", b"1", b"0", b"1", b"2", b"5", b"6"]
    consumer.seek(began)
    assert consumer.receive(RECEIVE_MS).data() == b"0"


def test_an_unknown_interceptor_is_refused(workshop):
    refused = workshop.run("standalone", "--data-dir", workshop.folder / "x", "--broker-entry-metadata-interceptors", "x.Y")
    assert refused.returncode != 0 and "AppendIndexMetadataInterceptor" in refused.stderr

"""Compacted topics: what stays, under which id, for whom, over restarts and a kill."""
import pulsar
import pytest

from support import http, wait_until


def admin(broker, method, topic, what):
    return http(method, f"{broker.web}/admin/v2/persistent/public/default/{topic.rsplit(chr(47), 1)[-1]}/{what}")


def compact(broker, topic):
    assert admin(broker, "PUT", topic, "compaction")[0] == 204
    wait_until(lambda: b'"SUCCESS"' in admin(broker, "GET", topic, "compaction")[1], "the topic is compacted")


def publish(client, topic, pairs, **settings):
    producer = client.create_producer(topic, **settings)
    ids = []
    for key, value in pairs:
        producer.send_async(value, lambda result, id, into=ids: into.append(id), partition_key=key)
    producer.flush()
    producer.close()
    return ids


def read(client, topic, compacted=True):
    reader = client.create_reader(topic, pulsar.MessageId.earliest, is_read_compacted=compacted)
    out = []
    while reader.has_message_available():
        message = reader.read_next(20_000)
        out.append((message.partition_key(), message.data()))
    reader.close()
    return out


@pytest.mark.parametrize("batching", [False, True])
def test_the_newest_of_each_key_stays(workshop, connect, topic, batching):
    broker = workshop.standalone()
    client = connect(broker.url)
    settings = {"batching_enabled": batching, "batching_max_publish_delay_ms": 50,
                "compression_type": pulsar.CompressionType.ZSTD}
    pairs = [(f"k{i % 7}", b"%d" % i) for i in range(200)]
    publish(client, topic, pairs, **settings)
    publish(client, topic, [("k3", b""), ("k5", b"last")], **settings)
    compact(broker, topic)
    expected = sorted([(f"k{i % 7}", b"%d" % i) for i in range(193, 200) if i % 7 not in (3, 5)] + [("k5", b"last")])
    assert sorted(read(client, topic)) == expected
    assert len(read(client, topic, compacted=False)) == 202
    # What comes later is there for both.
    publish(client, topic, [("k0", b"new")], **settings)
    assert read(client, topic)[-1] == ("k0", b"new")
    broker.kill()
    broker.start()
    client = connect(broker.url)
    assert sorted(read(client, topic)) == sorted(expected + [("k0", b"new")])
    compact(broker, topic)
    expected = sorted([pair for pair in expected if pair[0] != "k0"] + [("k0", b"new")])
    assert sorted(read(client, topic)) == expected
    client.close()
    assert admin(broker, "PUT", topic, "unload")[0] == 204
    assert sorted(read(connect(broker.url), topic)) == expected


def test_what_was_consumed_is_still_read_compacted(workshop, connect, topic):
    broker = workshop.standalone()
    client = connect(broker.url)
    consumer = client.subscribe(topic, "s")
    publish(client, topic, [(f"k{i % 3}", b"%d" % i) for i in range(30)])
    last = [consumer.receive(20_000) for _ in range(30)][-1]
    compact(broker, topic)
    consumer.acknowledge_cumulative(last)
    client.close()
    # A load opens a new ledger; the old one is not needed by the subscription any more.
    assert admin(broker, "PUT", topic, "unload")[0] == 204
    client = connect(broker.url)
    assert sorted(read(client, topic)) == [("k0", b"27"), ("k1", b"28"), ("k2", b"29")]
    publish(client, topic, [("k1", b"")])
    compact(broker, topic)
    assert sorted(read(client, topic)) == [("k0", b"27"), ("k2", b"29")]


def test_read_compacted_needs_one_active_consumer(standalone, client, topic):
    with pytest.raises(pulsar.PulsarException):
        client.subscribe(topic, "s", pulsar.ConsumerType.Shared, is_read_compacted=True)


def test_a_namespace_s_threshold_starts_it(workshop, connect, topic):
    broker = workshop.standalone()
    client = connect(broker.url)
    status, text = http("PUT", f"{broker.web}/admin/v2/namespaces/public/default/compactionThreshold", b"1000",
                        {"Content-Type": "application/json"})
    assert status == 204, text
    publish(client, topic, [("k", b"x" * 500) for _ in range(10)])
    wait_until(lambda: b'"SUCCESS"' in admin(broker, "GET", topic, "compaction")[1], "it was compacted by itself")
    assert len(read(client, topic)) == 1


def test_a_chunked_message_stays_whole(workshop, connect, topic):
    broker = workshop.standalone()
    client = connect(broker.url)
    producer = client.create_producer(topic, batching_enabled=False, chunking_enabled=True,
                                      compression_type=pulsar.CompressionType.NONE)
    large = [bytes([i]) * 12_000_000 for i in range(2)]
    for value in large:
        producer.send(value, partition_key="big")
    producer.send(b"small", partition_key="small")
    compact(broker, topic)
    assert read(client, topic) == [("big", large[1]), ("small", b"small")]

"""The PyPI client's features that tests/integration does not touch, and messages between it and ours."""
import collections
import subprocess
import time

import pulsar
import pytest
from pulsar import (BatchingType, CompressionType, ConsumerDeadLetterPolicy, ConsumerKeySharedPolicy, ConsumerType,
                    InitialPosition, KeySharedMode, MessageId)

from support import HULSE, wait_until

RECEIVE_MS = 30000
# Long enough for a message that should not come to show itself.
NOTHING_MS = 700
EARLIEST = InitialPosition.Earliest


def nothing_more(consumer):
    with pytest.raises(pulsar.Timeout):
        message = consumer.receive(timeout_millis=NOTHING_MS)
        pytest.fail(f"unexpected message {message.data()!r}")


def send(client, topic, texts, **settings):
    producer = client.create_producer(topic, **settings)
    ids = [producer.send(text.encode()) for text in texts]
    producer.close()
    return ids


def received(consumer, count):
    out = []
    for _ in range(count):
        message = consumer.receive(RECEIVE_MS)
        consumer.acknowledge(message)
        out.append(message.data().decode())
    return out


# ---- batching

def test_key_based_batches_hold_one_key_each(client, topic):
    consumer = client.subscribe(topic, "s", ConsumerType.KeyShared)
    producer = client.create_producer(topic, batching_enabled=True, batching_type=BatchingType.KeyBased,
                                      batching_max_publish_delay_ms=200)
    for i in range(60):
        producer.send_async(str(i).encode(), None, partition_key=f"k{i % 3}")
    producer.flush()
    keys_of_entry, by_key = collections.defaultdict(set), collections.defaultdict(list)
    for _ in range(60):
        message = consumer.receive(RECEIVE_MS)
        consumer.acknowledge(message)
        entry = message.message_id().ledger_id(), message.message_id().entry_id()
        keys_of_entry[entry].add(message.partition_key())
        by_key[message.partition_key()].append(int(message.data()))
    assert all(len(keys) == 1 for keys in keys_of_entry.values())
    assert len(keys_of_entry) < 60, "messages of one key share entries"
    assert by_key == {f"k{k}": list(range(k, 60, 3)) for k in range(3)}


@pytest.mark.parametrize("limit", [{"batching_max_messages": 10}, {"batching_max_allowed_size_in_bytes": 1000}],
                         ids=["count", "bytes"])
def test_batches_end_at_their_limits(client, topic, limit):
    consumer = client.subscribe(topic, "s")
    producer = client.create_producer(topic, batching_enabled=True, batching_max_publish_delay_ms=1000, **limit)
    for i in range(100):
        producer.send_async(b"%03d" % i + b"x" * 97, None)
    producer.flush()
    sizes = collections.Counter()
    for i in range(100):
        message = consumer.receive(RECEIVE_MS)
        assert message.data().startswith(b"%03d" % i)
        consumer.acknowledge(message)
        sizes[message.message_id().entry_id()] += 1
    assert max(sizes.values()) <= 10 and len(sizes) >= 10


# ---- consumers that come and go

def test_key_shared_keeps_order_while_consumers_come_and_go(client, topic):
    def subscribe(name):
        return client.subscribe(topic, "s", ConsumerType.KeyShared, consumer_name=name, initial_position=EARLIEST)

    producer = client.create_producer(topic)
    seen = collections.defaultdict(list)

    def drain(consumer, limit):
        for _ in range(limit):
            try:
                message = consumer.receive(timeout_millis=100)
            except pulsar.Timeout:
                return
            seen[message.partition_key()].append(int(message.data()))
            consumer.acknowledge(message)

    consumers, number = [subscribe("c0")], 0
    for round_ in range(6):
        for _ in range(50):
            producer.send(str(number).encode(), partition_key=f"k{number % 10}")
            number += 1
        for consumer in consumers:
            drain(consumer, 20)
        if round_ in (0, 1, 3):
            consumers.append(subscribe(f"c{len(consumers) + round_ * 10}"))
        elif round_ in (2, 4):
            consumers.pop(0).close()
    wait_until(lambda: [drain(consumer, 100) for consumer in consumers]
               and sum(len(set(numbers)) for numbers in seen.values()) == number, "every message was seen")
    for key, numbers in seen.items():
        # What a leaver had received and not acknowledged may come twice, never out of order.
        first = list(dict.fromkeys(numbers))
        assert first == sorted(first), f"{key}: {numbers}"


def test_sticky_ranges_get_their_keys_only(client, topic):
    halves = []
    for low, high in ((0, 32767), (32768, 65535)):
        policy = ConsumerKeySharedPolicy(KeySharedMode.Sticky, sticky_ranges=[(low, high)])
        halves.append(client.subscribe(topic, "s", ConsumerType.KeyShared, key_shared_policy=policy))
    producer = client.create_producer(topic)
    for i in range(100):
        producer.send(str(i).encode(), partition_key=f"k{i % 20}")
    keys = [set(), set()]
    total = 0
    for index, consumer in enumerate(halves):
        while True:
            try:
                message = consumer.receive(timeout_millis=NOTHING_MS)
            except pulsar.Timeout:
                break
            consumer.acknowledge(message)
            keys[index].add(message.partition_key())
            total += 1
    assert total == 100 and keys[0] and keys[1] and not keys[0] & keys[1]


def test_what_no_sticky_range_covers_waits_and_ranges_cannot_overlap(client, topic):
    def subscribe(low, high):
        policy = ConsumerKeySharedPolicy(KeySharedMode.Sticky, sticky_ranges=[(low, high)])
        return client.subscribe(topic, "s", ConsumerType.KeyShared, key_shared_policy=policy)
    consumer = subscribe(0, 32767)
    with pytest.raises(pulsar.PulsarException):
        subscribe(30000, 40000)
    with pytest.raises(pulsar.PulsarException):
        client.subscribe(topic, "s", ConsumerType.KeyShared)
    producer = client.create_producer(topic)
    for i in range(20):
        producer.send(str(i).encode(), partition_key=f"k{i}")
    first = set()
    with pytest.raises(pulsar.Timeout):
        while True:
            message = consumer.receive(timeout_millis=NOTHING_MS)
            consumer.acknowledge(message)
            first.add(message.data())
    assert 0 < len(first) < 20
    rest = set(text.encode() for text in received(subscribe(32768, 65535), 20 - len(first)))
    assert first | rest == {str(i).encode() for i in range(20)}


# ---- positions

def test_seek_to_a_message_and_to_a_time(client, topic):
    consumer = client.subscribe(topic, "s")
    producer = client.create_producer(topic)
    ids = [producer.send(str(i).encode()) for i in range(5)]
    middle = int(time.time() * 1000)
    wait_until(lambda: int(time.time() * 1000) > middle + 5, "the clock moves on")
    ids += [producer.send(str(i).encode()) for i in range(5, 10)]
    assert received(consumer, 10) == [str(i) for i in range(10)]
    consumer.seek(middle + 1)
    assert received(consumer, 5) == ["5", "6", "7", "8", "9"]
    consumer.seek(MessageId.earliest)
    assert received(consumer, 10)[0] == "0"
    consumer.seek(ids[6])
    # This client passes over the message it was told, as documented for it.
    assert received(consumer, 3) == ["7", "8", "9"]
    nothing_more(consumer)


def test_readers_begin_where_they_are_told(client, topic):
    keep = client.subscribe(topic, "keep")
    ids = send(client, topic, [str(i) for i in range(6)])

    def read(start, **settings):
        reader = client.create_reader(topic, start, **settings)
        out = []
        while reader.has_message_available():
            out.append(reader.read_next(RECEIVE_MS).data().decode())
        reader.close()
        return out
    assert read(MessageId.earliest) == [str(i) for i in range(6)]
    assert read(ids[2]) == ["3", "4", "5"]
    assert read(ids[2], start_message_id_inclusive=True) == ["2", "3", "4", "5"]
    assert read(MessageId.latest) == []
    keep.close()


def test_a_reader_within_a_batch(client, topic):
    keep = client.subscribe(topic, "keep")
    producer = client.create_producer(topic, batching_enabled=True, batching_max_publish_delay_ms=500)
    ids = []
    for i in range(5):
        producer.send_async(str(i).encode(), lambda _, message_id: ids.append(message_id))
    producer.flush()
    wait_until(lambda: len(ids) == 5, "all receipts are here")
    reader = client.create_reader(topic, ids[2])
    assert [reader.read_next(RECEIVE_MS).data() for _ in range(2)] == [b"3", b"4"]
    assert not reader.has_message_available()
    keep.close()


# ---- failures

def test_a_dead_letter_policy_moves_what_fails_too_often(client, topic):
    policy = ConsumerDeadLetterPolicy(max_redeliver_count=2, initial_subscription_name="dead-letters")
    consumer = client.subscribe(topic, "s", ConsumerType.Shared, negative_ack_redelivery_delay_ms=100,
                                dead_letter_policy=policy)
    sent = send(client, topic, ["good", "bad"])
    tries = 0
    letters = client.subscribe(f"{topic}-s-DLQ", "dead-letters", initial_position=EARLIEST)

    def step():
        nonlocal tries
        try:
            message = consumer.receive(timeout_millis=200)
        except pulsar.Timeout:
            return tries >= 3
        if message.data() == b"good":
            consumer.acknowledge(message)
        else:
            tries += 1
            assert message.redelivery_count() == tries - 1
            consumer.negative_acknowledge(message)
        return False
    wait_until(step, "the message has failed three times")
    letter = letters.receive(RECEIVE_MS)
    assert letter.data() == b"bad"
    assert letter.properties()["REAL_TOPIC"] == topic
    origin = letter.properties()["ORIGIN_MESSAGE_ID"]
    assert f"{sent[1].ledger_id()}" in origin and f"{sent[1].entry_id()}" in origin
    nothing_more(consumer)


def test_an_acknowledgement_timeout_brings_a_message_again(client, topic):
    consumer = client.subscribe(topic, "s", ConsumerType.Shared, unacked_messages_timeout_ms=10000)
    send(client, topic, ["a"])
    assert consumer.receive(RECEIVE_MS).redelivery_count() == 0
    again = consumer.receive(RECEIVE_MS)
    assert again.data() == b"a" and again.redelivery_count() >= 1
    consumer.acknowledge(again)


# ---- topics

def test_a_subscription_on_several_topics(client, topic):
    names = [f"{topic}-{i}" for i in range(3)]
    consumer = client.subscribe(names, "s")
    for name in names:
        send(client, name, [name])
    assert sorted(received(consumer, 3)) == names


def test_a_table_view_follows_the_newest_value_of_each_key(client, topic):
    keep = client.subscribe(topic, "keep")
    producer = client.create_producer(topic)
    for key, value in (("a", b"1"), ("b", b"2"), ("a", b"3")):
        producer.send(value, partition_key=key)
    view = client.create_table_view(topic)
    assert (view.get("a"), view.get("b"), len(view)) == (b"3", b"2", 2)
    producer.send(b"4", partition_key="b")
    wait_until(lambda: view.get("b") == b"4", "the view follows")
    view.close()
    keep.close()


# ---- between this client and ours

def ours(*words):
    done = subprocess.run([HULSE, "client", *[str(word) for word in words]], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("codec", ["NONE", "LZ4", "ZLIB", "ZSTD", "SNAPPY"])
def test_it_reads_what_ours_writes(client, standalone, topic, codec):
    consumer = client.subscribe(topic, "s")
    ours("produce", topic, "--url", standalone.url, "-m", "größer,plain", "-n", 20, "-k", "key", "-p", "a=b,c=d",
         "--compression", codec)
    batched = False
    for i in range(40):
        message = consumer.receive(RECEIVE_MS)
        assert message.data().decode() == ("größer", "plain")[i % 2]
        assert message.partition_key() == "key"
        assert message.properties() == {"a": "b", "c": "d"}
        batched = batched or message.message_id().batch_index() > 0
        consumer.acknowledge(message)
    assert batched


def test_it_reads_our_chunks(client, standalone, topic, tmp_path):
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * (12 << 12))
    consumer = client.subscribe(topic, "s")
    ours("produce", topic, "--url", standalone.url, "-f", large, "--compression", "NONE")
    assert consumer.receive(RECEIVE_MS).data() == large.read_bytes()


@pytest.mark.parametrize("batched", [True, False], ids=["batched", "unbatched"])
@pytest.mark.parametrize("codec", [CompressionType.NONE, CompressionType.LZ4, CompressionType.ZLib,
                                   CompressionType.ZSTD, CompressionType.SNAPPY], ids=lambda codec: codec.name)
def test_ours_reads_what_it_writes(client, standalone, topic, codec, batched):
    producer = client.create_producer(topic, compression_type=codec, batching_enabled=batched)
    client.subscribe(topic, "s").close()
    for i in range(20):
        producer.send_async(f"größer {i}".encode(), None, partition_key=f"k{i}", properties={"n": str(i)})
    producer.flush()
    said = ours("consume", topic, "--url", standalone.url, "-s", "s", "-n", 20)
    contents = [line for line in said.splitlines() if "content:" in line]
    assert len(contents) == 20
    for i, line in enumerate(contents):
        assert f"key:[k{i}]" in line and f"n={i}" in line and line.endswith(f"content:größer {i}")


def test_ours_reads_its_chunks_and_batches_by_key(client, standalone, topic):
    client.subscribe(topic, "s").close()
    large = "x" * (6 << 20)
    client.create_producer(topic, chunking_enabled=True).send(large.encode())
    producer = client.create_producer(topic, batching_enabled=True, batching_type=BatchingType.KeyBased)
    for i in range(10):
        producer.send_async(str(i).encode(), None, partition_key=f"k{i % 2}")
    producer.flush()
    said = ours("consume", topic, "--url", standalone.url, "-s", "s", "-n", 11)
    contents = [line.partition("content:")[2] for line in said.splitlines() if "content:" in line]
    assert contents[0] == large
    assert sorted(contents[1:]) == [str(i) for i in range(10)]

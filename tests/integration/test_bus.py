"""The embedded broker as the pulsar-client package of PyPI sees it."""
import threading

import pulsar
import pytest
from pulsar import CompressionType, ConsumerType, InitialPosition, MessageId

from support import wait_until

RECEIVE_MS = 30000
# Long enough for a message that should not come to show itself.
NOTHING_MS = 700


def receive(consumer, count, ack=True):
    messages = []
    for _ in range(count):
        message = consumer.receive(timeout_millis=RECEIVE_MS)
        messages.append(message)
        if ack:
            consumer.acknowledge(message)
    return messages


def contents(messages):
    return [message.data().decode() for message in messages]


def nothing_more(consumer):
    with pytest.raises(pulsar.Timeout):
        message = consumer.receive(timeout_millis=NOTHING_MS)
        pytest.fail(f"unexpected message {message.data()!r}")


def produce(client, topic, texts, **settings):
    producer = client.create_producer(topic, **settings)
    for text in texts:
        producer.send_async(text.encode(), None)
    producer.flush()
    producer.close()


def order(message_id):
    return message_id.ledger_id(), message_id.entry_id(), message_id.batch_index()


CODECS = [CompressionType.NONE, CompressionType.LZ4, CompressionType.ZLib, CompressionType.ZSTD, CompressionType.SNAPPY]


@pytest.mark.parametrize("batched", [True, False], ids=["batched", "unbatched"])
@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_what_was_sent_arrives_as_it_was(client, topic, codec, batched):
    count = 500
    consumer = client.subscribe(topic, "s")
    producer = client.create_producer(topic, compression_type=codec, batching_enabled=batched,
                                      batching_max_publish_delay_ms=5, block_if_queue_full=True)
    failures = []
    for i in range(count):
        producer.send_async(b"value %d " % i + bytes([i % 256]) * (i * 7 % 300),
                            lambda result, _: failures.append(result) if result != pulsar.Result.Ok else None,
                            properties={"n": str(i), "language": "größer"}, partition_key=f"key-{i % 5}",
                            event_timestamp=1700000000000 + i)
    producer.flush()
    assert failures == []

    messages = receive(consumer, count)
    for i, message in enumerate(messages):
        assert message.data() == b"value %d " % i + bytes([i % 256]) * (i * 7 % 300)
        assert message.properties() == {"n": str(i), "language": "größer"}
        assert message.partition_key() == f"key-{i % 5}"
        assert message.event_timestamp() == 1700000000000 + i
        assert message.publish_timestamp() > 1700000000000
        assert message.topic_name() == topic
        assert message.redelivery_count() == 0
    ids = [order(message.message_id()) for message in messages]
    assert ids == sorted(set(ids))
    assert any(index >= 0 for _, _, index in ids) == batched
    nothing_more(consumer)


def test_receipts_come_in_the_order_of_sending(client, topic):
    producer = client.create_producer(topic, batching_enabled=False, block_if_queue_full=True)
    done, receipts = threading.Event(), []
    count = 2000

    def take(result, message_id):
        receipts.append((result, order(message_id)))
        if len(receipts) == count:
            done.set()
    for i in range(count):
        producer.send_async(b"%d" % i, take)
    assert done.wait(60)
    assert {result for result, _ in receipts} == {pulsar.Result.Ok}
    ids = [message_id for _, message_id in receipts]
    assert ids == sorted(set(ids))

    reader = client.create_reader(topic, MessageId.earliest)
    read = [reader.read_next(RECEIVE_MS) for _ in range(count)]
    assert [order(m.message_id()) for m in read] == ids
    assert contents(read) == [str(i) for i in range(count)]


def test_an_empty_and_a_large_message(client, topic):
    consumer = client.subscribe(topic, "s")
    producer = client.create_producer(topic, batching_enabled=False)
    large = bytes(range(256)) * (4 * 1024 * 4)  # 4 MiB
    producer.send(b"")
    producer.send(large)
    with pytest.raises(pulsar.MessageTooBig):
        producer.send(b"x" * (6 * 1024 * 1024))
    producer.send(b"after")
    assert [m.data() for m in receive(consumer, 3)] == [b"", large, b"after"]


def test_an_exclusive_subscription_refuses_a_second_consumer(client, connect, standalone, topic):
    first = client.subscribe(topic, "s", ConsumerType.Exclusive)
    other = connect(standalone.url)
    with pytest.raises(pulsar.ConsumerBusy):
        other.subscribe(topic, "s", ConsumerType.Exclusive)
    with pytest.raises(pulsar.ConsumerBusy):  # another type cannot join either
        other.subscribe(topic, "s", ConsumerType.Shared)
    other.subscribe(topic, "another", ConsumerType.Exclusive)
    first.close()
    second = other.subscribe(topic, "s", ConsumerType.Exclusive)
    produce(client, topic, ["a"])
    assert contents(receive(second, 1)) == ["a"]


def test_consumers_of_a_shared_subscription_share(client, topic):
    consumers = [client.subscribe(topic, "s", ConsumerType.Shared, receiver_queue_size=10) for _ in range(2)]
    produce(client, topic, [str(i) for i in range(200)], batching_enabled=False, block_if_queue_full=True)
    seen = [[], []]

    def drain():
        for consumer, taken in zip(consumers, seen):
            try:
                message = consumer.receive(timeout_millis=50)
            except pulsar.Timeout:
                continue
            taken.append(int(message.data()))
            consumer.acknowledge(message)
        return len(seen[0]) + len(seen[1]) >= 200
    wait_until(drain, "both together have 200 messages")
    assert sorted(seen[0] + seen[1]) == list(range(200))
    assert min(len(taken) for taken in seen) >= 20
    for consumer in consumers:
        nothing_more(consumer)


def test_a_shared_subscription_gives_a_leaver_s_messages_to_the_other(client, topic):
    first = client.subscribe(topic, "s", ConsumerType.Shared)
    produce(client, topic, [str(i) for i in range(20)], batching_enabled=False)
    taken = receive(first, 20, ack=False)
    for message in taken[:5]:
        first.acknowledge(message)
    second = client.subscribe(topic, "s", ConsumerType.Shared)
    first.close()
    assert sorted(map(int, contents(receive(second, 15)))) == list(range(5, 20))
    nothing_more(second)


def test_failover_hands_over_what_was_not_acknowledged(client, connect, standalone, topic):
    active = client.subscribe(topic, "s", ConsumerType.Failover, consumer_name="a")
    standby = connect(standalone.url).subscribe(topic, "s", ConsumerType.Failover, consumer_name="b")
    produce(client, topic, [str(i) for i in range(30)], batching_enabled=False)
    try:
        taken = [active.receive(timeout_millis=3000)]
    except pulsar.Timeout:  # whose turn it is, is the broker's choice
        active, standby = standby, active
        taken = [active.receive(timeout_millis=RECEIVE_MS)]
    taken += receive(active, 29, ack=False)
    nothing_more(standby)
    active.acknowledge_cumulative(taken[9])
    active.close()
    assert contents(receive(standby, 20)) == [str(i) for i in range(10, 30)]
    nothing_more(standby)


def test_earliest_and_latest(client, topic):
    produce(client, topic, ["old"])
    latest = client.subscribe(topic, "latest", initial_position=InitialPosition.Latest)
    earliest = client.subscribe(topic, "earliest", initial_position=InitialPosition.Earliest)
    produce(client, topic, ["new"])
    assert contents(receive(earliest, 2)) == ["old", "new"]
    assert contents(receive(latest, 1)) == ["new"]
    nothing_more(latest)


def test_single_acknowledgements_leave_holes(client, topic):
    produce(client, topic, [str(i) for i in range(20)], batching_enabled=False)
    consumer = client.subscribe(topic, "s", initial_position=InitialPosition.Earliest)
    for message in receive(consumer, 20, ack=False):
        if int(message.data()) % 2 == 0:
            consumer.acknowledge(message)
    consumer.close()
    consumer = client.subscribe(topic, "s")
    assert contents(receive(consumer, 10)) == [str(i) for i in range(1, 20, 2)]
    nothing_more(consumer)
    consumer.close()
    nothing_more(client.subscribe(topic, "s"))


def test_single_acknowledgements_inside_a_batch(client, topic):
    produce(client, topic, [str(i) for i in range(10)], batching_enabled=True, batching_max_publish_delay_ms=1000)
    subscribe = dict(initial_position=InitialPosition.Earliest, batch_index_ack_enabled=True)
    consumer = client.subscribe(topic, "s", **subscribe)
    messages = receive(consumer, 10, ack=False)
    assert len({m.message_id().entry_id() for m in messages}) == 1
    for message in messages:
        if int(message.data()) in (0, 3, 9):
            consumer.acknowledge(message)
    consumer.close()
    consumer = client.subscribe(topic, "s", **subscribe)
    assert contents(receive(consumer, 7)) == ["1", "2", "4", "5", "6", "7", "8"]
    nothing_more(consumer)


def test_cumulative_acknowledgement(client, topic):
    produce(client, topic, [str(i) for i in range(20)], batching_enabled=False)
    consumer = client.subscribe(topic, "s", initial_position=InitialPosition.Earliest)
    messages = receive(consumer, 20, ack=False)
    consumer.acknowledge_cumulative(messages[14])
    consumer.close()
    consumer = client.subscribe(topic, "s")
    assert contents(receive(consumer, 5)) == [str(i) for i in range(15, 20)]
    nothing_more(consumer)


def test_a_negative_acknowledgement_brings_the_message_again(client, topic):
    consumer = client.subscribe(topic, "s", ConsumerType.Shared, negative_ack_redelivery_delay_ms=100)
    produce(client, topic, ["a", "b", "c"], batching_enabled=False)
    for message in receive(consumer, 3, ack=False):
        if message.data() == b"b":
            consumer.negative_acknowledge(message)
        else:
            consumer.acknowledge(message)
    again = receive(consumer, 1)[0]
    assert (again.data(), again.redelivery_count()) == (b"b", 1)
    nothing_more(consumer)


def test_what_is_not_acknowledged_comes_again_after_a_reconnect(client, connect, standalone, topic):
    first = connect(standalone.url)
    consumer = first.subscribe(topic, "s")
    produce(client, topic, [str(i) for i in range(10)], batching_enabled=False)
    receive(consumer, 10, ack=False)
    first.close()
    consumer = client.subscribe(topic, "s")
    assert contents(receive(consumer, 10)) == [str(i) for i in range(10)]


def test_unsubscribing_forgets_the_position(client, topic):
    consumer = client.subscribe(topic, "s", initial_position=InitialPosition.Earliest)
    produce(client, topic, ["a"])
    receive(consumer, 1)
    consumer.unsubscribe()
    consumer = client.subscribe(topic, "s", initial_position=InitialPosition.Earliest)
    assert contents(receive(consumer, 1)) == ["a"]


def test_a_reader(client, topic):
    produce(client, topic, [str(i) for i in range(10)], batching_enabled=False)
    reader = client.create_reader(topic, MessageId.earliest)
    read = []
    while reader.has_message_available():
        read.append(reader.read_next(RECEIVE_MS))
    assert contents(read) == [str(i) for i in range(10)]
    after_third = client.create_reader(topic, read[2].message_id())
    assert after_third.read_next(RECEIVE_MS).data() == b"3"
    inclusive = client.create_reader(topic, read[2].message_id(), start_message_id_inclusive=True)
    assert inclusive.read_next(RECEIVE_MS).data() == b"2"
    at_the_end = client.create_reader(topic, MessageId.latest)
    assert not at_the_end.has_message_available()
    produce(client, topic, ["new"])
    assert at_the_end.read_next(RECEIVE_MS).data() == b"new"


def test_a_plain_topic_has_no_partitions(client, topic):
    assert client.get_topic_partitions(topic) == [topic]


def test_a_producer_name_is_taken_once(client, connect, standalone, topic):
    first = client.create_producer(topic, producer_name="mine")
    with pytest.raises(pulsar.ProducerBusy):
        connect(standalone.url).create_producer(topic, producer_name="mine")
    names = {client.create_producer(topic).producer_name() for _ in range(3)}
    assert len(names) == 3 and "" not in names and "mine" not in names
    first.close()
    client.create_producer(topic, producer_name="mine").send(b"x")


def test_a_namespace_that_does_not_exist_is_refused(client):
    with pytest.raises(pulsar.PulsarException):
        client.create_producer("persistent://nobody/nowhere/t")


def test_many_topics_at_once(client, topic):
    topics = [f"{topic}-{i}" for i in range(50)]
    consumers = [client.subscribe(t, "s") for t in topics]
    producers = [client.create_producer(t) for t in topics]
    for i, producer in enumerate(producers):
        producer.send_async(b"%d" % i, None)
    for producer in producers:
        producer.flush()
    assert [contents(receive(c, 1)) for c in consumers] == [[str(i)] for i in range(50)]

"""What a broker owes after kill -9 and after SIGTERM: everything with a receipt is there, nothing acknowledged comes again."""
import os
import subprocess
import threading
import time

import pulsar
import pytest
from pulsar import InitialPosition

from support import http_status, wait_until
from test_bus import contents, nothing_more, produce, receive, RECEIVE_MS


class Sender(threading.Thread):
    """Sends numbered messages until told to stop, and notes which of them got a receipt."""

    def __init__(self, client, topic, **settings):
        super().__init__(daemon=True)
        self.producer = client.create_producer(topic, block_if_queue_full=True, send_timeout_millis=0, **settings)
        self.stored, self.sent, self.stopping = set(), 0, False

    def run(self):
        while not self.stopping:
            number = self.sent
            self.producer.send_async(b"%d" % number, lambda result, _, n=number: self.noted(result, n))
            self.sent += 1

    def noted(self, result, number):
        if result == pulsar.Result.Ok:
            self.stored.add(number)

    def finish(self):
        self.stopping = True
        self.join(60)


def test_everything_with_a_receipt_survives_kill_9(workshop, connect, topic):
    broker = workshop.standalone()
    client = connect(broker.url)
    client.subscribe(topic, "s")  # what keeps the messages
    sender = Sender(client, topic)
    sender.start()
    for _ in range(3):
        goal = len(sender.stored) + 2000
        wait_until(lambda: len(sender.stored) >= goal, "2,000 more receipts came")
        broker.kill()
        broker.start()
    goal = len(sender.stored) + 500
    wait_until(lambda: len(sender.stored) >= goal, "the client sends on after the last restart")
    sender.finish()
    sender.producer.flush()
    assert len(sender.stored) == sender.sent
    client.close()

    consumer = connect(broker.url).subscribe(topic, "s")
    found, distinct = [], set()
    while len(distinct) < sender.sent:
        number = int(consumer.receive(timeout_millis=RECEIVE_MS).data())
        found.append(number)
        distinct.add(number)
    assert distinct == set(range(sender.sent))
    # A batch whose receipt was lost is sent again, so some may stand twice; first appearances keep the order.
    firsts = list(dict.fromkeys(found))
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_nothing_acknowledged_comes_again(workshop, connect, topic, end):
    broker = workshop.standalone()
    client = connect(broker.url)
    consumer = client.subscribe(topic, "s")
    cumulative = client.subscribe(topic, "c")
    produce(client, topic, [str(i) for i in range(100)], batching_enabled=False)
    for message in receive(consumer, 100, ack=False):
        if int(message.data()) % 3:
            consumer.acknowledge(message)
    cumulative.acknowledge_cumulative(receive(cumulative, 100, ack=False)[59])
    consumer.close()
    cumulative.close()
    # The client sends acknowledgements without asking for a receipt. All writes of the broker share one log in
    # order, so the receipt of a later message says that they are on disk.
    produce(client, topic, ["later"])
    client.close()
    getattr(broker, end)()
    broker.start()

    client = connect(broker.url)
    consumer, cumulative = client.subscribe(topic, "s"), client.subscribe(topic, "c")
    assert contents(receive(consumer, 35)) == [str(i) for i in range(0, 100, 3)] + ["later"]
    assert contents(receive(cumulative, 41)) == [str(i) for i in range(60, 100)] + ["later"]
    nothing_more(consumer)
    nothing_more(cumulative)


def test_positions_hold_over_many_restarts(workshop, connect, topic):
    broker = workshop.standalone()
    for life in range(5):
        client = connect(broker.url)
        consumer = client.subscribe(topic, "s", initial_position=InitialPosition.Earliest)
        produce(client, topic, [f"{life}-{i}" for i in range(50)])
        assert contents(receive(consumer, 50)) == [f"{life}-{i}" for i in range(50)]
        nothing_more(consumer)
        consumer.close()
        produce(client, topic + "-other", ["later"])
        client.close()
        broker.kill() if life % 2 else broker.stop()
        broker.start()
    reader = connect(broker.url).create_reader(topic, pulsar.MessageId.earliest)
    read = []
    while reader.has_message_available():
        read.append(reader.read_next(RECEIVE_MS).message_id())
    places = [(i.ledger_id(), i.entry_id(), i.batch_index()) for i in read]
    assert places == sorted(set(places))


def test_a_client_lives_through_restarts(workshop, connect, topic):
    broker = workshop.standalone()
    client = connect(broker.url)
    consumer = client.subscribe(topic, "s")
    producer = client.create_producer(topic, send_timeout_millis=0)
    seen = set()

    def expect(text):
        # An acknowledgement may die with the connection it was on; then its message comes once more before.
        while (got := contents(receive(consumer, 1))[0]) != text:
            assert got in seen, f"{got} before {text}"
        seen.add(text)

    for life, end in enumerate([broker.stop, broker.kill, broker.stop]):
        producer.send(b"%d before" % life)
        expect(f"{life} before")
        end()
        receipt = threading.Event()
        producer.send_async(b"%d while it is down" % life, lambda result, _: receipt.set())
        broker.start()
        assert receipt.wait(60)
        expect(f"{life} while it is down")


def test_sigterm_ends_in_time_under_load_and_loses_nothing(workshop, connect, topic):
    broker = workshop.standalone()
    client = connect(broker.url)
    client.subscribe(topic, "s")
    sender = Sender(client, topic)
    sender.start()
    wait_until(lambda: len(sender.stored) >= 1000, "1,000 receipts came")
    began = time.monotonic()
    broker.stop()
    assert time.monotonic() - began < 10
    broker.start()
    goal = len(sender.stored) + 100
    wait_until(lambda: len(sender.stored) >= goal, "the client sends on")
    sender.finish()
    sender.producer.flush()
    client.close()
    consumer = connect(broker.url).subscribe(topic, "s")
    distinct = set()
    while len(distinct) < sender.sent:
        distinct.add(int(consumer.receive(timeout_millis=RECEIVE_MS).data()))
    assert distinct == set(range(sender.sent))


def test_a_topic_nobody_subscribed_to_is_there_after_a_restart(workshop, connect):
    broker = workshop.standalone()
    producer = connect(broker.url).create_producer("early", batching_enabled=False)
    for round in range(3):
        for i in range(10):
            producer.send(f"{round}-{i}".encode())
        if round % 2:
            broker.process.stop()
        else:
            broker.kill()
        broker.start()
    consumer = connect(broker.url).subscribe("early", "late", initial_position=pulsar.InitialPosition.Earliest)
    got = [consumer.receive(30000).data().decode() for _ in range(30)]
    assert got == [f"{round}-{i}" for round in range(3) for i in range(10)]


def test_a_full_disk_refuses_and_recovers(workshop, connect):
    folder = workshop.folder / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    try:
        (folder / "filler").write_bytes(b"x" * 24_000_000)
        broker = workshop.standalone(data=folder / "data")
        client = connect(broker.url)
        client.subscribe("full", "s").close()
        producer = client.create_producer("full", batching_enabled=False, send_timeout_millis=0,
                                          compression_type=pulsar.CompressionType.NONE)
        stored = set()

        def noted(result, i):
            if result == pulsar.Result.Ok:
                stored.add(i)
        for i in range(60):
            producer.send_async(b"%d " % i + os.urandom(500_000), lambda result, _, i=i: noted(result, i))
        wait_until(lambda: http_status(broker.web + "/ready") == 503, "the broker says that it cannot store")
        assert 0 < len(stored) < 60
        client.shutdown()  # it would send the others as soon as there is room
        # What is stored is read all the same.
        reader = connect(broker.url).create_reader("full", pulsar.MessageId.earliest)
        assert int(reader.read_next(30000).data().split()[0]) == 0
        # A consumer takes the backlog, and is believed: what it acknowledged makes room, and nobody has to help.
        consumer = connect(broker.url).subscribe("full", "s")
        taken = set()
        for _ in stored:
            message = consumer.receive(30000)
            taken.add(int(message.data().split()[0]))
            consumer.acknowledge(message)
        assert taken == stored
        consumer.close()  # else it comes back after the kill, before whoever subscribes then
        wait_until(lambda: http_status(broker.web + "/ready") == 200, "there is room again")
        again = connect(broker.url).create_producer("full", batching_enabled=False)
        again.send(b"999 there is room again")
        broker.kill()
        broker.start()
        consumer = connect(broker.url).subscribe("full", "s")
        assert int(consumer.receive(30000).data().split()[0]) == 999, "what was acknowledged on the full disk stays so"
        with pytest.raises(pulsar.Timeout):
            consumer.receive(1000)
        consumer.close()
        # And full again, with a restart in it, and room that somebody else makes.
        client = connect(broker.url)
        producer = client.create_producer("full", batching_enabled=False, send_timeout_millis=0,
                                          compression_type=pulsar.CompressionType.NONE)
        stored.clear()
        for i in range(60):
            producer.send_async(b"%d " % i + os.urandom(500_000), lambda result, _, i=i: noted(result, i))
        wait_until(lambda: http_status(broker.web + "/ready") == 503, "the broker says that it cannot store")
        client.shutdown()
        broker.kill()
        broker.start(ready=False)
        wait_until(lambda: http_status(broker.web + "/ready") in (200, 503), "it starts on the full disk")
        (folder / "filler").unlink()
        wait_until(lambda: http_status(broker.web + "/ready") == 200, "there is room again")
        connect(broker.url).create_producer("full", batching_enabled=False).send(b"1000 there is room again")
        acknowledged = stored | {999, 1000}
        consumer = connect(broker.url).subscribe("full", "s")
        seen = set()
        while not acknowledged <= seen:
            seen.add(int(consumer.receive(30000).data().split()[0]))
        assert broker.process.output().count("No space left") < 20, "one line tells it, not thousands"
        broker.kill()
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)

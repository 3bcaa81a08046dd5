"""Sources and sinks end to end: sockets in, files out, through a durable topic."""
import base64
import json
import random
import socket
import struct
import threading

import pulsar
import pytest

from fake_elasticsearch import Fake
from support import SECONDS, free_port, http, listens, wait_until

RECEIVE_MS = 30000


def netty(standalone, topic, type="tcp", **config):
    """A running netty source and its port."""
    port = free_port(socket.SOCK_DGRAM if type == "udp" else socket.SOCK_STREAM)
    source = standalone.source("netty", topic, {"type": type, "host": "127.0.0.1", "port": port, **config},
                               name=f"netty-{port}")
    if type == "udp":
        source.wait_for(rf"udp://127\.0\.0\.1:{port}")
    else:
        wait_until(lambda: listens(port) or not source.running(), "the source listens")
    assert source.running(), source.output()
    return source, port


def file_sink(standalone, topic, path, name="file", **config):
    return standalone.sink("file", topic, {"path": str(path), **config}, name=name)


def lines_of(path):
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def send(port, data):
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        # The source closes when it has read everything, so nothing is lost with our end.
        while connection.recv(4096):
            pass


def payloads(client, topic, count):
    consumer = client.subscribe(topic, "payloads", initial_position=pulsar.InitialPosition.Earliest)
    got = [consumer.receive(timeout_millis=RECEIVE_MS) for _ in range(count)]
    with pytest.raises(pulsar.Timeout):
        pytest.fail(f"one more: {consumer.receive(timeout_millis=500).data()[:100]!r}")
    consumer.close()
    return [message.data() for message in got]


def test_lines_from_a_socket_to_a_file(standalone, topic):
    out = standalone.workshop.folder / "lines.txt"
    sink = file_sink(standalone, topic, out, format="raw")
    source, port = netty(standalone, topic, framing="line")
    dice = random.Random(7)
    lines = [b"%d " % i + bytes(dice.choices(b"abcdefghijklmnop{}\"\\ ", k=dice.randrange(300))) for i in range(20000)]
    data = b"\n".join(lines) + b"\n"
    # In pieces that end anywhere, so that lines lie across reads.
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        at = 0
        while at < len(data):
            size = dice.choice([1, 7, 1000, 65536, 200000])
            connection.sendall(data[at:at + size])
            at += size
    wait_until(lambda: len(lines_of(out)) >= len(lines), "every line is in the file")
    assert lines_of(out) == lines
    for process in (source, sink):
        took, status = process.stop()
        assert (status, took < 10) == (0, True), process.output()
    assert lines_of(out) == lines


def test_a_stopped_sink_goes_on_where_it_was(standalone, topic):
    out = standalone.workshop.folder / "again.txt"
    _, port = netty(standalone, topic, framing="line")
    for round in range(3):
        sink = file_sink(standalone, topic, out, format="raw")
        send(port, b"".join(b"%d-%d\n" % (round, i) for i in range(1000)))
        wait_until(lambda: len(lines_of(out)) >= 1000 * (round + 1), "the round's lines are in the file")
        sink.stop()
    assert lines_of(out) == [b"%d-%d" % (round, i) for round in range(3) for i in range(1000)]


def test_a_killed_sink_loses_nothing(standalone, topic):
    out = standalone.workshop.folder / "killed.txt"
    _, port = netty(standalone, topic, framing="line")
    count = 30000
    sink = file_sink(standalone, topic, out, format="raw")
    sender = threading.Thread(target=send, args=(port, b"".join(b"%d\n" % i for i in range(count))))
    sender.start()
    for round in range(1, 4):
        wait_until(lambda: len(lines_of(out)) >= 5000 * round or not sender.is_alive(), "some more lines are written")
        sink.kill()
        sink = file_sink(standalone, topic, out, format="raw")
    sender.join(SECONDS)
    numbers = lambda: {int(line) for line in lines_of(out) if line.isdigit()}
    wait_until(lambda: len(numbers()) >= count, "every number is in the file")
    assert set(range(count)) <= numbers()


def test_several_senders_keep_their_own_order(standalone, client, topic):
    _, port = netty(standalone, topic, framing="line", numberOfThreads="2")
    senders = [threading.Thread(target=send, args=(port, b"".join(b"%d %d\n" % (s, i) for i in range(2000))))
               for s in range(5)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(SECONDS)
    got = [tuple(map(int, p.split())) for p in payloads(client, topic, 10000)]
    for s in range(5):
        assert [i for sender, i in got if sender == s] == list(range(2000))


def test_line_framing_of_odd_input(standalone, client, topic):
    _, port = netty(standalone, topic, framing="line")
    send(port, b"unix\nwindows\r\n\nlast without an end")
    # An empty line is a message without bytes; what stands before a regular end of the connection is a line.
    assert payloads(client, topic, 4) == [b"unix", b"windows", b"", b"last without an end"]


def test_length_framing(standalone, client, topic):
    _, port = netty(standalone, topic, framing="length")
    bodies = [b"a", b"two\nlines", bytes(range(256)) * 1000, b"z"]
    send(port, b"".join(struct.pack(">I", len(b)) + b for b in bodies))
    assert payloads(client, topic, len(bodies)) == bodies


def test_no_framing_keeps_every_byte(standalone, client, topic):
    _, port = netty(standalone, topic)  # none is Pulsar's behaviour and the default
    data = bytes(range(256)) * 2000
    send(port, data)
    consumer = client.subscribe(topic, "s", initial_position=pulsar.InitialPosition.Earliest)
    got = b""
    while len(got) < len(data):
        got += consumer.receive(timeout_millis=RECEIVE_MS).data()
    assert got == data


def test_udp_datagrams(standalone, client, topic):
    _, port = netty(standalone, topic, type="udp")
    bodies = [b"small", bytes(range(256)) * 8, b"x" * 5000, b"end"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for body in bodies:
            sender.sendto(body, ("127.0.0.1", port))
    assert payloads(client, topic, len(bodies)) == bodies


def test_http_requests(standalone, client, topic):
    source, port = netty(standalone, topic, type="http")
    url = f"http://127.0.0.1:{port}"
    bodies = [b"hello", b"\x01\xff\xfe\x02", b"x" * 1_000_000, '{"name": "größer"}'.encode()]
    for i, body in enumerate(bodies):
        status, answer = http("POST" if i % 2 else "PUT", f"{url}/any/path?q={i}", body)
        assert status == 200, answer
        # 200 says stored: a reader that starts now finds it.
        reader = client.create_reader(topic, pulsar.MessageId.earliest)
        found = []
        while reader.has_message_available():
            found.append(reader.read_next(RECEIVE_MS).data())
        assert found == bodies[:i + 1]
        reader.close()
    assert http("GET", url + "/")[0] == 405
    assert http("POST", url + "/", b"y" * (5 * 1024 * 1024 + 1))[0] == 413
    assert payloads(client, topic, len(bodies)) == bodies
    assert source.running()


def test_http_keeps_connections_and_takes_many_at_once(standalone, client, topic):
    import http.client
    _, port = netty(standalone, topic, type="http", numberOfThreads=2)
    failures = []

    def post(sender):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        for i in range(50):
            connection.request("POST", "/", b"%d %d" % (sender, i))
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                failures.append(answer.status)
        connection.close()
    senders = [threading.Thread(target=post, args=(s,)) for s in range(20)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(SECONDS)
    assert failures == []
    got = [tuple(map(int, p.split())) for p in payloads(client, topic, 1000)]
    for s in range(20):
        assert [i for sender, i in got if sender == s] == list(range(50))


def test_http_answers_503_when_it_cannot_store(workshop, topic):
    broker = workshop.standalone()
    source, port = netty(broker, topic, type="http")
    assert http("POST", f"http://127.0.0.1:{port}/", b"a")[0] == 200
    broker.kill()
    status, _ = http("POST", f"http://127.0.0.1:{port}/", b"b")
    assert status == 503
    broker.start()
    wait_until(lambda: http("POST", f"http://127.0.0.1:{port}/", b"c")[0] == 200, "it stores again")


@pytest.mark.parametrize("type", ["tcp", "udp", "http"])
def test_a_taken_port_ends_the_source(standalone, topic, type):
    kind = socket.SOCK_DGRAM if type == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if type != "udp":
            other.listen()
        port = other.getsockname()[1]
        source = standalone.source("netty", topic, {"type": type, "host": "127.0.0.1", "port": port})
        assert source.wait() == 1
        assert str(port) in source.output()


def test_a_source_and_a_sink_live_through_a_broker_restart(workshop, topic):
    broker = workshop.standalone()
    out = workshop.folder / "out.txt"
    sink = file_sink(broker, topic, out, format="raw")
    source, port = netty(broker, topic, framing="line")
    send(port, b"one\n")
    wait_until(lambda: lines_of(out) == [b"one"], "the first line is in the file")
    broker.kill()
    broker.start()
    send(port, b"two\n")
    # At least once: what was in flight when the broker died may come again.
    wait_until(lambda: lines_of(out)[-1:] == [b"two"], "the second line is in the file")
    assert set(lines_of(out)) == {b"one", b"two"}
    assert source.running() and sink.running()
    assert sink.stop()[1] == 0 and source.stop()[1] == 0


def test_a_generator_and_its_printing_sink(standalone, topic):
    sink = standalone.sink("data-generator", topic, {}, name="print")
    source = standalone.source("data-generator", topic, {"sleepBetweenMessages": 5}, name="generate")
    wait_until(lambda: sink.output().count("\n") > 20, "the sink prints what the generator makes")
    assert source.stop()[1] == 0 and sink.stop()[1] == 0


def test_a_blocked_sink_lets_nothing_pile_up_in_memory(workshop, topic):
    """The target takes a request and does not answer. 500 MB come in: they are on disk, and no process grows."""
    broker = workshop.standalone()
    released = threading.Event()
    target = Fake(lambda document, _: (released.wait(), None)[1] if document is None else 201)
    try:
        broker.sink("elastic_search", topic, {"elasticSearchUrl": target.url, "indexName": "blocked", "bulkEnabled": True},
                    name="blocked").wait_for("running")
        sink = workshop.processes[-1]
        source, port = netty(broker, topic, framing="line")
        dice = random.Random(7)
        # Many different lines, so that compression does not make the load small.
        lines = [b'{"text": "%s"}\n' % base64.b64encode(dice.randbytes(735)) for _ in range(1000)]
        block, sent = b"".join(lines), 0
        peak = {"broker": 0, "source": 0, "sink": 0}
        with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
            while sent < 500_000_000:
                connection.sendall(block)
                sent += len(block)
                for name, process in (("broker", broker.process), ("source", source), ("sink", sink)):
                    assert process.running(), process.output()
                    peak[name] = max(peak[name], process.memory())
        assert target.requests > 0 and target.stored == []
        assert max(peak.values()) < 200e6, {name: f"{size / 1e6:.0f} MB" for name, size in peak.items()}
        released.set()
        wait_until(lambda: len(target.stored) >= 10000, "the sink goes on once the target answers")
        # Several requests are on their way at once, so only the content is certain, not which came first.
        assert {d["text"] for d in target.stored[:10000]} <= {json.loads(line)["text"] for line in lines}
    finally:
        released.set()
        target.shutdown()
        target.server_close()


def test_a_stalled_broker_stalls_the_sender(workshop, topic):
    """Back-pressure of the bus itself: while the broker stands still, the source takes only what its queues hold."""
    import signal
    broker = workshop.standalone()
    source, port = netty(broker, topic, framing="line")
    send(port, b"first\n")
    broker.process.popen.send_signal(signal.SIGSTOP)
    try:
        block = (b"x" * 999 + b"\n") * 1000
        taken = 0
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.settimeout(3)  # no progress for that long: it holds us back
            with pytest.raises(TimeoutError):
                while taken < 500 * 1024 * 1024:
                    taken += connection.send(block)
            assert taken < 200e6
            assert source.memory() < 250e6, f"{source.memory() / 1e6:.0f} MB after {taken / 1e6:.0f} MB"
    finally:
        broker.process.popen.send_signal(signal.SIGCONT)
    assert source.running()

"""`hulse standalone`: how it starts, what it refuses, how it ends."""
import os
import pathlib
import re
import signal
import socket

import pulsar
import pytest

from support import HULSE, free_port, http, http_status, listens, stays_true, wait_until

# One sentence for the user: no trace, no second line of explanation, and what to do.
MAX_LINES = 2


def refused(workshop, *arguments, **settings):
    """The words of a `hulse standalone` that must end with status 1 at once."""
    done = workshop.run("standalone", *arguments, seconds=20, **settings)
    text = (done.stdout + done.stderr).strip()
    assert done.returncode == 1, f"status {done.returncode}: {text}"
    assert 0 < len(text.splitlines()) <= MAX_LINES, text
    assert "terminate called" not in text and "exception" not in text.lower(), text
    return text


def ports():
    return ["--broker-port", free_port(), "--web-port", free_port()]


def test_the_ready_line_and_ready_url(workshop):
    broker = workshop.standalone()
    line = broker.process.wait_for(r"^.*\bready\b.*$")[0]
    assert broker.url in line
    assert broker.web in line
    assert re.search(r"\b[\d.]+ ?m?s\b", line), f"no time in: {line}"
    status, _ = http("GET", broker.web + "/ready")
    assert status == 200
    assert broker.stop() < 10
    assert http_status(broker.web + "/ready") is None


def test_ready_means_that_clients_can_produce(workshop, connect, topic):
    broker = workshop.standalone()
    connect(broker.url).create_producer(topic).send(b"at once")


def test_it_listens_on_loopback_only(workshop):
    broker = workshop.standalone()
    listening = {line.split()[1] for table in ("tcp", "tcp6")
                 for line in pathlib.Path(f"/proc/{broker.process.popen.pid}/net/{table}").read_text().splitlines()[1:]
                 if line.split()[3] == "0A"}
    for port in (broker.port, broker.web_port):
        assert [a for a in listening if a.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]


def test_a_config_file_sets_what_flags_do(workshop):
    broker_port, web_port = free_port(), free_port()
    config = workshop.file("hulse.yaml", f"dataDir: {workshop.folder}/elsewhere\nbrokerServicePort: {broker_port}\nwebServicePort: {web_port}\n")
    process = workshop.start("standalone", "--config", config)
    wait_until(lambda: not process.running() or http_status(f"http://127.0.0.1:{web_port}/ready") == 200,
               "it is ready on the file's port")
    assert process.running(), process.output()
    assert listens(broker_port)
    assert (workshop.folder / "elsewhere").is_dir()
    process.stop()


def test_an_unknown_key_of_the_config_file_is_refused(workshop):
    config = workshop.file("hulse.yaml", "brokerServicePrt: 1234\nwebServicePort: many\n")
    text = "\n".join([(done := workshop.run("standalone", "--config", config)).stdout, done.stderr])
    assert done.returncode == 1
    assert "brokerServicePrt" in text and "brokerServicePort" in text and "webServicePort" in text


@pytest.mark.parametrize("which", ["--broker-port", "--web-port"])
def test_a_taken_port(workshop, which):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        arguments = dict(zip(["--broker-port", "--web-port"], [free_port(), free_port()])) | {which: taken}
        text = refused(workshop, "--data-dir", "data", *[w for pair in arguments.items() for w in pair])
        assert str(taken) in text and which in text


def test_a_data_folder_that_cannot_be_written(workshop):
    regular = workshop.file("regular", "")
    assert str(regular) in refused(workshop, "--data-dir", regular / "below", *ports())
    assert str(regular) in refused(workshop, "--data-dir", regular, *ports())
    assert "/proc" in refused(workshop, "--data-dir", "/proc/hulse", *ports())


def test_a_foreign_data_folder_is_left_alone(workshop):
    foreign = workshop.folder / "photos"
    foreign.mkdir()
    (foreign / "holiday.jpg").write_bytes(b"not ours")
    assert str(foreign) in refused(workshop, "--data-dir", foreign, *ports())
    assert [p.name for p in foreign.iterdir()] == ["holiday.jpg"]


def test_a_second_process_on_the_same_folder(workshop, connect, topic):
    broker = workshop.standalone()
    text = refused(workshop, "--data-dir", broker.data, *ports())
    assert str(broker.data) in text
    connect(broker.url).create_producer(topic).send(b"the first one is unharmed")


def test_a_killed_process_leaves_no_lock(workshop):
    broker = workshop.standalone()
    broker.kill()
    broker.start()
    broker.stop()


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start_ends_it_cleanly(workshop, which):
    data = workshop.folder / "data"
    for _ in range(5):
        process = workshop.start("standalone", "--data-dir", data, *ports())
        wait_until(lambda: data.exists() or not process.running(), "it has begun")
        process.popen.send_signal(which)
        # Before its handler stands, a signal ends a program as the system does it; never by another signal.
        assert process.wait(10) in (0, -which)
    workshop.standalone(data=data).stop()


def test_sigterm_ends_it_with_open_connections(workshop, connect, topic):
    broker = workshop.standalone()
    client = connect(broker.url)
    consumers = [client.subscribe(topic, "s"), client.create_reader(topic, pulsar.MessageId.earliest)]
    client.create_producer(topic).send(b"x")
    assert consumers[1].read_next(20000).data() == b"x"
    idle = [socket.create_connection(("127.0.0.1", port)) for port in (broker.port, broker.web_port) * 5]
    assert broker.stop() < 10
    for connection in idle:
        connection.close()


def test_a_broker_port_survives_garbage(workshop, connect, topic):
    broker = workshop.standalone()
    for garbage in [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"\x00\x00\x00\x04\x00\x00\x00\x00",
                    b"\x7f\xff\xff\xff\x00\x00\x00\x08", b"\x00\x00\x00\x05\x00\x00\x00\x01\x08", os.urandom(4096)]:
        with socket.create_connection(("127.0.0.1", broker.port), timeout=10) as connection:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass  # until the broker closes
    connect(broker.url).create_producer(topic).send(b"still here")


def test_the_web_port_survives_garbage(workshop):
    broker = workshop.standalone()
    for garbage in [b"\x00" * 100, b"GET\r\n\r\n", b"POST /ready HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                    b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5000 + b"\r\n"]:
        with socket.create_connection(("127.0.0.1", broker.web_port), timeout=10) as connection:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            try:
                while connection.recv(4096):
                    pass
            except ConnectionResetError:
                continue  # it closed with our bytes unread
    assert http("GET", broker.web + "/ready")[0] == 200
    assert http("GET", broker.web + "/no/such/page")[0] == 404


def test_idle_memory_and_processor_time(workshop):
    """Figures are the benchmark's business; a start that eats hundreds of megabytes or spins is a bug."""
    broker = workshop.standalone()
    assert broker.process.memory() < 120e6
    ticks = lambda: sum(map(int, pathlib.Path(f"/proc/{broker.process.popen.pid}/stat").read_text()
                            .rsplit(")", 1)[1].split()[11:13]))
    before = ticks()
    stays_true(broker.process.running, "it runs", 2)
    assert (ticks() - before) / os.sysconf("SC_CLK_TCK") < 0.5


def test_help_and_version():
    import subprocess
    for words in (["--help"], ["-h"], ["standalone", "--help"], ["sinks", "--help"], ["sinks", "localrun", "--help"],
                  ["sources", "localrun", "--help"], ["connectors", "--help"], ["connectors", "show", "--help"],
                  ["client", "--help"], ["client", "produce", "--help"], ["client", "consume", "--help"]):
        done = subprocess.run([HULSE, *words], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, (words, done.stderr)
        assert len(done.stdout) > 100 and done.stderr == "", words
    done = subprocess.run([HULSE, "--version"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0
    assert re.search(r"\b\d+\.\d+\.\d+\b", done.stdout)


@pytest.mark.parametrize("words", [["standalone", "--no-such-flag"], ["nonsense"], ["standalone", "--broker-port", "many"],
                                   ["standalone", "--broker-port", "70000"], ["sinks", "localrun", "--parallelism", "0"],
                                   []])
def test_wrong_words_are_refused_with_status_1(workshop, words):
    done = workshop.run(*words, seconds=20)
    assert done.returncode == 1
    text = done.stderr or done.stdout
    for word in words[-1:]:
        assert word.lstrip("-") in text

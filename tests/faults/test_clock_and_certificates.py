"""Clocks that jump and certificates that end (rows 21 and 27 of docs/faults.md). Tokens that end are looked at in
tests/integration/test_security.py."""
import datetime
import json
import pathlib
import shutil
import subprocess

import pulsar
import pytest

from checker import Taker, Writer, count, progress, read_all
from support import HULSE, free_port, http, stays_true, wait_until

LIBRARIES = ("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1")


class Clock:
    """The wall clock of the programs that are given its environment; the monotonic one is left alone, as a clock that
    is set leaves it."""

    def __init__(self, folder):
        library = next((l for l in LIBRARIES if pathlib.Path(l).exists()), None)
        if library is None:
            pytest.skip("libfaketime is not installed: apt-get install faketime")
        self.file = folder / "clock"
        self.set("+0")
        self.environment = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(self.file), "FAKETIME_NO_CACHE": "1",
                            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}

    def set(self, offset):
        new = self.file.with_suffix(".new")
        new.write_text(offset + "\n")
        new.replace(self.file)


def test_the_clock_jumps(workshop, connect, topic, capsys, monkeypatch):
    clock = Clock(workshop.folder)
    start = workshop.start
    # Only the broker lives by that clock.
    monkeypatch.setattr(workshop, "start", lambda *arguments, **settings: start(
        *arguments, **(settings if settings.get("program", HULSE) != HULSE else {**settings, "env": clock.environment})))
    broker = workshop.standalone()
    connect(broker.url).subscribe(topic, "keep").close()
    writer = Writer(workshop, broker, topic, "clock")
    taker = Taker(workshop, broker, topic)
    consumer = connect(broker.url).subscribe(topic + "-unacked", "s", unacked_messages_timeout_ms=60000)
    producer = connect(broker.url).create_producer(topic + "-unacked")
    producer.send(b"once")
    assert consumer.receive(30000).data() == b"once"
    for offset in ("+1h", "-1h", "+3650d", "+0"):
        clock.set(offset)
        progress([writer], 200)
        if offset == "+3650d":
            far = connect(broker.url).subscribe(topic, "far")
            stats = json.loads(http("GET", f"{broker.web}/admin/v2/{topic.replace('://', '/')}/stats")[1])
            since = stats["subscriptions"]["far"]["consumers"][0]["connectedSince"]
            assert int(since[:4]) >= datetime.date.today().year + 9, "the broker lives by the clock of this test"
            far.close()
    # No storm: what is not acknowledged yet comes when its time has really passed, and connections stay.
    with pytest.raises(pulsar.Timeout):
        consumer.receive(1000)
    assert "closing the connection" not in broker.process.output()
    taker.new_life()
    broker.kill()
    taker.new_life()
    clock.set("-1h")  # and a start in what is then the past of what is stored
    broker.start()
    progress([writer], 200)
    writer.finish()
    settled, again = taker.finish()
    assert settled and not again
    result = count(read_all(connect(broker.url), topic), [writer])
    with capsys.disabled():
        print(f"\n  {result}; {settled} acknowledged for good", end="", flush=True)
    result.expect(duplicates=500)


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def issue(folder, name, end):
    """A certificate for localhost that holds until `end`, signed by the folder's authority."""
    openssl(folder, "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-addext",
            "subjectAltName=DNS:localhost", "-keyout", f"{name}.key", "-out", f"{name}.csr")
    (folder / "ca.conf").write_text("[ca]\ndefault_ca=own\n[own]\ndatabase=index\nserial=serial\nnew_certs_dir=.\n"
                                    "default_md=sha256\npolicy=any\ncopy_extensions=copy\nunique_subject=no\n"
                                    "[any]\ncommonName=supplied\n")
    (folder / "index").touch()
    if not (folder / "serial").exists():
        (folder / "serial").write_text("01\n")
    openssl(folder, "ca", "-batch", "-config", "ca.conf", "-cert", "ca.pem", "-keyfile", "ca.key", "-in", f"{name}.csr",
            "-out", f"{name}.pem", "-startdate", "20200101000000Z", "-enddate", end.strftime("%Y%m%d%H%M%SZ"), "-notext")


def test_a_certificate_ends_and_is_replaced_while_the_broker_runs(workshop, connect, topic):
    folder = workshop.folder
    openssl(folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=authority", "-keyout",
            "ca.key", "-out", "ca.pem")
    now = datetime.datetime.now(datetime.timezone.utc)
    issue(folder, "expired", now - datetime.timedelta(days=1))
    issue(folder, "valid", now + datetime.timedelta(days=1))

    def install(name):
        for end in ("key", "pem"):
            shutil.copy(folder / f"{name}.{end}", folder / f"new.{end}")
            (folder / f"new.{end}").replace(folder / f"server.{end}")
    install("valid")
    port = free_port()
    config = workshop.file("tls.yaml", json.dumps({
        "advertisedAddress": "localhost", "brokerServicePortTls": port,
        "tlsCertificateFilePath": str(folder / "server.pem"), "tlsKeyFilePath": str(folder / "server.key")}))
    broker = workshop.standalone(arguments=["--config", str(config)])

    def secure(**settings):
        return connect(f"pulsar+ssl://localhost:{port}", tls_trust_certs_file_path=str(folder / "ca.pem"),
                       tls_validate_hostname=True, **{"operation_timeout_seconds": 2, **settings})
    early = secure()
    early.subscribe(topic, "keep").close()
    producer = early.create_producer(topic)
    producer.send(b"before")

    def refused():
        try:
            secure().create_producer(topic)
        except pulsar.PulsarException:
            return True
    install("expired")
    wait_until(refused, "a new client refuses the certificate that has ended")
    producer.send(b"while")  # who is connected stays
    install("valid")
    wait_until(lambda: not refused(), "the new certificate is taken without a restart")
    stays_true(lambda: not refused(), "and stays", 1)
    producer.send(b"after")
    reader = connect(broker.url).create_reader(topic, pulsar.MessageId.earliest)
    assert [reader.read_next(30000).data() for _ in range(3)] == [b"before", b"while", b"after"]

"""The data directory: damage is named and costs only what it hit; checking, looking, mending."""
import json
import os

import pulsar
import pytest
from pulsar import InitialPosition

from support import http, wait_until
from test_restart import Sender

GOOD, BAD = "persistent://public/default/good", "persistent://public/default/bad"


def fill(broker, connect, count=20):
    client = connect(broker.url)
    for topic in (GOOD, BAD):
        client.subscribe(topic, "s").close()
        producer = client.create_producer(topic, batching_enabled=False)
        for i in range(count):
            producer.send(f"{topic} {i} ".encode() + b"x" * 500)
    client.close()


def flip(data, text):
    """One bit of the stored bytes that hold this text."""
    for segment in sorted((data / "log").glob("*.log")):
        content = bytearray(segment.read_bytes())
        at = content.find(text)
        if at >= 0:
            content[at + len(text) + 100] ^= 4
            segment.write_bytes(content)
            return segment
    raise AssertionError(f"{text} is nowhere in {data}")


def numbers(consumer, count):
    out = []
    for _ in range(count):
        message = consumer.receive(30000)
        out.append(int(message.data().split()[1]))
        consumer.acknowledge(message)
    return out


@pytest.mark.parametrize("sealed", [False, True], ids=["while the log is read at start", "behind its index"])
def test_a_flipped_bit_costs_one_entry_of_one_topic(workshop, connect, sealed):
    broker = workshop.standalone()
    fill(broker, connect)
    broker.stop()
    if sealed:
        broker.start()  # which seals what was written
        broker.stop()
    segment = flip(broker.data, f"{BAD} 7 ".encode())

    done = workshop.run("storage", "check", broker.data)
    assert done.returncode == 1, done.stdout + done.stderr
    damaged = [line for line in done.stdout.splitlines() if line.startswith(("DAMAGED", "  "))]
    assert len(damaged) == 2 and segment.name in damaged[0], done.stdout
    assert BAD in damaged[1] and "entry 7" in damaged[1] and "ledger" in damaged[1], done.stdout

    broker.start()
    if not sealed:
        assert BAD in broker.process.output() and "entry 7" in broker.process.output(), "it is named at the start"
    client = connect(broker.url)
    assert numbers(client.subscribe(GOOD, "s"), 20) == list(range(20))
    consumer = client.subscribe(BAD, "s", initial_position=InitialPosition.Earliest)
    assert numbers(consumer, 7) == list(range(7))
    with pytest.raises(pulsar.Timeout):
        consumer.receive(2000)

    def refused():
        other = connect(broker.url)
        try:
            other.subscribe(BAD, "s", consumer_type=pulsar.ConsumerType.Exclusive).close()
        except pulsar.PulsarException as error:
            return "Checksum" in type(error).__name__ or "Checksum" in str(error)
        finally:
            other.close()
    consumer.close()
    wait_until(refused, "whoever subscribes is told that the entry cannot be read")
    assert "cannot be read" in broker.process.output() or "cannot go on" in broker.process.output()
    status, _ = http("POST", f"{broker.web}/admin/v2/persistent/public/default/bad/subscription/s/skip/1")
    assert status == 204
    assert numbers(connect(broker.url).subscribe(BAD, "s"), 12) == list(range(8, 20))


def test_salvage_skips_what_is_damaged_for_good(workshop, connect):
    broker = workshop.standalone()
    fill(broker, connect)
    refused = workshop.run("storage", "check", broker.data)
    assert refused.returncode == 1 and "in use" in refused.stderr, "not while a broker uses it"
    broker.stop()
    whole = workshop.run("storage", "check", broker.data)
    assert whole.returncode == 0 and "whole" in whole.stdout, whole.stdout + whole.stderr
    flip(broker.data, f"{BAD} 7 ".encode())
    flip(broker.data, f"{BAD} 8 ".encode())
    done = workshop.run("storage", "check", "--salvage", broker.data)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("lost: " + BAD) == 2, done.stdout
    assert (broker.data / "damaged").is_dir()
    assert workshop.run("storage", "check", broker.data).returncode == 0
    broker.start()
    client = connect(broker.url)
    assert numbers(client.subscribe(BAD, "s"), 18) == [i for i in range(20) if i not in (7, 8)]
    assert numbers(client.subscribe(GOOD, "s"), 20) == list(range(20))


def test_a_torn_end_is_no_damage(workshop, connect):
    broker = workshop.standalone()
    fill(broker, connect)
    broker.kill()
    last = max((broker.data / "log").glob("*.log"))
    content = bytearray(last.read_bytes())
    end = len(content.rstrip(b"\0"))
    content[end:end + 200] = content[end - 300:end - 100]
    last.write_bytes(content)
    done = workshop.run("storage", "check", broker.data)
    assert done.returncode == 0 and "unfinished write" in done.stdout, done.stdout + done.stderr
    broker.start()
    assert "cut" in broker.process.output()
    assert numbers(connect(broker.url).subscribe(BAD, "s"), 20) == list(range(20))


def test_what_a_data_directory_holds(workshop, connect):
    broker = workshop.standalone()
    fill(broker, connect)
    consumer = connect(broker.url).subscribe(GOOD, "s")
    assert numbers(consumer, 20) == list(range(20))
    consumer.close()
    broker.stop()
    done = workshop.run("storage", "stat", broker.data)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    bad, good = lines.index(next(x for x in lines if x.startswith(BAD))), lines.index(
        next(x for x in lines if x.startswith(GOOD)))
    assert "20 entries" in lines[bad]
    assert "pins 0 B" in lines[good + 1] and "pins 0 B" not in lines[bad + 1], done.stdout
    missing = workshop.run("storage", "stat", workshop.folder / "nowhere")
    assert missing.returncode == 1 and "not there" in missing.stderr
    assert not (workshop.folder / "nowhere").exists()


def test_a_newer_format_is_refused_in_a_sentence(workshop, connect):
    broker = workshop.standalone()
    broker.stop()
    (broker.data / "format").write_text("hulse-data 2\n")
    done = workshop.run("standalone", "--data-dir", broker.data)
    assert done.returncode == 1 and "newer version" in done.stderr, done.stderr


def test_a_backup_under_load_holds_all_that_was_acknowledged_before_it(workshop, connect):
    broker = workshop.standalone()
    client = connect(broker.url)
    client.subscribe(GOOD, "s").close()
    sender = Sender(client, GOOD)
    sender.start()
    for round in range(3):
        goal = len(sender.stored) + 3000
        wait_until(lambda: len(sender.stored) >= goal, "3,000 more receipts came")
        before = set(sender.stored)
        target = workshop.folder / f"backup-{round}"
        done = workshop.run("storage", "backup", broker.web, target)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not (broker.data / "snapshot").exists()
        restored = workshop.folder / f"restored-{round}"
        done = workshop.run("storage", "restore", target, restored)
        assert done.returncode == 0, done.stdout + done.stderr
        copy = workshop.standalone(data=restored)
        consumer = connect(copy.url).subscribe(GOOD, "s")
        seen = set()
        while not before <= seen:
            seen.add(int(consumer.receive(30000).data()))
        copy.stop()
    sender.finish()
    again = workshop.run("storage", "backup", broker.web, workshop.folder / "backup-0")
    assert again.returncode == 1 and "already" in again.stderr
    assert not (broker.data / "snapshot").exists(), "one that failed leaves nothing behind"
    refused = workshop.run("storage", "backup", broker.data, workshop.folder / "offline")
    assert refused.returncode == 1 and "web address" in refused.stderr
    broker.stop()
    done = workshop.run("storage", "backup", broker.data, workshop.folder / "offline")
    assert done.returncode == 0, done.stderr
    assert workshop.run("storage", "restore", workshop.folder / "nowhere", workshop.folder / "x").returncode == 1


def test_the_size_of_a_ledger_is_known_after_a_kill(workshop, connect):
    broker = workshop.standalone()
    client = connect(broker.url)
    client.subscribe(GOOD, "s").close()
    producer = client.create_producer(GOOD, batching_enabled=False, compression_type=pulsar.CompressionType.NONE)
    for _ in range(40):
        producer.send(os.urandom(50_000))
    client.close()
    for _ in range(2):
        broker.kill()
        broker.start()
        client = connect(broker.url)
        client.subscribe(GOOD, "s").close()
        _, body = http("GET", f"{broker.web}/admin/v2/persistent/public/default/good/internalStats")
        ledgers = json.loads(body)["ledgers"]
        assert 2_000_000 < ledgers[0]["size"] < 2_020_000, ledgers
        assert len(ledgers) == 2, "a ledger without entries is not kept"
        client.close()

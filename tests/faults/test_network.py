"""The network between client and broker fails (rows 8 and 9 of docs/faults.md)."""
import json
import threading
import time

import pulsar
import pytest

from checker import Writer, count, progress, read_all
from proxy import Proxy
from support import http, wait_until

CUTS = 10
PENDING = 500
# What the client and the broker ask each other after such a time of silence (the Pulsar protocol's own number).
KEEP_ALIVE_SECONDS = 30


@pytest.fixture
def proxied(workshop):
    """A broker and the way to it: lookups tell clients to stay with the address they have."""
    broker = workshop.standalone()
    proxy = Proxy(broker.port)
    yield broker, proxy
    proxy.close()


def test_cuts_in_the_middle_of_publishing(workshop, proxied, connect, dice, rounds, capsys):
    broker, proxy = proxied
    assert http("PUT", f"{broker.web}/admin/v2/namespaces/public/dedup",
                headers={"Content-Type": "application/json"})[0] == 204
    assert http("POST", f"{broker.web}/admin/v2/namespaces/public/dedup/deduplication", b"true",
                {"Content-Type": "application/json"})[0] == 204
    topics = {"dedup": "persistent://public/dedup/cut", "plain": "persistent://public/default/cut"}
    for topic in topics.values():
        connect(broker.url).subscribe(topic, "keep").close()
    writers = {mode: [Writer(workshop, proxy, topic, f"{mode}-batched"),
                      Writer(workshop, proxy, topic, f"{mode}-single", "--unbatched")] for mode, topic in topics.items()}
    every = writers["dedup"] + writers["plain"]
    cuts = CUTS * rounds
    for _ in range(cuts):
        progress(every, 20)
        if dice.random() < 0.5:
            proxy.cut()
        else:
            proxy.cut_in(dice.randrange(1, 20000))
    progress(every, 20)
    for writer in every:
        writer.finish()
    client = connect(broker.url)
    for mode, topic in topics.items():
        result = count(read_all(client, topic), writers[mode])
        with capsys.disabled():
            print(f"\n  {mode}: {cuts} cuts, {result}", end="", flush=True)
        result.expect(duplicates=0 if mode == "dedup" else 2 * PENDING * cuts)


def test_a_half_open_connection_is_noticed(workshop, proxied, connect, topic, dice, rounds, capsys):
    """Both sides: the client goes on over a new connection, and the broker lets go of what the old one held."""
    if rounds == 1:
        pytest.skip("takes two minutes: make faults")
    broker, proxy = proxied
    connect(broker.url).subscribe(topic, "keep").close()
    # Has its exclusive subscription until the broker notices.
    connect(proxy.url).subscribe(topic, "held")
    writer = Writer(workshop, proxy, topic, "half-open")
    progress([writer])
    threading.Event().wait(dice.uniform(0, 5))

    def holders():
        text = http("GET", f"{broker.web}/admin/v2/{topic.replace('://', '/')}/stats")[1]
        return [consumer["address"] for consumer in json.loads(text)["subscriptions"]["held"]["consumers"]]
    before = holders()
    assert len(before) == 1
    assert proxy.silence() >= 2
    began = time.monotonic()
    # What was under way still arrives.
    size = [None]

    def nothing_comes():
        size.append(writer.file.stat().st_size)
        threading.Event().wait(0.3)
        return size[-1] == size[-2]
    wait_until(nothing_comes, "nothing comes through any more")
    took = {}

    def noticed():
        if "client" not in took and writer.file.stat().st_size > size[-1]:
            took["client"] = time.monotonic() - began
        if "broker" not in took and before[0] not in holders():
            took["broker"] = time.monotonic() - began
        return len(took) == 2
    wait_until(noticed, "both sides notice", 4 * KEEP_ALIVE_SECONDS)
    writer.finish()
    result = count(read_all(connect(broker.url), topic), [writer])
    with capsys.disabled():
        print(f"\n  noticed by the client after {took['client']:.1f} s, by the broker after {took['broker']:.1f} s; {result}",
              end="", flush=True)
    result.expect(duplicates=PENDING)
    assert max(took.values()) < 2 * KEEP_ALIVE_SECONDS + 5

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
    # Holds its exclusive subscription until the broker notices.
    holder = connect(proxy.url).subscribe(topic, "held")
    writer = Writer(workshop, proxy, topic, "half-open")
    progress([writer])
    threading.Event().wait(dice.uniform(0, 5))
    assert proxy.silence() >= 2
    began = time.monotonic()
    progress([writer], 200)
    client_took = time.monotonic() - began

    def let_go():
        text = http("GET", f"{broker.web}/admin/v2/{topic.replace('://', '/')}/stats")[1]
        consumers = json.loads(text)["subscriptions"]["held"]["consumers"]
        # The holder's own client comes back over a new connection, as the only one.
        return len(consumers) == 0 or (len(consumers) == 1 and holder.is_connected())
    wait_until(let_go, "the broker lets go of the consumer that is not heard of", 4 * KEEP_ALIVE_SECONDS)
    broker_took = time.monotonic() - began
    writer.finish()
    result = count(read_all(connect(broker.url), topic), [writer])
    with capsys.disabled():
        print(f"\n  noticed by the client after {client_took:.1f} s, by the broker within {broker_took:.1f} s; {result}",
              end="", flush=True)
    result.expect(duplicates=PENDING)
    assert client_took < 2 * KEEP_ALIVE_SECONDS + 5
    assert broker_took < 2 * KEEP_ALIVE_SECONDS + 5

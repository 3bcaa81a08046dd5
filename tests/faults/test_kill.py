"""kill -9 of the broker under load, at random moments (row 1 of docs/faults.md)."""
import threading
import time

from checker import Taker, Writer, count, progress, read_all
from support import http, http_status, wait_until

KILLS = 4
READY_SECONDS = 5
# Of one producer: what a kill may leave without a receipt, to be sent again.
PENDING = 500


def test_kill_9_at_random_moments(workshop, connect, dice, rounds, capsys):
    broker = workshop.standalone()
    for namespace in ("dedup", "plain"):
        assert http("PUT", f"{broker.web}/admin/v2/namespaces/public/{namespace}",
                    headers={"Content-Type": "application/json"})[0] == 204
        keep = b'{"retentionTimeInMinutes":-1,"retentionSizeInMB":-1}'
        assert http("POST", f"{broker.web}/admin/v2/namespaces/public/{namespace}/retention", keep,
                    {"Content-Type": "application/json"})[0] == 204
    assert http("POST", f"{broker.web}/admin/v2/namespaces/public/dedup/deduplication", b"true",
                {"Content-Type": "application/json"})[0] == 204
    topics = {mode: f"persistent://public/{mode}/kill" for mode in ("dedup", "plain")}
    writers = {mode: [Writer(workshop, broker, topic, f"{mode}-batched"),
                      Writer(workshop, broker, topic, f"{mode}-single", "--unbatched")]
               for mode, topic in topics.items()}
    every = writers["dedup"] + writers["plain"]
    takers = [Taker(workshop, broker, topic, f"taken-{mode}") for mode, topic in topics.items()]
    progress(every)

    def kill_now():
        for when in ("before", "after"):
            for taker in takers:
                taker.new_life()
            if when == "before":
                broker.kill()

    kills, slowest = KILLS * rounds, 0
    for kill in range(kills):
        threading.Event().wait(dice.uniform(0.05, 1.0))
        kill_now()
        if dice.random() < 0.3:  # and once more while it starts
            broker.start(ready=False)
            threading.Event().wait(dice.uniform(0, 0.2))
            kill_now()
        began = time.monotonic()
        broker.start(ready=False)
        wait_until(lambda: http_status(broker.web + "/ready") == 200, "it is ready")
        slowest = max(slowest, time.monotonic() - began)
        progress(every, 20)
    assert slowest < READY_SECONDS

    for writer in every:
        writer.finish()
    settled, again = zip(*(taker.finish() for taker in takers))
    assert all(settled), "the takers got something done"
    assert not any(again), f"acknowledged and delivered again: {again}"
    client = connect(broker.url)
    for mode, topic in topics.items():
        result = count(read_all(client, topic), writers[mode])
        with capsys.disabled():
            print(f"\n  {mode}: {kills} kills, {result}; ready within {slowest:.2f} s; "
                  f"{sum(settled)} acknowledged for good", end="", flush=True)
        result.expect(duplicates=0 if mode == "dedup" else 2 * PENDING * 2 * kills)

"""Counts what came of what was sent: lost, delivered twice, out of order, damaged, never sent."""
import dataclasses
import os
import pathlib
import signal
import sys

import pulsar

import writer
from support import wait_until

HERE = pathlib.Path(__file__).resolve().parent


class Writer:
    def __init__(self, workshop, broker, topic, name, *arguments):
        self.name = name
        self.file = workshop.folder / f"acknowledged-{name}"
        self.process = workshop.start(HERE / "writer.py", broker.url, topic, name, self.file, *arguments,
                                      program=sys.executable)
        self.process.wait_for("^sending")
        self.sent = None

    def acknowledged(self):
        return [int(line) for line in self.file.read_text().split()] if self.file.exists() else []

    def finish(self):
        self.process.popen.send_signal(signal.SIGTERM)
        done = self.process.wait_for(r"^sent (\d+), refused (.*)$", seconds=120)
        self.sent = int(done[1])
        assert done[2] == "[]", f"{self.name} was refused: {done[2]}"
        assert self.process.wait() == 0, self.process.output()


class Taker:
    def __init__(self, workshop, broker, topic, subscription="taken"):
        self.lives, self.taken = workshop.folder / f"lives-{subscription}", workshop.folder / f"taken-{subscription}"
        self.count = 0
        self.new_life()
        self.process = workshop.start(HERE / "taker.py", broker.url, topic, subscription, self.lives, self.taken,
                                      program=sys.executable)
        self.process.wait_for("^taking")

    def new_life(self):
        """Before every fault and after it: what is done between the two counts for nothing."""
        self.count += 1
        new = self.lives.with_suffix(".new")
        new.write_text(str(self.count))
        os.replace(new, self.lives)

    def finish(self):
        self.process.popen.send_signal(signal.SIGTERM)
        settled = int(self.process.wait_for(r"^settled (\d+)$", seconds=120)[1])
        lines = self.taken.read_text().splitlines() if self.taken.exists() else []
        return settled, [line for line in lines if line.startswith("again")]


@dataclasses.dataclass
class Count:
    acknowledged: int = 0
    sent: int = 0
    delivered: int = 0
    lost: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    phantom: int = 0
    corrupt: int = 0

    def __str__(self):
        return ", ".join(f"{getattr(self, f.name)} {f.name.replace('_', ' ')}" for f in dataclasses.fields(self))

    def expect(self, duplicates):
        assert self.sent == self.acknowledged, f"the writers got a receipt for everything in the end: {self}"
        for name in ("lost", "out_of_order", "phantom", "corrupt"):
            assert getattr(self, name) == 0, str(self)
        assert self.duplicates <= duplicates, str(self)


def read_all(client, topic):
    """(name, key, number) of everything in the topic, in its order; None for a damaged one."""
    reader = client.create_reader(topic, pulsar.MessageId.earliest)
    records = []
    while reader.has_message_available():
        records.append(writer.parse(reader.read_next(60000).data()))
    reader.close()
    return records


def count(records, writers):
    out = Count(delivered=len(records), corrupt=records.count(None))
    found = {w.name: [] for w in writers}
    for record in filter(None, records):
        if record[0] in found:
            found[record[0]].append(record)
        elif record[0] == writer.MARK:
            out.delivered -= 1
        else:
            out.phantom += 1
    for w in writers:
        acknowledged = set(w.acknowledged())
        numbers = [number for _, _, number in found[w.name]]
        out.sent += w.sent
        out.acknowledged += len(acknowledged)
        out.lost += len(acknowledged - set(numbers))
        out.duplicates += len(numbers) - len(set(numbers))
        out.phantom += sum(number >= w.sent for number in numbers)
        by_key = {}
        for _, key, number in found[w.name]:
            by_key.setdefault(key, []).append(number)
        for of_key in by_key.values():
            # What was sent again after its receipt was lost stands twice; first appearances keep the order.
            firsts = list(dict.fromkeys(of_key))
            out.out_of_order += sum(b < a for a, b in zip(firsts, firsts[1:]))
    return out


def progress(writers, more=50):
    """Waits until every writer got so many more receipts."""
    goals = {w.name: w.file.stat().st_size + 2 * more if w.file.exists() else 2 * more for w in writers}
    wait_until(lambda: all(w.file.exists() and w.file.stat().st_size >= goals[w.name] for w in writers),
               "every writer gets receipts")



"""The rows of bench/run.py that measure the broker alone: pulsar_load produces and consumes on either one."""
import json
import subprocess

from contenders import LIMIT, TOOLS, Hulse, cpu_seconds, memory, tool


def load(system, mode, **options):
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return tool("pulsar_load", mode, "--port", system.port, *words)


class Consumers:
    """pulsar_load consuming beside a producer, from when it has subscribed."""

    def __init__(self, system, **options):
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        self.process = subprocess.Popen([TOOLS / "pulsar_load", "consume", "--port", str(system.port), *words],
                                        stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
        assert self.process.stdout.readline() == "attached\n", "consumers could not subscribe"

    def result(self):
        said, _ = self.process.communicate(timeout=LIMIT)
        if self.process.returncode:
            raise RuntimeError(f"pulsar_load ended with {self.process.returncode}")
        return json.loads(said)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def figures(system, before, measured, size):
    cpu = cpu_seconds(system.pids()) - before
    done, took = measured["messages"], measured["seconds"]
    return {"records/s": done / took, "MB/s": done * size / took / 1e6, "CPU s per million": cpu / done * 1e6,
            "peak MB": memory(system.pids(), "VmHWM"), **measured}


def count_for(system, scale, ours, theirs):
    return max(10_000, int((ours if isinstance(system, Hulse) else theirs) * scale))


def produce(size, batch, window, ours, theirs):
    def row(system, scale):
        count = count_for(system, scale, ours, theirs)
        options = {"topic": "produce", "size": size, "batch": batch, "window": window}
        load(system, "produce", count=count // 4, **options)  # warm
        before = cpu_seconds(system.pids())
        return figures(system, before, load(system, "produce", count=count, **options), size)
    return row


def fan_out(consumers, size, batch, ours, theirs):
    def row(system, scale):
        count = count_for(system, scale, ours, theirs)
        options = {"topic": "tail", "size": size, "batch": batch, "window": 100}
        load(system, "produce", count=count // 4, **options)  # warm
        reading = Consumers(system, topic="tail", consumers=consumers, count=count)
        try:
            before = cpu_seconds(system.pids())
            load(system, "produce", count=count, **options)
            return figures(system, before, reading.result(), size)
        finally:
            reading.end()
    return row


def catch_up(size, batch, megabytes):
    def row(system, scale):
        count = max(10_000, int(megabytes * 1e6 * scale / size))
        reading = Consumers(system, topic="old", count=1)  # a subscription that holds the backlog
        try:
            load(system, "produce", topic="old", size=size, batch=batch, count=count, window=100)
            reading.result()
        finally:
            reading.end()
        system.restart()
        before = cpu_seconds(system.pids())
        reading = Consumers(system, topic="old", count=count - batch)  # the first entry is acknowledged
        try:
            return figures(system, before, reading.result(), size)
        finally:
            reading.end()
    return row


def latency(rate, size, batch, seconds):
    def row(system, scale):
        options = {"topic": "steady", "size": size, "batch": batch, "rate": rate, "window": 10_000}
        load(system, "produce", count=int(rate * 3), **options)  # warm
        count = int(rate * seconds * scale)
        reading = Consumers(system, topic="steady", count=count)
        try:
            before = cpu_seconds(system.pids())
            sent = load(system, "produce", count=count, **options)
            return {**figures(system, before, reading.result(), size), **sent}
        finally:
            reading.end()
    return row


def many_topics(topics):
    def row(system, scale):
        process = subprocess.Popen([TOOLS / "pulsar_load", "attach", "--port", str(system.port), "--topics", str(topics)],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            if "topics" not in process.stdout.readline():
                raise RuntimeError("not every topic could be made")
            return {"MB": memory(system.pids(), "VmRSS")}
        finally:
            process.stdin.close()
            process.wait(timeout=LIMIT)
            process.stdout.close()
    return row

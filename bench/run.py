#!/usr/bin/env python3
"""Measures Hulse beside Apache Pulsar 4.0.8, and both beside the bare disk, in one run.

    bench/run.py [--rows NAME,...] [--rounds 3] [--scale 1.0] [--no-peer] [--write docs/benchmarks.md]

Rounds are interleaved (each row of Hulse, then of the peer, then the next row), every measurement starts fresh
processes with fresh data, and the table shows medians. Processor time is that of broker and connector together,
from the moment the load starts until the last record is stored; a warm-up of a tenth of the load is not counted.
"""
import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "release"
TOOLS = BUILD / "bench"
SYSTEMS = ROOT / "tests" / "systems" / "systems"
TICKS = os.sysconf("SC_CLK_TCK")
LIMIT = 180  # seconds one measurement may take
POLL = 0.02

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(url, method="GET", body=None):
    request = urllib.request.Request(url, method=method, data=body, headers={"Content-Type": "application/json"})
    with _opener.open(request, timeout=30) as answer:
        return answer.read()


def wait_until(condition, what, seconds=LIMIT, poll=POLL):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds} s in vain until {what}")
        time.sleep(poll)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port, kind="tcp"):
    """Whether a socket is bound there, as the kernel lists it: asking it would be load."""
    table = pathlib.Path(f"/proc/net/{kind}").read_text() + pathlib.Path(f"/proc/net/{kind}6").read_text()
    rows = [line.split() for line in table.splitlines() if ":" in line]
    return any(row[1].endswith(f":{port:04X}") and (kind == "udp" or row[3] == "0A") for row in rows)


def tree(pid):
    """The process and everything that descends from it."""
    children = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int(entry.joinpath("stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def memory(pids, field):
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            found = re.search(rf"^{field}:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
            total += int(found[1]) * 1024 if found else 0
    return total / 1e6


@dataclasses.dataclass
class Measured:
    values: dict  # name of a column -> number


class System:
    """A broker with connectors beside it. One object is one life with fresh data."""

    def __init__(self, scratch):
        self.scratch = pathlib.Path(tempfile.mkdtemp(dir=scratch))
        self.processes = []

    def launch(self, name, *command, env=None):
        log = open(self.scratch / f"{name}.log", "wb")
        process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=subprocess.STDOUT,
                                   stdin=subprocess.DEVNULL, start_new_session=True, cwd=self.scratch,
                                   env={**os.environ, **(env or {})})
        log.close()
        process.log = self.scratch / f"{name}.log"
        self.processes.append(process)
        return process

    def end(self, process):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process in self.processes:
            self.processes.remove(process)

    def running(self, process):
        if process.poll() is not None:
            raise RuntimeError(f"{process.args[:4]} ended: {process.log.read_text(errors='replace')[-3000:]}")
        return True

    def close(self):
        for process in reversed(list(self.processes)):
            self.end(process)
        shutil.rmtree(self.scratch, ignore_errors=True)

    def pids(self):
        return [pid for process in self.processes for pid in tree(process.pid)]

    def stored(self, topic):
        """Messages and bytes that producers have put into the topic in this life."""
        path = f"{self.web}/admin/v2/persistent/public/default/{topic}/stats"
        try:
            stats = json.loads(fetch(path))
        except urllib.error.HTTPError as refusal:
            if refusal.code == 404:
                return 0, 0
            raise
        return stats["msgInCounter"], stats["bytesInCounter"]


class Hulse(System):
    label = "Hulse"
    poll = POLL

    def __init__(self, scratch):
        super().__init__(scratch)
        self.port, self.web_port = free_port(), free_port()
        self.web = f"http://127.0.0.1:{self.web_port}"
        began = time.monotonic()
        self.broker = self.launch("standalone", BUILD / "bin/hulse", "standalone", "--data-dir", self.scratch / "data",
                                  "--broker-port", self.port, "--web-port", self.web_port)

        def ready():
            self.running(self.broker)
            with contextlib.suppress(OSError):
                return fetch(f"{self.web}/ready") is not None
        wait_until(ready, "Hulse is ready", poll=0.002)
        self.ready_seconds = time.monotonic() - began

    def localrun(self, kind, *arguments):
        return self.launch(arguments[1], BUILD / "bin/hulse", kind, "localrun", "--broker-service-url",
                           f"pulsar://127.0.0.1:{self.port}", *arguments)

    def netty(self, topic, type, framing):
        port = free_port()
        config = {"type": type, "host": "127.0.0.1", "port": port}
        if type == "tcp":
            config["framing"] = framing
        source = self.localrun("sources", "--name", f"netty-{port}", "--source-type", "netty",
                               "--destination-topic-name", topic, "--source-config", json.dumps(config))
        wait_until(lambda: self.running(source) and listens(port, type), "the source listens")
        return port

    def fill(self, topic, size, count, url):
        """Documents in the topic, with the sink's subscription before them: it stays when the sink stops."""
        sink = self.elastic(topic, url, bulk=1000)
        wait_until(lambda: self.running(sink) and "running" in sink.log.read_text(errors="replace"), "the sink has subscribed")
        self.end(sink)
        port = self.netty(topic, "tcp", "line")
        tool("tcp_send", "--port", port, "--size", size, "--count", count, "--payload", "json")
        wait_until(lambda: self.stored(topic)[0] >= count, "the topic is filled")
        self.end(self.processes[-1])

    def elastic(self, topic, url, bulk):
        config = {"elasticSearchUrl": url, "indexName": "bench", "bulkEnabled": True, "bulkActions": bulk}
        return self.localrun("sinks", "--name", "es", "--sink-type", "elastic_search", "--inputs", topic,
                             "--subs-position", "Earliest", "--sink-config", json.dumps(config))


class Pulsar(System):
    label = "Apache Pulsar 4.0.8"
    poll = 0.1
    web = "http://127.0.0.1:26141"

    def __init__(self, scratch):
        super().__init__(scratch)
        systems("down", "pulsar")
        systems("wipe", "pulsar")
        systems("install", "pulsar")
        began = time.monotonic()
        systems("up", "pulsar")
        self.ready_seconds = time.monotonic() - began
        self.broker_pid = int(systems("pid", "pulsar"))

    def close(self):
        super().close()
        systems("down", "pulsar")

    def pids(self):
        return tree(self.broker_pid) + super().pids()

    def localrun(self, kind, *arguments):
        return self.launch(arguments[1], SYSTEMS, "pulsar-admin", kind, "localrun", "--broker-service-url",
                           "pulsar://127.0.0.1:26140", "--tenant", "public", "--namespace", "default", *arguments)

    def netty(self, topic, type, framing):
        port = free_port()
        config = {"type": type, "host": "127.0.0.1", "port": port, "numberOfThreads": 1}
        source = self.localrun("sources", "--name", f"netty-{port}", "--archive", systems("nar", "netty"),
                               "--destination-topic-name", topic, "--source-config", json.dumps(config))
        wait_until(lambda: self.running(source) and listens(port, type), "the source listens")
        return port

    def fill(self, topic, size, count, _):
        path = f"{self.web}/admin/v2/persistent/public/default/{topic}"
        with contextlib.suppress(urllib.error.HTTPError):
            fetch(path, "PUT")
        fetch(f"{path}/subscription/{urllib.parse.quote('public/default/es', safe='')}", "PUT", b"")
        payloads = self.scratch / "payloads"
        with open(payloads, "w") as out:
            for i in range(1000):
                out.write(('{"id":"%010d","text":"' % i).ljust(size - 2, "x") + '"}\n')
        subprocess.run([SYSTEMS, "pulsar-perf", "produce", "-f", payloads, "-e", r"\n", "-m", str(count), "-r", "40000",
                        "-u", "pulsar://127.0.0.1:26140", topic], check=True, capture_output=True, timeout=LIMIT)
        wait_until(lambda: self.stored(topic)[0] >= count, "the topic is filled")

    def elastic(self, topic, url, bulk):
        config = {"elasticSearchUrl": url, "indexName": "bench", "bulkEnabled": True, "bulkActions": bulk,
                  "compatibilityMode": "ELASTICSEARCH_7"}
        return self.localrun("sinks", "--name", "es", "--archive", systems("nar", "elastic-search"), "--inputs", topic,
                             "--subs-position", "Earliest", "--sink-config", json.dumps(config))


def systems(*arguments):
    done = subprocess.run([SYSTEMS, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode == 77:
        raise SystemExit(f"no peer on this machine (--no-peer measures without): {done.stderr.strip()}")
    if done.returncode:
        raise RuntimeError(f"systems {' '.join(arguments)}: {done.stderr}")
    return done.stdout.strip()


def tool(name, *arguments):
    done = subprocess.run([TOOLS / name, *map(str, arguments)], capture_output=True, text=True, timeout=LIMIT,
                          stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr}")
    return json.loads(done.stdout)


# ---- rows -----------------------------------------------------------------------------------------------------------


def measure(system, load, arrived, records, megabytes):
    """Runs load() and waits until arrived() says when the last record was stored."""
    before, began = cpu_seconds(system.pids()), time.monotonic()
    load()
    ended, count = arrived()
    cpu, took = cpu_seconds(system.pids()) - before, ended - began
    count = records if count is None else count
    return {"records/s": count / took, "MB/s": megabytes * count / records / took,
            "CPU s per million": cpu / count * 1e6, "CPU s per GB": cpu / (megabytes * count / records) * 1000,
            "peak MB": memory(system.pids(), "VmHWM"), "lost %": 100 * (1 - count / records)}


def still(system, read, goal, quiet=1.0):
    """When `read` reached the goal, or, where it stands still short of it, when it last moved, and what it said."""
    seen, moved, end = read(), time.monotonic(), time.monotonic() + LIMIT
    while time.monotonic() < end:
        now = read()
        if now != seen:
            seen, moved = now, time.monotonic()
        if seen >= goal or (seen > 0 and time.monotonic() - moved > quiet):
            return moved, seen
        time.sleep(system.poll)
    raise RuntimeError(f"stored {seen} of {goal} in {LIMIT} s")


def tcp(size, framing, count):
    def row(system, scale):
        topic, total = "bench-tcp", max(1000, int(count * scale))
        port = system.netty(topic, "tcp", framing)
        warm = total // 10
        tool("tcp_send", "--port", port, "--size", size, "--count", warm, "--framing", framing)
        # Without boundaries messages have sizes of their own, and the counter of bytes counts what compression
        # left: then the end is when the topic stands still, which it does only after everything came.
        by_messages = framing == "line" and isinstance(system, Hulse)
        read = lambda: system.stored(topic)[0 if by_messages else 1]
        still(system, read, warm if by_messages else float("inf"))
        base = read()

        def arrived():
            at, seen = still(system, lambda: read() - base, total if by_messages else float("inf"))
            least = total if by_messages else 0.7 * total * size
            if seen < least:
                raise RuntimeError(f"only {seen} of at least {least} arrived")
            return at, None
        return measure(system, lambda: tool("tcp_send", "--port", port, "--size", size, "--count", total,
                                            "--framing", framing), arrived, total, total * size / 1e6)
    return row


def udp(size, count, rate):
    def row(system, scale):
        topic, total = "bench-udp", max(1000, int(count * scale))
        port = system.netty(topic, "udp", None)
        tool("udp_send", "--port", port, "--size", size, "--count", total // 10, "--rate", 20000)
        read = lambda: system.stored(topic)[0]
        still(system, read, total // 10)
        base = read()
        return measure(system, lambda: tool("udp_send", "--port", port, "--size", size, "--count", total, "--rate", rate),
                       lambda: still(system, lambda: read() - base, total), total, total * size / 1e6)
    return row


def bulk(size, count, peer_count):
    def row(system, scale):
        topic, total = "bench-bulk", max(1000, int((count if isinstance(system, Hulse) else peer_count) * scale))
        target_port = free_port()
        target = subprocess.Popen([TOOLS / "null_elasticsearch", "--port", str(target_port)], stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: listens(target_port), "the target listens")
            url = f"http://127.0.0.1:{target_port}"
            system.fill(topic, size, total, url)
            counts = lambda: json.loads(fetch(url + "/_counts"))
            system.elastic(topic, url, bulk=1000)
            # The first tenth warms up and is not counted. The target's own clock times its documents.
            warm = wait_until(lambda: (c := counts())["documents"] >= total // 10 and c, "documents arrive", poll=0.005)
            before = cpu_seconds(system.pids())
            last = wait_until(lambda: (c := counts())["documents"] >= total and c, "every document arrives")
            cpu, took = cpu_seconds(system.pids()) - before, last["last"] - warm["last"]
            done = last["documents"] - warm["documents"]
            return {"records/s": done / took, "MB/s": done * size / 1e6 / took, "CPU s per million": cpu / done * 1e6,
                    "CPU s per GB": cpu / (done * size) * 1e9, "peak MB": memory(system.pids(), "VmHWM")}
        finally:
            target.kill()
            target.wait()
    return row


def start(system, scale):
    time.sleep(3)  # what a start leaves behind settles
    pids = system.pids()
    before = cpu_seconds(pids)
    time.sleep(2)
    return {"ready s": system.ready_seconds, "idle MB": memory(pids, "VmRSS"), "start CPU s": before,
            "idle CPU %": (cpu_seconds(pids) - before) / 2 * 100}


@dataclasses.dataclass(frozen=True)
class Row:
    title: str
    run: object
    shown: tuple  # columns, the first is what the ratio is of
    goal: str


ROWS = {
    "start": Row("start-up and idle", start, ("ready s", "idle MB", "start CPU s", "idle CPU %"), "ready < 0.3 s, idle < 40 MB"),
    "tcp-100": Row("TCP, 100 B lines, one message a line", tcp(100, "line", 3_000_000),
                   ("records/s", "CPU s per million", "MB/s", "peak MB"), "≥ 1,000,000 lines/s, ≤ 1.5 CPU s per million"),
    "tcp-1k": Row("TCP, 1 KB lines, one message a line", tcp(1024, "line", 600_000),
                  ("records/s", "CPU s per million", "MB/s", "peak MB"), ""),
    "tcp-none": Row("TCP, framing none, incompressible", tcp(65536, "none", 12_000), ("MB/s", "CPU s per GB", "peak MB"),
                    "≥ Java's MB/s or 40 % of the bare disk"),
    "udp-400k": Row("UDP, 100 B, offered 400,000/s", udp(100, 2_000_000, 400_000),
                    ("records/s", "CPU s per million", "lost %", "peak MB"), "≥ 400,000/s without loss"),
    "udp-80k": Row("UDP, 100 B, offered 80,000/s", udp(100, 400_000, 80_000),
                   ("records/s", "CPU s per million", "lost %", "peak MB"), ""),
    "bulk": Row("topic → `_bulk`, 216 B documents", bulk(216, 3_000_000, 150_000),
                ("records/s", "CPU s per million", "MB/s", "peak MB"), "≥ 150,000/s, ≤ 6 CPU s per million"),
}


# ---- the table ------------------------------------------------------------------------------------------------------


def number(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(names, results, peer):
    lines = ["| row | figure | Hulse | Apache Pulsar 4.0.8 | Hulse / Pulsar | to reach |", "|---|---|---:|---:|---:|---|"]
    for name in names:
        row = ROWS[name]
        for i, column in enumerate(row.shown):
            cells = []
            medians = []
            for label in ("Hulse", *(["Pulsar"] if peer else [])):
                values = [r[column] for r in results[name][label] if column in r]
                medians.append(statistics.median(values) if values else None)
            mine = medians[0]
            other = medians[1] if peer else None
            ratio = number(mine / other) if mine is not None and other else "–"
            cells = [row.title if i == 0 else "", column, "–" if mine is None else number(mine),
                     "–" if other is None else number(other), ratio, row.goal if i == 0 else ""]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine():
    model = re.search(r"^model name\s*:\s*(.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    total = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) / 1e6
    return f"{os.cpu_count()} × {model[1] if model else platform.machine()}, {total:.0f} GB, Linux {platform.release()}"


def page(text, bound, options, rounds, load):
    return f"""# Benchmarks

Written by `make bench` on {datetime.date.today().isoformat()}. Machine: {machine()}; load average before the run {load:.1f};
medians of {rounds} interleaved rounds{'' if options.scale == 1 else f', load scaled by {options.scale}'}.

{text}

The bare disk in the same run (write 1 MB, fdatasync, repeat): {bound['mb_per_second']:.0f} MB/s, {bound['cpu_per_gb']:.1f} CPU
seconds per GB; with 4 KB blocks {bound['small']:.0f} syncs a second.

How to read it:

- Hulse syncs every write before its receipt; Apache Pulsar's standalone does not sync (its own default).
- Processor time is broker and connector together. The load generators, the null endpoint and the polling of the
  counters run on the same cores.
- Apache Pulsar's netty source knows no message boundaries. Its TCP rows are counted in bytes and shown as if each
  line were a record.
- `lost %` is what the sender sent and the topic did not get.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every record count")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--only-peer", action="store_true", help="to try the peer's side")
    parser.add_argument("--write", type=pathlib.Path, help="a page to write, beside printing the table")
    options = parser.parse_args()
    names = options.rows.split(",")
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}")
    if options.rounds < 1 or options.scale <= 0:
        parser.error("--rounds and --scale are greater than 0")
    if not (TOOLS / "tcp_send").exists():
        parser.error("the load generators are not built: make bench")

    contenders = {} if options.only_peer else {"Hulse": Hulse}
    if not options.no_peer:
        contenders["Pulsar"] = Pulsar
    load = os.getloadavg()[0]
    results = {name: {"Hulse": [], "Pulsar": []} for name in names}
    failed = False
    with tempfile.TemporaryDirectory(prefix="hulse-bench-", dir=BUILD) as scratch:
        bounds = []
        for round in range(options.rounds):
            bound = tool("write_sync", "--file", pathlib.Path(scratch) / "bound")
            bound["small"] = tool("write_sync", "--file", pathlib.Path(scratch) / "bound", "--block", 4096,
                                  "--seconds", 1)["syncs_per_second"]
            bounds.append(bound)
            for name in names:
                for label, kind in contenders.items():
                    system = None
                    try:
                        system = kind(scratch)
                        measured = ROWS[name].run(system, options.scale)
                        results[name][label].append(measured)
                        shown = ", ".join(f"{c} {number(measured[c])}" for c in ROWS[name].shown if c in measured)
                    except (RuntimeError, OSError, subprocess.SubprocessError) as failure:
                        failed = True
                        shown = f"FAILED: {failure}"
                    finally:
                        if system:
                            system.close()
                    print(f"round {round + 1}, {name}, {label}: {shown}", flush=True)
    bound = {key: statistics.median(b[key] for b in bounds) for key in bounds[0]}
    text = table(names, results, not options.no_peer)
    print(f"\n{text}\n\nbare disk: {bound['mb_per_second']:.0f} MB/s")
    if options.write and not failed:
        options.write.write_text(page(text, bound, options, options.rounds, load))
        print(f"written to {options.write}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

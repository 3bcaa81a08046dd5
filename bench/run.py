#!/usr/bin/env python3
"""Measures Hulse beside Apache Pulsar 4.0.8, and both beside the bare disk, in one run.

    bench/run.py [--rows NAME,...] [--rounds 3] [--scale 1.0] [--no-peer] [--write docs/benchmarks.md]

Rounds are interleaved (each row of Hulse, then of the peer, then the next row), every measurement starts fresh
processes with fresh data, and the table shows medians. Processor time is that of broker and connector together,
from the moment the load starts until the last record is stored; a warm-up of a tenth of the load is not counted.
"""
import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

from contenders import (BUILD, LIMIT, TOOLS, Hulse, Pulsar, cpu_seconds, fetch, free_port, listens, memory, tool, wait_until)


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

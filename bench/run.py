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

import bus_rows as bus
from contenders import (BUILD, LIMIT, TOOLS, Hulse, Pulsar, SyncedPulsar, cpu_seconds, fetch, free_port, listens, memory,
                        tool, wait_until)


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
    shown: tuple  # columns
    goal: str
    peers: tuple = (Pulsar,)


CONNECTORS = {
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

RATES = ("records/s", "MB/s", "CPU s per million", "peak MB")
BOTH = (Pulsar, SyncedPulsar)
BUS = {
    "produce-100": Row("produce, 100 B, batches of 1,000", bus.produce(100, 1000, 100, 40_000_000, 3_000_000), RATES,
                       "more than its rate without sync at a third of its CPU", BOTH),
    "produce-1k": Row("produce, 1 KB, batches of 125", bus.produce(1024, 125, 100, 4_000_000, 700_000), RATES, "the same", BOTH),
    "produce-single": Row("produce, 1 KB, unbatched", bus.produce(1024, 1, 1000, 1_000_000, 200_000), RATES, "", BOTH),
    "tail-1": Row("tail, 1 → 1, 1 KB", bus.fan_out(1, 1024, 125, 3_000_000, 500_000), RATES, "", BOTH),
    "tail-8": Row("tail, 1 → 8, 1 KB (records of all)", bus.fan_out(8, 1024, 125, 1_000_000, 200_000), RATES, "", BOTH),
    "catch-up": Row("catch-up of a cold backlog of 2 GB, 1 KB", bus.catch_up(1024, 125, 2000), RATES, ""),
    "steady": Row("10,000 messages/s, 1 KB, batches of 10", bus.latency(10_000, 1024, 10, 10),
                  ("receipt_p50_ms", "receipt_p99_ms", "end_to_end_p50_ms", "end_to_end_p99_ms", "CPU s per million"),
                  "receipt p99 ≤ that of a bare fdatasync + 3 ms", BOTH),
    "topics": Row("1,000 topics with a producer and a subscription each", bus.many_topics(1000), ("MB",),
                  "a tenth of its memory"),
}
GROUPS = {"Connectors": CONNECTORS, "The bus": BUS}
ROWS = {**CONNECTORS, **BUS}


# ---- the table ------------------------------------------------------------------------------------------------------


def number(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(names, results):
    kinds = [Hulse, *(kind for kind in (Pulsar, SyncedPulsar) if any(kind in results[name] for name in names))]
    lines = ["| row | figure | " + " | ".join(kind.label for kind in kinds) + " | Hulse / Pulsar | to reach |",
             "|---|---|" + "---:|" * (len(kinds) + 1) + "---|"]
    for name in names:
        row = ROWS[name]
        for i, column in enumerate(row.shown):
            medians = []
            for kind in kinds:
                values = [r[column] for r in results[name].get(kind, []) if column in r]
                medians.append(statistics.median(values) if values else None)
            mine, peer = medians[0], medians[1] if len(medians) > 1 else None
            ratio = number(mine / peer) if mine is not None and peer else "–"
            cells = [row.title if i == 0 else "", column.replace("_", " "),
                     *("–" if m is None else number(m) for m in medians), ratio, row.goal if i == 0 else ""]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine():
    model = re.search(r"^model name\s*:\s*(.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    total = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) / 1e6
    return f"{os.cpu_count()} × {model[1] if model else platform.machine()}, {total:.0f} GB, Linux {platform.release()}"


def section(title, text, bound, options, load):
    return f"""## {title}

Measured on {datetime.date.today().isoformat()}. Machine: {machine()}; load average before the run {load:.1f}; medians of
{options.rounds} interleaved rounds{'' if options.scale == 1 else f', load scaled by {options.scale}'}.

{text}

The bare disk in the same run (write 1 MB, fdatasync, repeat): {bound['mb_per_second']:.0f} MB/s, {bound['cpu_per_gb']:.1f} CPU
seconds per GB; with 4 KB blocks {bound['small']:.0f} syncs a second, 99 of 100 within {bound['small_p99']:.2f} ms.
"""


NOTES = """## How to read it

- Hulse syncs every write before its receipt; Apache Pulsar's standalone does not sync unless it is told to (its own
  default, `journalSyncData=false` here).
- Processor time is broker and connector together. The load generators, the null endpoint and the polling of the
  counters run on the same cores.
- Apache Pulsar's netty source knows no message boundaries. Its TCP rows are counted in bytes and shown as if each
  line were a record.
- `lost %` is what the sender sent and the topic did not get.
- The same generator loads both brokers with the same entries, made beforehand; a quarter of the load goes first and is
  not counted. Hulse gets more records where it would be done too soon to measure.
"""


def write_page(path, sections):
    """Sections that were not measured this time stay as they are."""
    known = dict(re.findall(r"^(## .*)\n((?:(?!^## ).*\n)*)", path.read_text() if path.exists() else "", re.MULTILINE))
    kept = [sections.get(title) or (f"## {title}\n" + known.get(f"## {title}", "")) for title in GROUPS
            if title in sections or f"## {title}" in known]
    by_hand = [f"{title}\n{body}" for title, body in known.items() if title[3:] not in GROUPS and title != "## How to read it"]
    path.write_text("# Benchmarks\n\nWritten by `make bench`.\n\n" + "\n".join(s.strip("\n") + "\n" for s in [*kept, *by_hand, NOTES]))


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

    load = os.getloadavg()[0]
    results = {name: {} for name in names}
    failed = False
    with tempfile.TemporaryDirectory(prefix="hulse-bench-", dir=BUILD) as scratch:
        bounds = []
        for round in range(options.rounds):
            bound = tool("write_sync", "--file", pathlib.Path(scratch) / "bound")
            small = tool("write_sync", "--file", pathlib.Path(scratch) / "bound", "--block", 4096, "--seconds", 1)
            bounds.append({**bound, "small": small["syncs_per_second"], "small_p99": small["p99_ms"]})
            for name in names:
                peers = () if options.no_peer else ROWS[name].peers
                for kind in (*(() if options.only_peer else (Hulse,)), *peers):
                    system = None
                    try:
                        system = kind(scratch)
                        measured = ROWS[name].run(system, options.scale)
                        results[name].setdefault(kind, []).append(measured)
                        shown = ", ".join(f"{c} {number(measured[c])}" for c in ROWS[name].shown if c in measured)
                    except (AssertionError, RuntimeError, OSError, subprocess.SubprocessError) as failure:
                        failed = True
                        shown = f"FAILED: {failure}"
                    finally:
                        if system:
                            system.close()
                    print(f"round {round + 1}, {name}, {kind.label}: {shown}", flush=True)
    bound = {key: statistics.median(b[key] for b in bounds) for key in bounds[0]}
    sections = {}
    for title, rows in GROUPS.items():
        measured = [name for name in names if name in rows]
        if measured:
            text = table(measured, results)
            print(f"\n{text}\n\nbare disk: {bound['mb_per_second']:.0f} MB/s")
            sections[title] = section(title, text, bound, options, load)
    if options.write and not failed:
        write_page(options.write, sections)
        print(f"written to {options.write}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

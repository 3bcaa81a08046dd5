#!/usr/bin/env python3
"""Measures what many topics, many connections and a large backlog cost a broker: time to start, memory, disk.

    bench/scale.py [--topics 10000] [--connections 1000] [--gigabytes 10] [--entry 10000] [--data DIR]

Speaks the Pulsar protocol itself: a thousand clients of another library would be what is measured. Prints one line a
step; needs twice the backlog's room on the disk, and removes what it wrote.
"""
import argparse
import asyncio
import os
import pathlib
import re
import resource
import shutil
import signal
import struct
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HULSE = pathlib.Path(os.environ.get("HULSE_BUILD", ROOT / "build" / "release")) / "bin" / "hulse"
CONNECT, CONNECTED, SUBSCRIBE, PRODUCER, SEND, RECEIPT, SEND_ERROR, ACK, SUCCESS, ERROR = 2, 3, 4, 5, 6, 7, 8, 10, 13, 14
PRODUCER_SUCCESS, PING, PONG = 17, 18, 19
WINDOW = 20  # entries of one connection on their way


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def command(kind, *fields, payload=b""):
    inner = b"".join(field(number, value) for number, value in fields)
    outer = field(1, kind) + field(kind, inner)
    return struct.pack(">II", 4 + len(outer) + len(payload), len(outer)) + outer + payload


def kind_of(body):
    """The type of a command: its first field."""
    assert body[4] == 8, body[:16]
    return body[5]


class Connection:
    async def open(self, port):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        self.writer.write(command(CONNECT, (1, "scale"), (4, 19)))
        await self.wait(CONNECTED)
        return self

    async def wait(self, *kinds):
        while True:
            size = struct.unpack(">I", await self.reader.readexactly(4))[0]
            body = await self.reader.readexactly(size)
            kind = kind_of(body)
            if kind == PING:
                self.writer.write(command(PONG))
            if kind in (ERROR, SEND_ERROR):
                raise RuntimeError(f"the broker answers {body!r}")
            if kind in kinds:
                return body

    async def attach(self, topics, subscribe):
        for number, topic in enumerate(topics):
            if subscribe:
                self.writer.write(command(SUBSCRIBE, (1, topic), (2, "s"), (3, 1), (4, number), (5, number), (13, 1)))
                await self.wait(SUCCESS)
            self.writer.write(command(PRODUCER, (1, topic), (2, number), (3, number), (4, f"p{topic}")))
            await self.wait(PRODUCER_SUCCESS)

    async def send(self, topics, entries, payload, first):
        metadata = field(1, "p") + field(2, 1) + field(3, int(time.time() * 1000))
        body = struct.pack(">I", len(metadata)) + metadata + payload
        under_way = 0
        for sequence in range(first, first + entries):
            for number in range(len(topics)):
                self.writer.write(command(SEND, (1, number), (2, sequence), payload=body))
                under_way += 1
                if under_way >= WINDOW:
                    await self.writer.drain()
                    await self.wait(RECEIPT)
                    under_way -= 1
        while under_way:
            await self.wait(RECEIPT)
            under_way -= 1

    def close(self):
        self.writer.close()


class Broker:
    def __init__(self, data, port):
        self.data, self.port = data, port
        self.start()

    def start(self):
        began = time.monotonic()
        self.process = subprocess.Popen([HULSE, "standalone", "--data-dir", self.data, "--broker-port", str(self.port),
                                         "--web-port", str(self.port + 1)], stdout=subprocess.PIPE,
                                        stderr=open(self.data.parent / "log", "ab"), text=True)
        line = self.process.stdout.readline()
        assert "ready" in line, line
        self.took = time.monotonic() - began

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def memory(self, what="VmRSS"):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{what}:\s+(\d+)", text)[1]) / 1000

    def metric(self, name):
        text = subprocess.run(["curl", "-s", "--noproxy", "*", f"http://127.0.0.1:{self.port + 1}/metrics"],
                              capture_output=True, text=True, check=True).stdout
        return float(re.search(rf"^{name}\S* (\S+)$", text, re.MULTILINE)[1])

    def post(self, path):
        subprocess.run(["curl", "-sf", "--noproxy", "*", "-X", "POST", f"http://127.0.0.1:{self.port + 1}{path}"],
                       check=True)


def disk(folder):
    return sum(p.stat().st_blocks * 512 for p in folder.rglob("*") if p.is_file()) / 1e6


async def attach_all(port, shares, subscribe):
    async def one(topics):
        connection = await Connection().open(port)
        await connection.attach(topics, subscribe)
        return connection
    return await asyncio.gather(*(one(topics) for topics in shares))


async def run(options, broker):
    topics = [f"persistent://public/default/scale-{i}" for i in range(options.topics)]
    shares = [topics[i::options.connections] for i in range(options.connections)]
    print(f"empty broker: start {broker.took:.2f} s, memory {broker.memory():.0f} MB")
    began = time.monotonic()
    connections = await attach_all(broker.port, shares, True)
    print(f"{options.topics} topics with a subscription and a producer each on {options.connections} connections: "
          f"{time.monotonic() - began:.1f} s, memory {broker.memory():.0f} MB")
    payload = os.urandom(options.entry)
    entries = int(options.gigabytes * 1e9 / options.entry / options.topics)
    began = time.monotonic()
    await asyncio.gather(*(c.send(share, entries, payload, 0) for c, share in zip(connections, shares)))
    took = time.monotonic() - began
    print(f"backlog of {options.gigabytes} GB in entries of {options.entry} B: {took:.1f} s "
          f"({options.gigabytes * 1000 / took:.0f} MB/s), memory {broker.memory():.0f} MB, "
          f"peak {broker.memory('VmHWM'):.0f} MB, disk {disk(broker.data):.0f} MB")
    for connection in connections:
        connection.close()
    for end in ("kill -9", "kill -9 after a start"):
        broker.kill()
        broker.start()
        print(f"start after {end}: {broker.took:.2f} s, memory {broker.memory():.0f} MB")
    began = time.monotonic()
    connections = await attach_all(broker.port, shares, True)
    print(f"all connected again: {time.monotonic() - began:.1f} s, memory {broker.memory():.0f} MB")
    began = time.monotonic()
    await asyncio.gather(*(c.send(share, 1, payload, 1000000) for c, share in zip(connections, shares)))
    print(f"an entry to each topic: {time.monotonic() - began:.1f} s, memory {broker.memory():.0f} MB, "
          f"peak {broker.memory('VmHWM'):.0f} MB")
    began = time.monotonic()
    # Half of the topics are consumed: every segment keeps half of what is in it.
    for number, topic in enumerate(topics):
        if number % 2:
            broker.post(f"/admin/v2/persistent/public/default/scale-{number}/subscription/s/skip_all")
    print(f"half of the topics consumed: {time.monotonic() - began:.1f} s")
    held, still = 0, 0
    for _ in range(options.settle):
        before = held
        live, held = broker.metric("hulse_storage_live_bytes") / 1e6, broker.metric("hulse_storage_disk_bytes") / 1e6
        still = still + 1 if held == before else 0
        if still == 15:
            break
        time.sleep(1)
    print(f"{time.monotonic() - began:.0f} s after it began: the log holds {held:.0f} MB, {live:.0f} MB of it are "
          f"needed; disk {disk(broker.data):.0f} MB; memory peak {broker.memory('VmHWM'):.0f} MB")
    for connection in connections:
        connection.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topics", type=int, default=10000)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--entry", type=int, default=10000)
    parser.add_argument("--settle", type=int, default=300)
    parser.add_argument("--port", type=int, default=26750)
    parser.add_argument("--data", type=pathlib.Path)
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hulse-scale-", dir=options.data))
    broker = Broker(folder / "data", options.port)
    try:
        asyncio.run(run(options, broker))
    finally:
        broker.kill()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

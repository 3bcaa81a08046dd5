#!/usr/bin/env python3
"""Sends records until it is told to stop (SIGTERM), and writes down which of them got a receipt.

    writer.py URL TOPIC NAME ACKNOWLEDGED [--unbatched] [--keys N] [--pending N]

A process of its own, so that nothing it knows dies with the broker. A line of the file is a sequence number. A
record says who sent it, its key, its number and a checksum; the last line of the output is how many were sent.
"""
import argparse
import os
import signal
import threading
import zlib

import pulsar


MARK = "mark"  # the name of what takers send, which is nobody's to check


def record(name, key, number):
    text = f"{name} {key} {number} " + "x" * (number * 37 % 400)
    return f"{zlib.crc32(text.encode()):08x} {text}".encode()


def parse(data):
    """Name, key and number of a record; None when its checksum is wrong."""
    checksum, _, text = data.partition(b" ")
    if int(checksum, 16) != zlib.crc32(text):
        return None
    name, key, number, _ = text.decode().split(" ")
    return name, int(key), int(number)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("topic")
    parser.add_argument("name")
    parser.add_argument("acknowledged")
    parser.add_argument("--unbatched", action="store_true")
    parser.add_argument("--keys", type=int, default=3)
    parser.add_argument("--pending", type=int, default=500)
    options = parser.parse_args()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    out = os.open(options.acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    failures = []

    def noted(number, result):
        if result == pulsar.Result.Ok:
            os.write(out, b"%d\n" % number)
        else:
            failures.append((number, result))

    client = pulsar.Client(options.url, operation_timeout_seconds=120,
                           logger=pulsar.ConsoleLogger(pulsar.LoggerLevel.Error))
    producer = client.create_producer(options.topic, producer_name=options.name, send_timeout_millis=0,
                                      block_if_queue_full=True, max_pending_messages=options.pending,
                                      batching_enabled=not options.unbatched, batching_max_publish_delay_ms=2)
    print("sending", flush=True)
    number = 0
    while not stopping.is_set():
        key = number % options.keys
        producer.send_async(record(options.name, key, number), lambda result, _, n=number: noted(n, result),
                            partition_key=str(key))
        number += 1
        if number % 100 == 0:
            stopping.wait(0.005)  # leaves the machine to the others: a flood is not what is asked here
    producer.flush()
    os.fsync(out)
    print(f"sent {number}, refused {failures[:3]}", flush=True)
    client.close()


if __name__ == "__main__":
    main()

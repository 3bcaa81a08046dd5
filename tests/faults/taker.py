#!/usr/bin/env python3
"""Takes messages from a subscription and acknowledges them one by one until it is told to stop (SIGTERM).

    taker.py URL TOPIC SUBSCRIPTION LIVES TAKEN

LIVES is a file that is changed before every fault. What is acknowledged is durable when a message sent afterwards to
the same topic has its receipt, for the broker stores both in their order, and no fault came between: then the ids go
to TAKEN. One that is delivered again later is written there too, after the word `again`.
"""
import argparse
import os
import pathlib
import signal
import threading

import pulsar

import writer

AT_ONCE = 300


def main():
    parser = argparse.ArgumentParser()
    for name in ("url", "topic", "subscription", "lives", "taken"):
        parser.add_argument(name)
    options = parser.parse_args()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    lives = pathlib.Path(options.lives)
    out = os.open(options.taken, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    client = pulsar.Client(options.url, operation_timeout_seconds=120,
                           logger=pulsar.ConsoleLogger(pulsar.LoggerLevel.Error))
    marks = client.create_producer(options.topic, send_timeout_millis=0)
    settled, mark = set(), 0
    print("taking", flush=True)
    while not stopping.is_set():
        life = lives.read_text()
        consumer = client.subscribe(options.topic, options.subscription, batch_index_ack_enabled=True)
        taken = []
        try:
            while len(taken) < AT_ONCE and not stopping.is_set():
                message = consumer.receive(timeout_millis=300)
                identity = message.message_id()
                place = (identity.ledger_id(), identity.entry_id(), identity.batch_index())
                if place in settled:
                    os.write(out, b"again %d:%d:%d\n" % place)
                consumer.acknowledge(message)
                taken.append(place)
        except pulsar.Timeout:
            pass  # the broker has no more now, or is away
        except pulsar.PulsarException as error:
            print(f"taking: {error}", flush=True)
        try:
            consumer.close()  # sends what was acknowledged
            marks.send(writer.record(writer.MARK, 0, mark))
            mark += 1
        except pulsar.PulsarException as error:
            print(f"settling: {error}", flush=True)
            continue
        if life == lives.read_text():
            settled.update(taken)
            os.write(out, b"".join(b"%d:%d:%d\n" % place for place in taken))
    print(f"settled {len(settled)}", flush=True)
    client.close()


if __name__ == "__main__":
    main()

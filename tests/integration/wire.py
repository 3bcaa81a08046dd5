"""The Pulsar protocol by hand, for what client libraries do not let a test send or see.

A message is written as pairs of field number and value (int, str, bytes or such a list), and read as a dict of field
number to the list of its values: ints, and bytes for everything else.
"""
import contextlib
import socket
import struct

CONNECT, CONNECTED, SUBSCRIBE, PRODUCER, SEND, SEND_RECEIPT, MESSAGE, FLOW, SUCCESS = 2, 3, 4, 5, 6, 7, 9, 11, 13
ERROR, CLOSE_CONSUMER, PRODUCER_SUCCESS, PING, PONG, SEEK = 14, 16, 17, 18, 19, 28
GET_LAST_MESSAGE_ID, LAST_MESSAGE_ID, GET_TOPICS, TOPICS = 29, 30, 32, 33


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def encode(fields):
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
            continue
        inner = value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else encode(value)
        out += varint(number << 3 | 2) + varint(len(inner)) + inner
    return out


def decode(data):
    out = {}
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
    while at < len(data):
        key = number()
        if key & 7 == 0:
            value = number()
        else:
            assert key & 7 == 2, f"wire type {key & 7} is not expected here"
            size = number()
            value = data[at:at + size]
            at += size
        out.setdefault(key >> 3, []).append(value)
    return out


class Connection:
    """One that has said CONNECT. `flags`: numbers of the FeatureFlags that are set."""

    def __init__(self, port, flags=()):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.send(CONNECT, [(1, "test"), (4, 20), (10, [(flag, 1) for flag in flags])])
        self.expect(CONNECTED)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.socket.close()

    def send(self, kind, fields):
        command = encode([(1, kind), (kind, fields)])
        self.socket.sendall(struct.pack(">II", len(command) + 4, len(command)) + command)

    def _read(self, count):
        out = b""
        while len(out) < count:
            more = self.socket.recv(count - len(out))
            assert more, "the broker closed the connection"
            out += more
        return out

    def receive(self):
        """Kind, fields and entry of the next command; a PING is answered."""
        while True:
            frame = self._read(struct.unpack(">I", self._read(4))[0])
            size = struct.unpack(">I", frame[:4])[0]
            command = decode(frame[4:4 + size])
            kind = command[1][0]
            if kind != PING:
                return kind, decode(command[kind][0]), frame[4 + size:]
            self.send(PONG, [])

    def expect(self, kind):
        """Fields and entry of the next command, which must be of this kind."""
        got, fields, entry = self.receive()
        assert got == kind, f"command {got} came, {kind} was expected: {fields}"
        return fields, entry

    def ask(self, kind, fields, answer):
        self.send(kind, fields)
        return self.expect(answer)[0]

"""A TCP proxy of the tests' own: it can cut every connection, in the middle of what is sent, or let them be and carry
nothing any more, as a cable that was pulled."""
import contextlib
import selectors
import socket
import struct
import threading

from support import free_port


class Proxy:
    def __init__(self, target):
        self.target, self.port = target, free_port()
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.lock = threading.Lock()
        self.pairs, self.silent, self.cut_after, self.stopping = [], False, None, False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"pulsar://127.0.0.1:{self.port}"

    def _accept(self):
        while not self.stopping:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                continue  # the broker is away, or the proxy ends: the client sees its connection closed
            server.settimeout(None)
            with self.lock:
                # One that was silenced stays so; new ones are carried.
                pair = {"ends": (client, server), "silent": False}
                self.pairs.append(pair)
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=(pair, one, other), daemon=True).start()

    def _carry(self, pair, one, other):
        with selectors.DefaultSelector() as ready, contextlib.suppress(OSError, ValueError):
            ready.register(one, selectors.EVENT_READ)
            while not self.stopping:
                if not ready.select(timeout=0.2):
                    continue
                if pair["silent"]:
                    threading.Event().wait(0.05)  # nothing is taken off the wire
                    continue
                data = one.recv(65536)
                if not data:
                    break
                with self.lock:
                    if self.cut_after is not None and other is pair["ends"][1]:
                        self.cut_after -= len(data)
                        if self.cut_after < 0:
                            # In the middle of a frame, as likely as not.
                            other.sendall(data[:self.cut_after])
                            self.cut_after = None
                            break
                other.sendall(data)
        self._close(pair)

    def _close(self, pair):
        for end in pair["ends"]:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no goodbye
                end.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                end.close()
        with self.lock:
            if pair in self.pairs:
                self.pairs.remove(pair)

    def cut(self):
        """Every connection, now."""
        with self.lock:
            pairs = list(self.pairs)
        for pair in pairs:
            self._close(pair)

    def cut_in(self, count):
        """The connection that carries the last of so many bytes to the broker."""
        with self.lock:
            self.cut_after = count

    def silence(self):
        """The connections there are stay open and carry nothing any more."""
        with self.lock:
            for pair in self.pairs:
                pair["silent"] = True
            return len(self.pairs)

    def close(self):
        self.stopping = True
        self.listener.close()
        self.cut()

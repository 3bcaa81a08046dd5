"""Speaks enough of Elasticsearch to be written to, and says what a test wants it to say."""
import http.server
import json
import sys
import threading


class Fake(http.server.ThreadingHTTPServer):
    """An Elasticsearch that answers as `judge` says.

    judge(None, n) is asked once for the n-th bulk: a status for the whole answer, or None to look at its items.
    judge(document, n) then gives the status of each item. Either may wait, which holds the sender back.
    """
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, judge, port=0):
        super().__init__(("127.0.0.1", port), FakeHandler)
        self.judge, self.stored, self.requests, self.headers_seen = judge, [], 0, []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """A sink that is killed or stopped resets its connections; everything else is told."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class FakeHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Not on the test's output."""

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def do_GET(self):
        self.server.headers_seen.append(dict(self.headers))
        self.answer(200, {"name": "n", "cluster_name": "c", "version": {"number": "7.10.2", "build_flavor": "oss"},
                          "tagline": "You Know, for Search"})

    do_HEAD = do_GET

    def do_POST(self):
        fake = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fake.headers_seen.append(dict(self.headers))
        fake.requests += 1
        lines, items = body.decode().split("\n")[:-1], []
        whole = fake.judge(None, fake.requests)
        if whole:
            return self.answer(whole, {"error": "as told", "status": whole})
        for action, source in zip(lines[::2], lines[1::2]):
            operation, target = next(iter(json.loads(action).items()))
            status = fake.judge(json.loads(source), fake.requests)
            item = {"_index": target.get("_index"), "_id": target.get("_id", "x"), "status": status}
            if status >= 300:
                item["error"] = {"type": "told", "reason": f"status {status} as told"}
            else:
                fake.stored.append(json.loads(source))
            items.append({operation: item})
        return self.answer(200, {"took": 1, "errors": any(next(iter(i.values()))["status"] >= 300 for i in items),
                                 "items": items})

    do_PUT = do_POST

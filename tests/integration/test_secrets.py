"""No secret is shown or stored in clear: one canary in every place a secret can be given, looked for everywhere."""
import base64
import http.server as servers
import json
import pathlib
import threading

import pytest

from support import Standalone, WorkerProcess, http, http_status, wait_until
from test_worker import Admin

CANARY = "canary-4f1d7b0c93e2"


class Debug(Standalone):
    """A standalone that logs everything."""

    env = {}

    def start(self, ready=True):
        self.process = self.workshop.start("--debug", "standalone", "--data-dir", self.data, "--broker-port", self.port,
                                           "--web-port", self.web_port, *self.arguments, env=self.env)
        wait_until(lambda: http_status(self.web + "/ready") == 200, "GET /ready answers 200")


class Echo(servers.ThreadingHTTPServer):
    """A target that refuses every document and repeats the credentials it was shown, as careless ones do."""
    daemon_threads = True

    def __init__(self, status):
        super().__init__(("127.0.0.1", 0), EchoHandler)
        self.status, self.seen = status, set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def host(self):
        return f"127.0.0.1:{self.server_port}"


class EchoHandler(servers.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Not on the test's output."""

    def do_GET(self):
        self.say(200, {"name": "n", "version": {"number": "7.10.2", "build_flavor": "oss"},
                       "tagline": "You Know, for Search"})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        shown = self.headers.get("Authorization", "none")
        if shown.startswith("Basic "):
            shown = base64.b64decode(shown.split()[1]).decode()
        self.server.seen.add(shown)
        self.say(self.server.status, {"error": f"not with {shown}", "status": self.server.status})

    def say(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_HEAD = do_GET
    do_PUT = do_POST


@pytest.fixture
def broker(workshop):
    class Here(Debug):
        env = {"HULSE_TEST_CANARY": CANARY}
    return Here(workshop)


@pytest.fixture
def admin(workshop, broker):
    return Admin(workshop, broker)


def create(admin, workshop, name, configs, secrets=None, verb="create", **more):
    """With a file: what stands on a command line can be seen by everybody on the machine."""
    file = workshop.file(f"{name}-{verb}.json", {"name": name, "inputs": ["t"], "sinkType": "elastic_search",
                                                 "sourceSubscriptionPosition": "Earliest", "configs": configs,
                                                 **({"secrets": secrets} if secrets else {}), **more})
    return admin.run("sinks", verb, "--sink-config-file", str(file))


def hits_in(folder):
    """Every file of the folder that holds the canary, plain or in Base64."""
    needles = [CANARY.encode()] + [base64.b64encode(b"x" * i + CANARY.encode())[4:-4] for i in range(3)]
    return [(str(path), needle) for path in folder.rglob("*") if path.is_file() for needle in needles
            if needle in path.read_bytes()]


def command_lines():
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield (entry / "cmdline").read_bytes()
            except OSError:
                continue  # it ended just now


def test_a_canary_is_nowhere(workshop, broker, admin, connect):
    rejects, denies = Echo(400), Echo(401)
    secret_file = workshop.folder / "secret"
    secret_file.write_text(CANARY + "\n")
    mounted = workshop.folder / "mounted"
    mounted.mkdir()
    (mounted / "token").write_text(CANARY)
    places = {
        "literal": ({"elasticSearchUrl": f"http://{rejects.host}", "username": "me", "password": CANARY}, None),
        "url": ({"elasticSearchUrl": f"http://me:{CANARY}@{rejects.host}"}, None),
        "denied": ({"elasticSearchUrl": f"http://{denies.host}", "username": "me", "password": CANARY}, None),
        "escaped": ({"elasticSearchUrl": f"http://{rejects.host}", "apiKey": "literal:env:" + CANARY}, None),
        "secrets": ({"elasticSearchUrl": f"http://{rejects.host}"}, {"token": CANARY}),
        "environment": ({"elasticSearchUrl": f"http://{rejects.host}", "token": "env:HULSE_TEST_CANARY"}, None),
        "file": ({"elasticSearchUrl": f"http://{rejects.host}", "token": f"file:{secret_file}"}, None),
        "mounted": ({"elasticSearchUrl": f"http://{rejects.host}"}, {"token": {"path": str(mounted), "key": "token"}}),
        "nobody": ({"elasticSearchUrl": "http://127.0.0.1:1", "ssl": {"keystorePassword": CANARY}, "token": CANARY}, None),
    }
    said = []
    for name, (configs, secrets) in places.items():
        done = create(admin, workshop, name, configs, secrets)
        assert done.returncode == 0, (name, done.stderr)
        said.append(done.stdout + done.stderr)
    # What is refused is not repeated either: misspelt, of the wrong kind, a reference that leads nowhere.
    for number, (configs, secrets) in enumerate([
            ({"elasticSearchUrl": f"http://{rejects.host}", "pasword": CANARY}, None),
            ({"elasticSearchUrl": f"http://{rejects.host}", "username": "me", "password": {"is": CANARY}}, None),
            ({"elasticSearchUrl": f"http://{rejects.host}", "token": f"env:{CANARY}"}, None),
            ({"elasticSearchUrl": f"http://{rejects.host}"}, {"indexNumberOfShards": CANARY}),
            ({"elasticSearchUrl": f"http://{rejects.host}", "username": "me", "password": CANARY, "token": "x"}, None)]):
        done = create(admin, workshop, f"wrong{number}", configs, secrets)
        assert done.returncode == 1, number
        said.append(done.stdout + done.stderr)
    done = create(admin, workshop, "literal", {**places["literal"][0], "password": CANARY + "2", "indexName": "i"},
                  verb="update")
    assert done.returncode == 0 and "indexName" in done.stdout, done.stderr
    said.append(done.stdout)

    producer = connect(broker.url).create_producer("t")
    producer.send(b'{"n": 1}')
    # Every secret has reached its target, and what the target said of it is in the status.
    wait_until(lambda: {"me:" + CANARY + "2", "me:" + CANARY, f"Bearer {CANARY}", f"ApiKey env:{CANARY}"} <= rejects.seen,
               "every target was shown its secret")
    wait_until(lambda: admin.status("sinks", "denied")["hulse"]["state"] == "failed", "a refused login ends it")
    wait_until(lambda: all(admin.status("sinks", name)["hulse"]["deadLettered"] == 1 for name in
                           ("literal", "url", "escaped", "secrets", "environment", "file", "mounted")),
               "all are rejected")
    assert "not with" in admin.status("sinks", "file")["latestSinkExceptions"][0]["exceptionString"]
    wait_until(lambda: admin.status("sinks", "nobody")["numSinkExceptions"] > 0, "nobody answers")

    # It is all read again after a kill.
    broker.kill()
    rejects.seen.clear()
    broker.start()
    connect(broker.url).create_producer("t").send(b'{"n": 2}')
    wait_until(lambda: {"me:" + CANARY + "2", "me:" + CANARY, f"Bearer {CANARY}", f"ApiKey env:{CANARY}"} <= rejects.seen,
               "every target was shown its secret again")
    wait_until(lambda: admin.status("sinks", "denied")["hulse"]["state"] == "failed", "a refused login ends it again")

    for name in places:
        said.append(admin("sinks", "get", "--name", name))
        said.append(admin("sinks", "status", "--name", name))
    config = json.loads(admin("sinks", "get", "--name", "environment"))["configs"]
    assert config["token"] == "env:HULSE_TEST_CANARY", "where a secret is kept is shown"
    assert json.loads(admin("sinks", "get", "--name", "literal"))["configs"]["password"] == "********"
    for path in ("/metrics", "/admin/v2/worker/assignments", "/admin/v2/worker-stats/metrics"):
        said.append(http("GET", broker.web + path)[1].decode())
    assert not [text for text in said if CANARY in text]
    assert not [line for line in command_lines() if CANARY.encode() in line]
    admin("sinks", "delete", "--name", "literal")
    broker.stop()
    assert not hits_in(broker.data)
    logs = "".join(process.output() for process in workshop.processes)
    assert "went to" in logs and CANARY not in logs


def test_what_is_missing_is_named(workshop, broker, admin):
    done = create(admin, workshop, "x", {"elasticSearchUrl": "http://127.0.0.1:1", "username": "me",
                                         "password": "env:HULSE_NOT_THERE"}, {"ssl.keystorePassword": "file:/not/there"})
    assert done.returncode == 1
    assert "password: the environment variable HULSE_NOT_THERE is not set" in done.stderr
    assert "ssl.keystorePassword: cannot read /not/there: No such file" in done.stderr
    assert json.loads(admin("sinks", "list")) == []
    # The same words without a server.
    file = workshop.file("x.json", {"name": "x", "inputs": ["t"], "sinkType": "elastic_search", "configs": {
        "elasticSearchUrl": "http://127.0.0.1:1", "token": "env:HULSE_NOT_THERE"}})
    done = workshop.run("check", str(file))
    assert done.returncode == 1 and "token: the environment variable HULSE_NOT_THERE is not set" in done.stdout
    assert workshop.run("check", "--offline", str(file)).returncode == 0


def test_a_file_that_comes_back_is_read_again(workshop, broker, admin, connect):
    target = Echo(400)
    secret = workshop.folder / "token"
    secret.write_text("first")
    assert create(admin, workshop, "x", {"elasticSearchUrl": f"http://{target.host}", "token": f"file:{secret}"}
                  ).returncode == 0
    producer = connect(broker.url).create_producer("t")
    producer.send(b"{}")
    wait_until(lambda: "Bearer first" in target.seen, "the first secret is used")
    secret.unlink()
    admin("sinks", "restart", "--name", "x")
    wait_until(lambda: "cannot read" in admin.status("sinks", "x")["error"], "status says what is missing")
    secret.write_text("second")
    producer.send(b"{}")
    wait_until(lambda: "Bearer second" in target.seen, "the new one is used")


def test_another_key_opens_nothing(workshop, broker, admin):
    assert create(admin, workshop, "x", {"elasticSearchUrl": "http://127.0.0.1:1", "token": CANARY}).returncode == 0
    broker.stop()
    key = broker.data / "secrets.key"
    assert key.stat().st_mode & 0o777 == 0o600
    key.rename(workshop.folder / "old.key")
    broker.start()
    wait_until(lambda: "secretsKeyFile" in admin.status("sinks", "x")["error"], "status says why it does not run")
    assert "secretsKeyFile" in admin.refused("sinks", "update", "--name", "x", "--parallelism", "2")
    assert json.loads(admin("sinks", "get", "--name", "x"))["configs"]["token"] == "********"
    broker.stop()
    broker.arguments = ("--secrets-key-file", workshop.folder / "old.key")
    broker.start()
    wait_until(lambda: "secretsKeyFile" not in admin.status("sinks", "x")["error"], "the old key opens it")
    admin("sinks", "update", "--name", "x", "--parallelism", "2")


def test_workers_of_one_bus_share_a_key(workshop):
    """Without one they take references only; with one the secret arrives wherever the instance runs."""
    bus = workshop.standalone(arguments=("--functions-worker-enabled", "false"))
    target = Echo(400)
    literal = {"elasticSearchUrl": f"http://{target.host}", "token": CANARY}
    bare = WorkerProcess(workshop, bus.url, (), name="bare")
    admin = Admin(workshop, bare)
    done = create(admin, workshop, "x", literal)
    assert done.returncode == 1 and "secretsKeyFile" in done.stderr, done.stderr
    assert create(admin, workshop, "y", {**literal, "token": "literal:x"}).returncode == 1
    (workshop.folder / "token").write_text(CANARY)
    assert create(admin, workshop, "z", {**literal, "token": f"file:{workshop.folder / 'token'}"}).returncode == 0
    admin("sinks", "delete", "--name", "z")
    bare.kill()
    key = ("--secrets-key-file", str(workshop.folder / "bus.key"))
    first, second = (WorkerProcess(workshop, bus.url, key, name=name) for name in ("first", "second"))
    admin = Admin(workshop, first)
    done = create(admin, workshop, "x", literal, parallelism=2)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: {one["status"]["workerId"] for one in json.loads(
        Admin(workshop, second)("sinks", "status", "--name", "x"))["instances"] if one["status"]["running"]}
        == {"first", "second"}, "each runs one")
    bus.stop()
    assert not hits_in(bus.data)

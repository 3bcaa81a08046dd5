"""Starts the programs under test, talks to them, and waits for conditions instead of for time to pass."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HULSE_BUILD", ROOT / "build" / "release"))
HULSE = BUILD / "bin" / "hulse"

# Generous: a test that waits this long has failed, however slow the machine is.
SECONDS = 60
POLL = 0.02


def wait_until(condition, what, seconds=SECONDS):
    """The first true value of condition(). `what` is said when it does not come."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {seconds} s in vain until {what}"
        time.sleep(POLL)


def stays_true(condition, what, seconds):
    """Fails as soon as condition() is not true, within the given time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert condition(), what
        time.sleep(POLL)


_given_ports = set()


def free_port(kind=socket.SOCK_STREAM):
    """A port nobody listens on, and that no other call of this run was given."""
    while True:
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in _given_ports:
            _given_ports.add(port)
            return port


def listens(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def http(method, url, body=None, headers=None, seconds=SECONDS):
    """Status and body of a request; an answer that says no is an answer."""
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with _opener.open(request, timeout=seconds) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()


def http_status(url):
    """The status of a GET, or None while nobody answers."""
    try:
        return http("GET", url, seconds=5)[0]
    except OSError:
        return None


class Process:
    """A running program in a process group of its own, its output in a file."""

    def __init__(self, command, log, cwd=None, env=None):
        self.command = [str(word) for word in command]
        self.log = pathlib.Path(log)
        with open(self.log, "wb") as out:
            self.popen = subprocess.Popen(self.command, stdout=out, stderr=subprocess.STDOUT, cwd=cwd,
                                          stdin=subprocess.DEVNULL, start_new_session=True,
                                          env={**os.environ, **(env or {})})

    def output(self):
        return self.log.read_text(errors="replace")

    def running(self):
        return self.popen.poll() is None

    def wait_for(self, pattern, seconds=SECONDS):
        """The match of a regular expression in the output; fails at once when the program ends without it."""
        def look():
            ended = not self.running()  # asked before reading: what it wrote last is then in the file
            match = re.search(pattern, self.output(), re.MULTILINE)
            assert match or not ended, f"{self.command[:4]} ended with {self.popen.returncode} and never said " \
                                       f"/{pattern}/:\n{self.output()}"
            return match
        return wait_until(look, f"{' '.join(self.command[:4])} says /{pattern}/", seconds)

    def wait(self, seconds=SECONDS):
        return self.popen.wait(timeout=seconds)

    def stop(self, seconds=10):
        """SIGTERM; the time it took and its exit status. It must be gone in time."""
        began = time.monotonic()
        if self.running():
            self.popen.send_signal(signal.SIGTERM)
        status = self.popen.wait(timeout=seconds)
        return time.monotonic() - began, status

    def kill(self):
        """kill -9 of the whole group: what a crash or a power cut leaves no time for."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(timeout=SECONDS)

    def memory_peak(self):
        """Largest resident size so far, in bytes."""
        return self._status("VmHWM")

    def memory(self):
        return self._status("VmRSS")

    def _status(self, field):
        text = pathlib.Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)[1]) * 1024


class Workshop:
    """A temporary folder and every program started in it; close() leaves neither."""

    def __init__(self):
        assert HULSE.exists(), f"{HULSE} is not there: make build"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hulse-"))
        self.processes = []

    def close(self):
        for process in reversed(self.processes):
            process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def logs(self):
        return "".join(f"---- {' '.join(p.command)}\n{p.output()[-20000:]}\n" for p in self.processes)

    def start(self, *arguments, program=HULSE, cwd=None, env=None):
        log = self.folder / f"log-{len(self.processes)}"
        process = Process([program, *arguments], log, cwd=cwd or self.folder, env=env)
        self.processes.append(process)
        return process

    def run(self, *arguments, program=HULSE, seconds=SECONDS, cwd=None, env=None, input=None):
        """Runs to the end: the completed process, its text in .stdout and .stderr."""
        return subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True, timeout=seconds,
                              cwd=cwd or self.folder, env={**os.environ, **(env or {})},
                              **({"input": input} if input is not None else {"stdin": subprocess.DEVNULL}))

    def file(self, name, content):
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def standalone(self, **settings):
        return Standalone(self, **settings)


class Standalone:
    """`hulse standalone` on free ports, with a data folder that a restart finds again."""

    def __init__(self, workshop, data=None, arguments=()):
        self.workshop = workshop
        self.data = data or workshop.folder / "data"
        self.port, self.web_port = free_port(), free_port()
        self.arguments = arguments
        self.process = None
        self.start()

    @property
    def url(self):
        return f"pulsar://127.0.0.1:{self.port}"

    @property
    def web(self):
        return f"http://127.0.0.1:{self.web_port}"

    def start(self, ready=True):
        self.process = self.workshop.start("standalone", "--data-dir", self.data, "--broker-port", self.port,
                                           "--web-port", self.web_port, *self.arguments)

        def is_ready():
            assert self.process.running(), f"hulse standalone ended:\n{self.process.output()}"
            return http_status(self.web + "/ready") == 200
        if ready:
            wait_until(is_ready, "GET /ready answers 200")

    def stop(self):
        took, status = self.process.stop()
        assert status == 0, f"SIGTERM ended it with status {status}:\n{self.process.output()}"
        return took

    def kill(self):
        self.process.kill()

    def localrun(self, kind, *arguments, **settings):
        """A source or sink beside this broker: `hulse sources localrun …`."""
        return self.workshop.start(kind, "localrun", "--broker-service-url", self.url, *arguments, **settings)

    def source(self, connector, topic, config, name="source", *arguments):
        return self.localrun("sources", "--source-type", connector, "--name", name, "--destination-topic-name", topic,
                             "--source-config", json.dumps(config), *arguments)

    def sink(self, connector, topic, config, name="sink", *arguments):
        return self.localrun("sinks", "--sink-type", connector, "--name", name, "--inputs", topic,
                             "--subs-position", "Earliest", "--sink-config", json.dumps(config), *arguments)


class WorkerProcess:
    """`hulse worker` for a bus that is elsewhere."""

    def __init__(self, workshop, url, arguments=(), name=None):
        self.workshop, self.url, self.arguments = workshop, url, arguments
        self.web_port = free_port()
        self.name = name or f"w{self.web_port}"
        self.folder = workshop.folder / self.name  # what it writes lies apart from what others write
        self.folder.mkdir()
        self.process = None
        self.start()

    @property
    def web(self):
        return f"http://127.0.0.1:{self.web_port}"

    def start(self):
        self.process = self.workshop.start("worker", "--service-url", self.url, "--web-port", self.web_port, "--worker-id",
                                           self.name, *self.arguments, cwd=self.folder)
        self.process.wait_for("is ready: web")

    def get(self, path):
        status, body = http("GET", f"{self.web}/admin/{path}")
        return json.loads(body) if status == 200 else None

    def kill(self):
        self.process.kill()


def systems(*arguments, seconds=600):
    """tests/systems/systems; skips the test, with its reason, when this machine cannot have the system."""
    import pytest
    done = subprocess.run([ROOT / "tests/systems/systems", *arguments], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=seconds)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, f"systems {' '.join(arguments)} failed: {done.stderr}"
    return done.stdout.strip()

"""What bench/run.py measures: a life of Hulse and a life of Apache Pulsar, each with fresh data, and their processes."""
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
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "release"
TOOLS = BUILD / "bench"
SYSTEMS = ROOT / "tests" / "systems" / "systems"
TICKS = os.sysconf("SC_CLK_TCK")
LIMIT = 180  # seconds one measurement may take
POLL = 0.02

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(url, method="GET", body=None):
    request = urllib.request.Request(url, method=method, data=body, headers={"Content-Type": "application/json"})
    with _opener.open(request, timeout=30) as answer:
        return answer.read()


def wait_until(condition, what, seconds=LIMIT, poll=POLL):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds} s in vain until {what}")
        time.sleep(poll)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port, kind="tcp"):
    """Whether a socket is bound there, as the kernel lists it: asking it would be load."""
    table = pathlib.Path(f"/proc/net/{kind}").read_text() + pathlib.Path(f"/proc/net/{kind}6").read_text()
    rows = [line.split() for line in table.splitlines() if ":" in line]
    return any(row[1].endswith(f":{port:04X}") and (kind == "udp" or row[3] == "0A") for row in rows)


def tree(pid):
    """The process and everything that descends from it."""
    children = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int(entry.joinpath("stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def memory(pids, field):
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            found = re.search(rf"^{field}:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
            total += int(found[1]) * 1024 if found else 0
    return total / 1e6


class System:
    """A broker with connectors beside it. One object is one life with fresh data."""

    def __init__(self, scratch):
        self.scratch = pathlib.Path(tempfile.mkdtemp(dir=scratch))
        self.processes = []

    def launch(self, name, *command, env=None):
        log = open(self.scratch / f"{name}.log", "wb")
        process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=subprocess.STDOUT,
                                   stdin=subprocess.DEVNULL, start_new_session=True, cwd=self.scratch,
                                   env={**os.environ, **(env or {})})
        log.close()
        process.log = self.scratch / f"{name}.log"
        self.processes.append(process)
        return process

    def end(self, process):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process in self.processes:
            self.processes.remove(process)

    def running(self, process):
        if process.poll() is not None:
            raise RuntimeError(f"{process.args[:4]} ended: {process.log.read_text(errors='replace')[-3000:]}")
        return True

    def close(self):
        for process in reversed(list(self.processes)):
            self.end(process)
        shutil.rmtree(self.scratch, ignore_errors=True)

    def restart(self):
        """The broker ends and comes back with what it has stored; nothing of it is in the system's memory."""
        self.stop_broker()
        for file in self.data.rglob("*"):
            if file.is_file():
                with open(file, "rb") as opened:
                    os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self.start_broker()

    def pids(self):
        return [pid for process in self.processes for pid in tree(process.pid)]

    def stored(self, topic):
        """Messages and bytes that producers have put into the topic in this life."""
        path = f"{self.web}/admin/v2/persistent/public/default/{topic}/stats"
        try:
            stats = json.loads(fetch(path))
        except urllib.error.HTTPError as refusal:
            if refusal.code == 404:
                return 0, 0
            raise
        return stats["msgInCounter"], stats["bytesInCounter"]


class Hulse(System):
    label = "Hulse"
    poll = POLL

    def __init__(self, scratch):
        super().__init__(scratch)
        self.port, self.web_port = free_port(), free_port()
        self.web = f"http://127.0.0.1:{self.web_port}"
        self.data = self.scratch / "data"
        self.start_broker()

    def start_broker(self):
        began = time.monotonic()
        self.broker = self.launch("standalone", BUILD / "bin/hulse", "standalone", "--data-dir", self.data,
                                  "--broker-port", self.port, "--web-port", self.web_port)

        def ready():
            self.running(self.broker)
            with contextlib.suppress(OSError):
                return fetch(f"{self.web}/ready") is not None
        wait_until(ready, "Hulse is ready", poll=0.002)
        self.ready_seconds = time.monotonic() - began

    def stop_broker(self):
        self.end(self.broker)

    def localrun(self, kind, *arguments):
        return self.launch(arguments[1], BUILD / "bin/hulse", kind, "localrun", "--broker-service-url",
                           f"pulsar://127.0.0.1:{self.port}", *arguments)

    def netty(self, topic, type, framing):
        port = free_port()
        config = {"type": type, "host": "127.0.0.1", "port": port}
        if type == "tcp":
            config["framing"] = framing
        source = self.localrun("sources", "--name", f"netty-{port}", "--source-type", "netty",
                               "--destination-topic-name", topic, "--source-config", json.dumps(config))
        wait_until(lambda: self.running(source) and listens(port, type), "the source listens")
        return port

    def fill(self, topic, size, count, url):
        """Documents in the topic, with the sink's subscription before them: it stays when the sink stops."""
        sink = self.elastic(topic, url, bulk=1000)
        wait_until(lambda: self.running(sink) and "running" in sink.log.read_text(errors="replace"), "the sink has subscribed")
        self.end(sink)
        port = self.netty(topic, "tcp", "line")
        tool("tcp_send", "--port", port, "--size", size, "--count", count, "--payload", "json")
        wait_until(lambda: self.stored(topic)[0] >= count, "the topic is filled")
        self.end(self.processes[-1])

    def elastic(self, topic, url, bulk):
        config = {"elasticSearchUrl": url, "indexName": "bench", "bulkEnabled": True, "bulkActions": bulk}
        return self.localrun("sinks", "--name", "es", "--sink-type", "elastic_search", "--inputs", topic,
                             "--subs-position", "Earliest", "--sink-config", json.dumps(config))


class Pulsar(System):
    label = "Apache Pulsar 4.0.8"
    poll = 0.1
    port = 26140
    web = "http://127.0.0.1:26141"
    data = pathlib.Path(os.environ.get("HULSE_SYSTEMS_HOME", pathlib.Path.home() / ".cache/hulse/systems")) / "pulsar/data"
    sync = "false"

    def __init__(self, scratch):
        super().__init__(scratch)
        systems("down", "pulsar")
        systems("wipe", "pulsar")
        systems("install", "pulsar")
        self.start_broker()

    def start_broker(self):
        began = time.monotonic()
        systems("up", "pulsar", SYSTEMS_SYNC=self.sync)
        self.ready_seconds = time.monotonic() - began
        self.broker_pid = int(systems("pid", "pulsar"))

    def stop_broker(self):
        systems("down", "pulsar")

    def close(self):
        super().close()
        systems("down", "pulsar")

    def pids(self):
        return tree(self.broker_pid) + super().pids()

    def localrun(self, kind, *arguments):
        return self.launch(arguments[1], SYSTEMS, "pulsar-admin", kind, "localrun", "--broker-service-url",
                           "pulsar://127.0.0.1:26140", "--tenant", "public", "--namespace", "default", *arguments)

    def netty(self, topic, type, framing):
        port = free_port()
        config = {"type": type, "host": "127.0.0.1", "port": port, "numberOfThreads": 1}
        source = self.localrun("sources", "--name", f"netty-{port}", "--archive", systems("nar", "netty"),
                               "--destination-topic-name", topic, "--source-config", json.dumps(config))
        wait_until(lambda: self.running(source) and listens(port, type), "the source listens")
        return port

    def fill(self, topic, size, count, _):
        path = f"{self.web}/admin/v2/persistent/public/default/{topic}"
        with contextlib.suppress(urllib.error.HTTPError):
            fetch(path, "PUT")
        fetch(f"{path}/subscription/{urllib.parse.quote('public/default/es', safe='')}", "PUT", b"")
        payloads = self.scratch / "payloads"
        with open(payloads, "w") as out:
            for i in range(1000):
                out.write(('{"id":"%010d","text":"' % i).ljust(size - 2, "x") + '"}\n')
        subprocess.run([SYSTEMS, "pulsar-perf", "produce", "-f", payloads, "-e", r"\n", "-m", str(count), "-r", "40000",
                        "-u", "pulsar://127.0.0.1:26140", topic], check=True, capture_output=True, timeout=LIMIT)
        wait_until(lambda: self.stored(topic)[0] >= count, "the topic is filled")

    def elastic(self, topic, url, bulk):
        config = {"elasticSearchUrl": url, "indexName": "bench", "bulkEnabled": True, "bulkActions": bulk,
                  "compatibilityMode": "ELASTICSEARCH_7"}
        return self.localrun("sinks", "--name", "es", "--archive", systems("nar", "elastic-search"), "--inputs", topic,
                             "--subs-position", "Earliest", "--sink-config", json.dumps(config))


class SyncedPulsar(Pulsar):
    label = "Apache Pulsar 4.0.8, its sync on"
    sync = "true"


def systems(*arguments, **environment):
    done = subprocess.run([SYSTEMS, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          env={**os.environ, **environment})
    if done.returncode == 77:
        raise SystemExit(f"no peer on this machine (--no-peer measures without): {done.stderr.strip()}")
    if done.returncode:
        raise RuntimeError(f"systems {' '.join(arguments)}: {done.stderr}")
    return done.stdout.strip()


def tool(name, *arguments):
    done = subprocess.run([TOOLS / name, *map(str, arguments)], capture_output=True, text=True, timeout=LIMIT,
                          stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr}")
    return json.loads(done.stdout)

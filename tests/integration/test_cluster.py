"""Several workers on one bus: who leads, where instances run, and what happens when a worker is killed, stopped or cut off.

The bus is a standalone of its own; tests/compat/run_on_pulsar.sh runs these on Apache Pulsar."""
import json
import os
import signal
import time
import uuid

import pulsar
import pytest

from support import WorkerProcess, free_port, wait_until
from test_worker import Admin

# A dead worker's instances run elsewhere within this many seconds.
TAKEN_OVER = 10


@pytest.fixture
def bus(workshop):
    """Service URL and admin URL."""
    if "HULSE_TEST_BROKER" in os.environ:
        return os.environ["HULSE_TEST_BROKER"], os.environ["HULSE_TEST_ADMIN_URL"]
    broker = workshop.standalone(arguments=("--functions-worker-enabled", "false"))
    return broker.url, broker.web


@pytest.fixture
def workers(workshop, bus):
    return Cluster(workshop, *bus)


class Cluster:
    """Workers that remember in a namespace of their own."""

    def __init__(self, workshop, url, admin_url):
        self.workshop, self.url = workshop, url
        self.mark = uuid.uuid4().hex[:6]
        self.arguments = ("--admin-url", admin_url, "--state-namespace", f"public/workers-{self.mark}")
        self.all = []

    def add(self):
        worker = WorkerProcess(self.workshop, self.url, self.arguments, name=f"w{len(self.all)}")
        self.all.append(worker)
        return worker

    def admin(self, worker):
        return Admin(self.workshop, worker)

    def members(self, worker):
        return sorted(member["workerId"] for member in worker.get("v2/worker/cluster") or [])

    def leader(self, worker):
        return (worker.get("v2/worker/cluster/leader") or {}).get("workerId")

    def wait_members(self, *workers):
        names = sorted(worker.name for worker in workers)
        for worker in workers:
            wait_until(lambda: self.members(worker) == names and self.leader(worker) in names,
                       f"{worker.name} knows {names} and a leader")
        assert len({self.leader(worker) for worker in workers}) == 1

    def assignments(self, worker):
        return {name: sorted(instances) for name, instances in (worker.get("v2/worker/assignments") or {}).items()}

    def by_name(self, name):
        return next(worker for worker in self.all if worker.name == name)


def instances(admin, kind, name):
    return [one["status"] for one in json.loads(admin(kind, "status", "--name", name))["instances"]]


def all_run(admin, kind, name):
    return all(status["running"] for status in instances(admin, kind, name))


def topic_name():
    return f"persistent://public/default/t{uuid.uuid4().hex[:10]}"


def create_sink(admin, name, topic, *arguments):
    """Writes into the folder of whichever worker runs it."""
    admin("sinks", "create", "--name", name, "--sink-type", "file", "--inputs", topic, "--subs-position", "Earliest",
          "--sink-config", json.dumps({"path": f"{name}.{{instance}}"}), *arguments)


def written(workshop, name):
    values = []
    for file in workshop.folder.glob(f"*/{name}.*"):
        values += [json.loads(line)["value"] for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return values


def test_workers_find_each_other_and_share_the_work(workshop, workers):
    first, second = workers.add(), workers.add()
    workers.wait_members(first, second)
    admin = workers.admin(second)  # any worker takes orders
    topic = topic_name()
    create_sink(admin, "shared", topic, "--parallelism", "4")
    wait_until(lambda: {name: len(which) for name, which in workers.assignments(first).items()}
               == {first.name: 2, second.name: 2}, "each runs two instances")
    wait_until(lambda: all_run(admin, "sinks", "shared"), "all four run")
    # Each tells of the other's, and names who runs it.
    for worker in (first, second):
        seen = [status["workerId"] for status in instances(workers.admin(worker), "sinks", "shared")]
        assert sorted(seen) == sorted([first.name] * 2 + [second.name] * 2)
    # A third one gets its share.
    third = workers.add()
    workers.wait_members(first, second, third)
    wait_until(lambda: sorted(len(which) for which in workers.assignments(third).values()) == [1, 1, 2],
               "the third one has its share")
    wait_until(lambda: all_run(workers.admin(third), "sinks", "shared"), "all four run again")
    # One that goes in good order leaves it to the others at once.
    third.process.stop()
    workers.wait_members(first, second)
    wait_until(lambda: all_run(admin, "sinks", "shared"), "all four run with two workers")


@pytest.mark.parametrize("whom", ["leader", "other"])
def test_the_instances_of_a_killed_worker_run_elsewhere(workshop, workers, connect, whom):
    for _ in range(3):
        workers.add()
    workers.wait_members(*workers.all)
    leader = workers.by_name(workers.leader(workers.all[0]))
    victim = leader if whom == "leader" else next(worker for worker in workers.all if worker is not leader)
    others = [worker for worker in workers.all if worker is not victim]
    admin = workers.admin(others[0])
    topic = topic_name()
    create_sink(admin, "sink", topic, "--parallelism", "3")
    wait_until(lambda: all_run(admin, "sinks", "sink"), "all three run")
    producer = connect(workers.url).create_producer(topic)
    for number in range(300):
        producer.send(f"before {number}".encode())
    began = time.monotonic()
    victim.kill()
    for number in range(300):
        producer.send(f"after {number}".encode())
    wait_until(lambda: workers.members(others[0]) == sorted(worker.name for worker in others), "the dead one is missed")
    wait_until(lambda: all_run(admin, "sinks", "sink") and
               {status["workerId"] for status in instances(admin, "sinks", "sink")} <= {w.name for w in others},
               "all three run with the others")
    took = time.monotonic() - began
    expected = {f"{when} {number}" for when in ("before", "after") for number in range(300)}
    wait_until(lambda: expected <= set(written(workshop, "sink")), "nothing is lost")
    assert took < TAKEN_OVER, f"it took {took:.1f} s"
    # The dead one comes back, and gets its share.
    victim.start()
    workers.wait_members(*workers.all)
    wait_until(lambda: victim.name in workers.assignments(others[0]), "it has work again")
    wait_until(lambda: all_run(admin, "sinks", "sink"), "all three run again")


def test_a_worker_that_was_stopped_finds_out_that_it_is_dead(workshop, workers, connect):
    """SIGSTOP: it knows nothing of its death, and must not go on as if nothing had happened."""
    first, second = workers.add(), workers.add()
    workers.wait_members(first, second)
    admin = workers.admin(first)
    topic = topic_name()
    create_sink(admin, "sink", topic, "--parallelism", "2")
    wait_until(lambda: all_run(admin, "sinks", "sink"), "both run")
    os.killpg(second.process.popen.pid, signal.SIGSTOP)
    wait_until(lambda: workers.members(first) == [first.name], "the stopped one is missed")
    wait_until(lambda: all_run(admin, "sinks", "sink"), "both run with the first")
    producer = connect(workers.url).create_producer(topic)
    for number in range(200):
        producer.send(str(number).encode())
    wait_until(lambda: {str(number) for number in range(200)} <= set(written(workshop, "sink")), "nothing is lost")
    os.killpg(second.process.popen.pid, signal.SIGCONT)
    second.process.wait_for("have taken|has not reached the bus")
    workers.wait_members(first, second)
    wait_until(lambda: {name: len(which) for name, which in workers.assignments(first).items()}
               == {first.name: 1, second.name: 1}, "each has one again")
    wait_until(lambda: all_run(admin, "sinks", "sink"), "both run")
    counted = json.loads(admin("sinks", "status", "--name", "sink"))["instances"]
    assert sum(one["status"]["numWrittenToSink"] for one in counted) >= 200


def test_two_workers_of_one_name_are_told_apart(workshop, workers):
    first = workers.add()
    workers.wait_members(first)
    port = free_port()
    second = workshop.start("worker", "--service-url", workers.url, "--web-port", port, "--worker-id", first.name,
                            *workers.arguments)
    second.wait_for("is ready: web")
    assert first.process.wait() == 1
    assert f"another worker has joined as {first.name}" in first.process.output()
    assert second.running()


def test_changes_reach_every_worker(workshop, workers, connect):
    first, second = workers.add(), workers.add()
    workers.wait_members(first, second)
    one, two = workers.admin(first), workers.admin(second)
    topic = topic_name()
    create_sink(one, "sink", topic, "--parallelism", "2")
    wait_until(lambda: all_run(two, "sinks", "sink"), "both run")
    two("sinks", "stop", "--name", "sink")
    wait_until(lambda: not any(status["running"] for status in instances(one, "sinks", "sink")), "both have stopped")
    one("sinks", "start", "--name", "sink")
    wait_until(lambda: all_run(two, "sinks", "sink"), "both run again")
    one("sinks", "restart", "--name", "sink", "--instance-id", "1")
    two("sinks", "update", "--name", "sink", "--parallelism", "1")
    wait_until(lambda: len(instances(one, "sinks", "sink")) == 1 and all_run(one, "sinks", "sink"), "one runs")
    assert json.loads(one("sinks", "get", "--name", "sink"))["parallelism"] == 1
    two("sinks", "delete", "--name", "sink", "--drop-subscription")
    assert json.loads(one("sinks", "list")) == []
    wait_until(lambda: workers.assignments(first) == {}, "nothing is placed")


def test_a_worker_without_a_bus_says_so_and_joins_when_it_comes(workshop):
    broker = workshop.standalone(arguments=("--functions-worker-enabled", "false"))
    broker.stop()
    worker = WorkerProcess(workshop, broker.url)
    status = Admin(workshop, worker).refused("sinks", "list")
    assert "not done initializing" in status and "Connection refused" in status
    broker.start()
    wait_until(lambda: worker.get("v2/worker/cluster/leader"), "it leads")
    assert json.loads(Admin(workshop, worker)("sinks", "list")) == []


def test_a_state_namespace_is_created_with_the_rights_or_its_commands_are_told(workshop):
    broker = workshop.standalone(arguments=("--functions-worker-enabled", "false"))
    worker = WorkerProcess(workshop, broker.url, ("--admin-url", broker.web, "--state-namespace", "public/own"))
    wait_until(lambda: worker.get("v2/worker/cluster/leader"), "it leads")
    refused = workshop.run("worker", "--service-url", broker.url, "--admin-url", broker.web, "--state-namespace", "nobody/own",
                           "--web-port", free_port())
    assert refused.returncode == 1
    assert "pulsar-admin tenants create nobody" in refused.stderr


def test_the_managers_of_a_worker_are_asked_who_they_are(workshop, bus):
    key = workshop.folder / "secret.key"
    key.write_bytes(bytes(workshop.run("tokens", "create-secret-key", "--base64").stdout.strip(), "ascii"))
    worker = WorkerProcess(workshop, bus[0], ("--authentication-enabled", "--token-secret-key", key, "--super-user-roles", "boss"))
    token = {name: workshop.run("tokens", "create", "--secret-key", key, "--subject", name).stdout.strip()
             for name in ("boss", "guest")}
    assert worker.get("v3/sinks/public/default") is None
    listing = ("--admin-url", worker.web, "--auth-plugin", "token", "--auth-params")
    assert workshop.run(*listing, f"token:{token['boss']}", "sinks", "list").returncode == 0
    guest = workshop.run(*listing, f"token:{token['guest']}", "sinks", "list")
    assert guest.returncode == 1 and "superUserRoles" in guest.stderr

"""Fixtures: a broker of the module's own, clients that are closed, and the programs' words when a test fails."""
import os
import subprocess
import uuid

import pulsar
import pytest

from support import ROOT, Workshop, systems

_workshops = []


def _workshop():
    shop = Workshop()
    _workshops.append(shop)
    yield shop
    _workshops.remove(shop)
    shop.close()


@pytest.fixture
def workshop():
    """For a test that starts, stops and kills programs of its own."""
    yield from _workshop()


@pytest.fixture(scope="module")
def module_workshop():
    yield from _workshop()


class Elsewhere:
    """A broker that runs already. With Apache Pulsar's URL test_bus.py shows whether a test asks for the right thing."""

    def __init__(self, url):
        self.url = url


@pytest.fixture(scope="module")
def standalone(request):
    """One broker for the tests of a module, which use topics of their own."""
    url = os.environ.get("HULSE_TEST_BROKER")
    return Elsewhere(url) if url else request.getfixturevalue("module_workshop").standalone()


class Clients:
    """Pulsar clients that close() ends, whatever the test left open."""

    def __init__(self):
        self.open = []

    def __call__(self, url, **settings):
        logger = pulsar.ConsoleLogger(pulsar.LoggerLevel.Error)
        client = pulsar.Client(url, **{"operation_timeout_seconds": 30, "logger": logger, **settings})
        self.open.append(client)
        return client

    def close(self):
        for client in self.open:
            # A test about refusals may have closed it, or the broker is dead on purpose.
            client.shutdown()


@pytest.fixture
def connect():
    clients = Clients()
    yield clients
    clients.close()


@pytest.fixture
def client(standalone, connect):
    return connect(standalone.url)


@pytest.fixture(scope="session")
def elasticsearch():
    """The URL of a real Elasticsearch 7.10; ended at the end unless it ran before."""
    was_up = subprocess.run([ROOT / "tests/systems/systems", "url", "elasticsearch7"], capture_output=True).returncode == 0
    yield systems("up", "elasticsearch7")
    if not was_up:
        systems("down", "elasticsearch7")


@pytest.fixture
def topic():
    return f"persistent://public/default/{uuid.uuid4().hex[:12]}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        for shop in _workshops:
            report.sections.append(("programs of the test", shop.logs()))
    return report

"""A data directory written by an earlier version opens: tests/integration/data-directories holds one of each.

    build/venv/bin/python tests/integration/test_storage_format.py NAME     writes data-directories/NAME.tar.gz with this build

One is written when the format changes, and for each release; none is ever written again.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.parse

import pulsar
import pytest

from support import Workshop, http

DIRECTORIES = pathlib.Path(__file__).resolve().parent / "data-directories"
TOPIC = "persistent://public/default/old"
RECORD = pulsar.schema.Record
RECEIVE_MS = 30000


class Person(RECORD):
    name = pulsar.schema.String()


def client_of(broker):
    return pulsar.Client(broker.url, logger=pulsar.ConsoleLogger(pulsar.LoggerLevel.Error))


def admin(broker, method, path, body=None):
    status, answer = http(method, f"{broker.web}/admin/v2/{path}", None if body is None else json.dumps(body).encode(),
                          {"Content-Type": "application/json"})
    assert status in (200, 204), (path, status, answer)
    return json.loads(answer) if answer else None


def write(broker):
    """What the test looks for."""
    client = client_of(broker)
    admin(broker, "PUT", "tenants/acme", {"adminRoles": ["anna"], "allowedClusters": ["standalone"]})
    admin(broker, "PUT", "namespaces/acme/crm")
    admin(broker, "POST", "namespaces/acme/crm/retention", {"retentionTimeInMinutes": 60, "retentionSizeInMB": 100})
    admin(broker, "PUT", "persistent/acme/crm/parted/partitions", 3)
    client.create_producer("persistent://acme/crm/person", schema=pulsar.schema.AvroSchema(Person)).send(Person(name="Anna"))
    consumer = client.subscribe(TOPIC, "s", pulsar.ConsumerType.Shared)
    producer = client.create_producer(TOPIC, batching_enabled=False)
    for i in range(100):
        producer.send(b"%d" % i, partition_key=str(i % 7), properties={"i": str(i)})
    for i in range(100):
        message = consumer.receive(RECEIVE_MS)
        if i < 40 or i % 3 == 0:  # a position, and holes after it
            consumer.acknowledge(message)
    batched = client.create_producer(TOPIC + "-batched", compression_type=pulsar.CompressionType.ZSTD)
    for i in range(50):
        batched.send_async(b"%d" % i, lambda *_: None)
    batched.flush()
    client.close()


@pytest.mark.parametrize("archive", sorted(DIRECTORIES.glob("*.tar.gz")), ids=lambda path: path.name.split(".")[0])
def test_an_earlier_data_directory_opens(workshop, connect, archive):
    shutil.unpack_archive(archive, workshop.folder)
    checked = workshop.run("storage", "check", workshop.folder / "data")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    broker = workshop.standalone(data=workshop.folder / "data")
    client = connect(broker.url)
    consumer = client.subscribe(TOPIC, "s", pulsar.ConsumerType.Shared)
    left = sorted(int(consumer.receive(RECEIVE_MS).data()) for _ in range(40))
    assert left == [i for i in range(40, 100) if i % 3 != 0], "what was not acknowledged, and only that"
    with pytest.raises(pulsar.Timeout):
        consumer.receive(500)
    reader = client.create_reader(TOPIC + "-batched", pulsar.MessageId.earliest)
    assert [int(reader.read_next(RECEIVE_MS).data()) for _ in range(50)] == list(range(50))
    person = client.create_reader("persistent://acme/crm/person", pulsar.MessageId.earliest,
                                  schema=pulsar.schema.AvroSchema(Person)).read_next(RECEIVE_MS)
    assert person.value().name == "Anna"
    assert admin(broker, "GET", "tenants/acme")["adminRoles"] == ["anna"]
    assert admin(broker, "GET", "namespaces/acme/crm/retention")["retentionSizeInMB"] == 100
    assert admin(broker, "GET", "persistent/acme/crm/parted/partitions")["partitions"] == 3
    client.create_producer(TOPIC).send(b"new")
    assert int(admin(broker, "GET", f"persistent/public/default/{urllib.parse.quote('old')}/stats")["msgInCounter"]) == 1


def main(name):
    shop = Workshop()
    try:
        broker = shop.standalone()
        write(broker)
        broker.kill()  # what an earlier version leaves when it crashes
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["cp", "-a", "--sparse=always", shop.folder / "data", folder], check=True)
            (pathlib.Path(folder) / "data/ballast").unlink(missing_ok=True)  # only room
            DIRECTORIES.mkdir(exist_ok=True)
            subprocess.run(["tar", "-C", folder, "--sparse", "-czf", DIRECTORIES / f"{name}.tar.gz", "data"], check=True)
    finally:
        shop.close()


if __name__ == "__main__":
    main(sys.argv[1])
